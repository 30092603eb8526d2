//! Answers that filters make, and streams that they give up.

use super::fixture::Fixture;

/// The answer as it passes the one filter `a`.
const ANSWER: &str = "a<403 out.403 a<D(no)! out.D(no)!";

#[test]
fn replies_from_the_ways_of_the_request() {
    let f = Fixture::new();
    f.check(&["H:reply,stop", ""], "H!", &format!("a.H! {ANSWER} end"));
    f.check(&["H:reply,stop", ""], "H", &format!("a.H {ANSWER} out.reset end"));
    f.check(&["D:reply,nobuffer", ""], "H D(x)!", &format!("a.H r.H a.D(x)! {ANSWER} end"));
    f.check(&["D:reply,nobuffer", ""], "H D(x)", &format!("a.H r.H a.D(x) {ANSWER} out.reset end"));
    f.check(&["T:reply,stop", ""], "H D(x) T", &format!("a.H r.H a.D(x) r.D(x) a.T {ANSWER} end"));
    // The filter's word no longer matters: nobody is given what has been answered.
    f.check(&["", "H:reply"], "H!", &format!("a.H! r.H! {ANSWER} end"));
    // Between two frames.
    f.check(&["H:stop", ""], "H! a:reply a:go", &format!("a.H! {ANSWER} end"));
    f.check(&["", ""], "H! r:reply", &format!("a.H! r.H! {ANSWER} end"));
    f.check(&["", ""], "H! r:200 r:reply", "a.H! r.H! a<200 out.200 out.reset end");
    // FilterHeadReply; a gRPC client is answered in the head.
    f.check(&["H:reply,stop", ""], "P!", "a.H! a<403! out.403! end");
    f.check(&["H:reply,stop", ""], "G!", "a.H! a<200! out.200! end");
}

#[test]
fn replies_that_stop_on_their_way() {
    let f = Fixture::new();
    f.check(&["H:reply,stop <H:stop", ""], "H!", "a.H! a<403 a<D(no)! out.403 out.D(no)! end");
    f.check(&["H:reply,stop <H:stop <D:buffer", ""], "H! a<go", "a.H! a<403 a<D(no)! out.403 out.D(no)! end");
    // ResetWithStoppedFilter
    f.check(&["<D:buffer", "H:reply"], "H! a:reset", "a.H! r.H! a<403 out.403 a<D(no)! out.reset end");
}

#[test]
fn resets() {
    let f = Fixture::new();
    f.check(&["H:reset,stop", ""], "H!", "a.H! out.reset end");
    f.check(&["D:reset,nobuffer", ""], "H D(x)!", "a.H r.H a.D(x)! out.reset end");
    f.check(&["T:reset,stop", ""], "H T", "a.H r.H a.T out.reset end");
    f.check(&["<H:reset,stop", ""], "H! r:200", "a.H! r.H! a<200 out.reset end");
    f.check(&["<D:reset,nobuffer", ""], "H! r:200 r:D(x)", "a.H! r.H! a<200 out.200 a<D(x) out.reset end");
    f.check(&["<T:reset,stop", ""], "H! r:200 r:T", "a.H! r.H! a<200 out.200 a<T out.reset end");
    f.check(&["H:stop", ""], "H! a:reset", "a.H! out.reset end");
}

/// The filter's word no longer matters: nobody is given what has been answered, or given up.
#[test]
fn filters_that_go_on_after_their_answer() {
    let f = Fixture::new();
    f.check(&["H:reply", ""], "H!", &format!("a.H! {ANSWER} end"));
    f.check(&["H:reply,go,stop", ""], "H!", &format!("a.H! {ANSWER} end"));
    f.check(&["H:reply,reply", ""], "H!", &format!("a.H! {ANSWER} end"));
    f.check(&["D:reply", ""], "H D(x)!", &format!("a.H r.H a.D(x)! {ANSWER} end"));
    f.check(&["D:reply,buffer", ""], "H D(x)!", &format!("a.H r.H a.D(x)! {ANSWER} end"));
    f.check(&["H:stop D:reply", ""], "H D(x)!", &format!("a.H a.D(x)! {ANSWER} end"));
    f.check(&["T:reply", ""], "H T", &format!("a.H r.H a.T {ANSWER} end"));
    f.check(&["H:200!", ""], "H!", "a.H! a<200! out.200! end");
    f.check(&["H:reset", ""], "H!", "a.H! out.reset end");
    f.check(&["H:add(x),reset", ""], "H!", "a.H! out.reset end");
    f.check(&["H:reset,reset,reply", ""], "H!", "a.H! out.reset end");
    f.check(&["D:reset", ""], "H D(x)!", "a.H r.H a.D(x)! out.reset end");
    f.check(&["T:reset", ""], "H T", "a.H r.H a.T out.reset end");
    f.check(&["<I:reset", "", ""], "H! r:100", "a.H! b.H! r.H! b<100 a<100 out.reset end");
    f.check(&["", "<H:reset", ""], "H! r:200", "a.H! b.H! r.H! b<200 out.reset end");
    f.check(&["<D:reset", ""], "H! r:200 r:D(x)", "a.H! r.H! a<200 out.200 a<D(x) out.reset end");
    f.check(&["<T:reset", ""], "H! r:200 r:T", "a.H! r.H! a<200 out.200 a<T out.reset end");
    f.check(&["H:reply <H:reset", ""], "H!", "a.H! a<403 out.reset end");
}

/// In place of a response that the client has not begun to get; Envoy 1.1 resets here.
#[test]
fn replies_from_the_ways_of_the_response() {
    let f = Fixture::new();
    const DIRECT: &str = "out.403 out.D(no)! end";
    f.check(&["", "<I:reply", ""], "H! r:100", &format!("a.H! b.H! r.H! b<100 {DIRECT}"));
    f.check(&["", "<H:reply", ""], "H! r:200", &format!("a.H! b.H! r.H! b<200 {DIRECT}"));
    f.check(&["<H:reply,stop", ""], "H! r:200!", &format!("a.H! r.H! a<200! {DIRECT}"));
    f.check(&["<H:stop <D:reply", ""], "H! r:200 r:D(x)", &format!("a.H! r.H! a<200 a<D(x) {DIRECT}"));
    f.check(&["<H:stop <T:reply", ""], "H! r:200 r:T", &format!("a.H! r.H! a<200 a<T {DIRECT}"));
    f.check(&["<H:stop", ""], "H! r:200 a:reply", &format!("a.H! r.H! a<200 {DIRECT}"));
    f.check(&["<H:stop", ""], "G! r:200 a:reply", "a.H! r.H! a<200 out.200! end");
    f.check(&["<H:reply,stop", ""], "H r:200", "a.H r.H a<200 out.403 out.D(no)! out.reset end");
    f.check(&["H:reply <H:reply", ""], "H!", &format!("a.H! a<403 {DIRECT}"));
    // The head is out.
    f.check(&["<D:reply", ""], "H! r:200 r:D(x)", "a.H! r.H! a<200 out.200 a<D(x) out.reset end");
    f.check(&["<T:reply", ""], "H! r:200 r:T", "a.H! r.H! a<200 out.200 a<T out.reset end");
}
