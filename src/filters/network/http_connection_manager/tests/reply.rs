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

/// The filter that asks for the answer has hold of the headers; others are called when it has let go.
#[test]
fn replies_wait_until_the_call_has_returned() {
    let f = Fixture::new();
    f.check(&["<H:holds", "H:reply"], "H!", "a.H! r.H! a<403 holds=2 out.403 a<D(no)! out.D(no)! end");
    let seen = "a.H r.H a.D(x)! r.D(x)! a<403 holds=2 out.403 a<D(no)! out.D(no)! end";
    f.check(&["<H:holds", "D:reply"], "H D(x)!", seen);
    // A call from within another one.
    f.check(
        &["D:inject(y),take,nobuffer <H:holds", "D:reply"],
        "H D(x)!",
        &seen.replace("r.D(x)!", "r.D(y)"),
    );
    // Nothing takes the answer's place meanwhile.
    f.check(&["H:reply,200!,D(x)!,T,100", ""], "H!", &format!("a.H! {ANSWER} end"));
    f.check(&["H:reply,reset", ""], "H!", "a.H! out.reset end");
}

#[test]
fn filters_are_told_of_replies() {
    let f = Fixture::new();
    f.check(
        &["L:note H:reply", "L:note"],
        "H!",
        &format!("a.H! a.L(403 denied) r.L(403 denied) {ANSWER} end"),
    );
    f.check(&["L:note", "H:reply"], "H!", &format!("a.H! r.H! a.L(403 denied) {ANSWER} end"));
    f.check(&["L:reset", "H:reply"], "H!", "a.H! r.H! out.reset end");
    let seen = "a.H! b.H! r.H! b.L(403 denied reset) out.reset end";
    f.check(&["L:reset", "L:note", "H:reply"], "H!", seen);
    // Also of one that takes a response's place, or that comes too late.
    f.check(&["L:note <H:reply", ""], "H! r:200", "a.H! r.H! a<200 a.L(403 denied) out.403 out.D(no)! end");
    let seen = "a.H! r.H! a<200 out.200 a<D(x) a.L(403 denied) out.reset end";
    f.check(&["L:note <D:reply", ""], "H! r:200 r:D(x)", seen);
}
