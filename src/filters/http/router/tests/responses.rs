//! The way of the response, and what takes its place.

use super::fixture::{ASKED, Fixture, code};

const SUCCESS: &str = "host.rq_success+1";
const ERROR: &str = "host.rq_error+1";

#[test]
fn responses() {
    let f = Fixture::new();
    let (done, ok) = ("end 200 - via_upstream", [ASKED, SUCCESS, &code("", 200)]);
    f.check("pool:ready H/! up:200!", &format!("ask up.H! out.200! {done}"), &ok);
    let seen = format!("ask up.H! out.200 out.D(x) out.D(y)! {done}");
    f.check("pool:ready H/! up:200 up:D(x) up:D(y)!", &seen, &ok);
    f.check("pool:ready H/! up:200 up:D(x) up:T", &format!("ask up.H! out.200 out.D(x) out.T {done}"), &ok);
    f.check("pool:ready H/! up:200", "ask up.H! out.200", &ok);
    let seen = "ask up.H! out.500! end 500 - via_upstream";
    f.check("pool:ready H/! up:500!", seen, &[ASKED, ERROR, &code("", 500)]);
    // Neither comes after the end.
    f.check("pool:ready H/! up:200! up:200! up:D(x)!", &format!("ask up.H! out.200! {done}"), &ok);
}

#[test]
fn responses_before_the_end_of_their_request() {
    let f = Fixture::new();
    let ok = [ASKED, SUCCESS, &code("", 200)];
    let seen = "ask up.H up.reset out.200! end 200 - via_upstream";
    f.check("pool:ready H/ up:200!", seen, &ok);
    let seen = "ask up.H out.200 up.reset out.D(x)! end 200 - via_upstream";
    f.check("pool:ready H/ up:200 up:D(x)!", seen, &ok);
    let seen = "ask up.H out.200 up.D(x)! out.D(y)! end 200 - via_upstream";
    f.check("pool:ready H/ up:200 D(x)! up:D(y)!", seen, &ok);
}

/// The first counts as the begin of the response.
#[test]
fn informational_heads() {
    let f = Fixture::new();
    let (ok, interim) = (code("", 200), code("", 100));
    let seen = "ask up.H! out.100 out.200! end 200 - via_upstream";
    f.check("pool:ready H/! up:100 up:200!", seen, &[ASKED, SUCCESS, &ok, &interim]);
    f.check("pool:ready H/! up:100 up:100 up:200!", seen, &[ASKED, SUCCESS, &ok, &interim]);
    let seen = "ask up.H! out.100 out.503 out.D(upstream connect error or disconnect/reset before headers. reset \
                reason: remote reset)! end 503 UR upstream_reset_after_response_started{remote_reset}";
    f.check("pool:ready H/! up:100 up:reset", seen, &[ASKED, &interim]);
}

#[test]
fn upstreams_that_reset() {
    let f = Fixture::new();
    let error = "upstream connect error or disconnect/reset before headers. reset reason:";
    let seen = format!(
        "ask up.H! out.503 out.D({error} remote reset)! end 503 UR \
         upstream_reset_before_response_started{{remote_reset}}"
    );
    f.check("pool:ready H/! up:reset", &seen, &[ASKED, ERROR, &code("", 503)]);
    f.check("pool:ready H/ up:reset D(x)!", &seen.replace("up.H!", "up.H"), &[ASKED, ERROR, &code("", 503)]);
    let seen = format!(
        "ask up.H! out.502 out.D({error} protocol error)! end 502 UPE \
         upstream_reset_before_response_started{{protocol_error}}"
    );
    f.check("pool:ready H/! up:broken", &seen, &[ASKED, ERROR, &code("", 502)]);
    let seen = "ask up.H! out.200 out.reset 200 UR upstream_reset_after_response_started{remote_reset}";
    f.check("pool:ready H/! up:200 up:reset", seen, &[ASKED, SUCCESS, &code("", 200)]);
}

#[test]
fn timeouts() {
    let f = Fixture::new();
    let late = "out.504 out.D(upstream request timeout)! end 504 UT response_timeout";
    let counted = [ASKED, "rq_timeout+1 host.rq_timeout+1", ERROR, &code("", 504)];
    f.check("pool:ready H/timed! wait", &format!("ask up.H(1ms)! up.reset {late}"), &counted);
    // From the end of the request on.
    f.check("pool:ready H/timed D(x)! wait", &format!("ask up.H(1ms) up.D(x)! up.reset {late}"), &counted);
    // In the queue there is no host to blame.
    f.check("H/timed! wait", &format!("ask cancel {late}"), &[ASKED, "rq_timeout+1", &code("", 504)]);
    let seen = "ask up.H(1ms)! out.200 up.reset out.reset 200 UT response_timeout";
    let counted = [ASKED, "rq_timeout+1 host.rq_timeout+1", SUCCESS, &code("", 200)];
    f.check("pool:ready H/timed! up:200 wait", seen, &counted);
    // Another status may be asked for.
    let seen = "ask up.H(1ms)! up.reset out.204! end 204 UT response_timeout";
    let counted = [ASKED, "rq_timeout+1 host.rq_timeout+1", ERROR, &code("", 204)];
    f.check("pool:ready H/timed?x-envoy-upstream-rq-timeout-alt-response=1! wait", seen, &counted);
}

#[test]
fn timeouts_of_a_try() {
    let f = Fixture::new();
    let target = "H/default?x-envoy-upstream-rq-per-try-timeout-ms=1";
    let late = "out.504 out.D(upstream request timeout)! end 504 UT upstream_per_try_timeout";
    let counted = [ASKED, "rq_per_try_timeout+1 host.rq_timeout+1", ERROR, &code("", 504)];
    f.check(&format!("pool:ready {target}! wait"), &format!("ask up.H(1ms)! up.reset {late}"), &counted);
    // It begins when the request is complete.
    let seen = format!("ask up.H(1ms) up.D(x)! up.reset {late}");
    f.check(&format!("pool:ready {target} D(x)! wait"), &seen, &counted);
}
