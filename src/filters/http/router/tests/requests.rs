//! The way of the request: to a direct answer, to no cluster, to a pool that has nothing, or upstream.

use super::fixture::{ASKED, Fixture, code};

#[test]
fn requests_that_have_no_upstream() {
    let f = Fixture::new();
    f.check("H/none!", "out.404! end 404 NR route_not_found", &[ASKED, "no_route+1"]);
    f.check("H/none D(x)!", "out.404! end 404 NR route_not_found", &[ASKED, "no_route+1"]);
    f.check("H/nocluster!", "out.503! end 503 NC cluster_not_found", &[ASKED, "no_cluster+1"]);
    let seen = "out.503 out.D(no healthy upstream)! end 503 UH no_healthy_upstream";
    f.check(
        "H/nobody!",
        seen,
        &[
            ASKED,
            "cluster.nobody.cx_none_healthy+1 cluster.nobody.lb_healthy_panic+1",
            &code("cluster.nobody.", 503),
        ],
    );
    let seen = "out.200 out.D(hi)! end 200 - direct_response";
    f.check("H/direct!", seen, &[ASKED, "rq_direct_response+1"]);
    let seen = "out.301+http://host/moved! end 301 - direct_response";
    f.check("H/moved!", seen, &[ASKED, "rq_direct_response+1"]);
}

#[test]
fn requests_that_go_upstream() {
    let f = Fixture::new();
    f.check("pool:ready H/!", "ask up.H!", &[ASKED]);
    f.check("H/! pool:ready", "ask up.H!", &[ASKED]);
    f.check("pool:ready H/ D(x) D(y)!", "ask up.H up.D(x) up.D(y)!", &[ASKED]);
    f.check("pool:ready H/ D(x) T", "ask up.H up.D(x) up.T", &[ASKED]);
    f.check("pool:ready H/default!", "ask up.H(15000ms)!", &[ASKED]);
    f.check("pool:ready H/default?x-envoy-upstream-rq-timeout-ms=7!", "ask up.H(7ms)!", &[ASKED]);
}

/// What comes before there is a connection waits in the router, up to the limit of 4 bytes.
#[test]
fn requests_that_wait_for_a_connection() {
    let f = Fixture::new();
    f.check("H/ D(x) D(y)! pool:ready", "ask up.H up.D(xy)!", &[ASKED]);
    f.check("H/ D(x) T pool:ready", "ask up.H up.D(x) up.T", &[ASKED]);
    f.check("H/ T pool:ready", "ask up.H up.T", &[ASKED]);
    f.check("H/ D(x) pool:ready D(y)!", "ask up.H up.D(x) up.D(y)!", &[ASKED]);
    let flow = "flow_control_backed_up_total+1 flow_control_drained_total+1";
    f.check("H/ D(vwxyz) pool:ready", "ask out.pause up.H up.D(vwxyz) out.resume", &[ASKED, flow]);
    f.check("H/! gone", "ask gone - - - cancel", &[ASKED]);
    f.check("pool:ready H/! gone", "ask up.H! gone - - - up.reset", &[ASKED]);
}

/// Each reason has its flag and its words; none of them is told of twice.
#[test]
fn pools_that_fail() {
    let f = Fixture::new();
    let error = "upstream connect error or disconnect/reset before headers. reset reason:";
    for (reason, flags, words, details) in [
        ("local", "UF", "local connection failure", "local_connection_failure"),
        ("remote", "UF", "remote connection failure", "remote_connection_failure|refused_it"),
        ("timeout", "UF", "connection timeout", "connection_timeout"),
    ] {
        let seen = format!(
            "ask out.503 out.D({error} {words})! end 503 {flags} \
             upstream_reset_before_response_started{{{details}}}"
        );
        let counted = [ASKED, "host.rq_error+1", &code("", 503)];
        f.check(&format!("pool:{reason} H/!"), &seen, &counted);
        f.check(&format!("H/! pool:{reason}"), &seen, &counted);
        f.check(&format!("H/ D(x) pool:{reason}"), &seen, &counted);
    }
    let seen = format!(
        "ask out.503+overloaded out.D({error} overflow)! end 503 UO \
         upstream_reset_before_response_started{{overflow}}"
    );
    f.check("pool:overflow H/!", &seen, &[ASKED, &code("", 503)]);
    f.check("H/! pool:overflow", &seen, &[ASKED, &code("", 503)]);
}

/// The connection ends while the head is being written.
#[test]
fn a_connection_that_ends_under_the_head() {
    let f = Fixture::new();
    let seen = "ask up.H! out.503 out.D(upstream connect error or disconnect/reset before headers. reset reason: \
                connection termination)! end 503 UC upstream_reset_before_response_started{connection_termination}";
    let counted = [ASKED, "host.rq_error+1", &code("", 503)];
    f.check("pool:ready H/?expect=x!", seen, &counted);
    f.check("H/?expect=x! pool:ready", seen, &counted);
    f.check("H/?expect=x D(x)! pool:ready", &seen.replace("up.H!", "up.H"), &counted);
}

#[test]
fn back_pressure() {
    let f = Fixture::new();
    let up = "flow_control_backed_up_total+1 flow_control_drained_total+1";
    f.check("pool:ready H/ up:high up:low", "ask up.H out.pause out.resume", &[ASKED, up]);
    let down = "flow_control_paused_reading_total+1 flow_control_resumed_reading_total+1";
    f.check("pool:ready H/! high low", "ask up.H! up.pause up.resume", &[ASKED, down]);
    // Told when the router has somebody to pause.
    let down = "flow_control_paused_reading_total+1";
    f.check("H/! high pool:ready", "ask up.pause up.H!", &[ASKED, down]);
}
