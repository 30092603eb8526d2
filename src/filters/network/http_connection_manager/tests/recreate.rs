//! Requests that begin anew, in a stream of their own.

use super::fixture::Fixture;

#[test]
fn a_request_begins_anew() {
    let f = Fixture::new();
    let seen = "a.H! recreated=true end a.H! r.H! route=second";
    f.check(&["H:second,again", "H:route"], "H!", seen);
    f.check(&["H:stop", ""], "H! a:again", "a.H! end a.H! recreated=true");
    f.check(&["T:again", ""], "H T", "a.H r.H a.T recreated=true end a.H! r.H!");
    // From the way of the response, which nobody has got yet.
    f.check(&["<H:again,stop", ""], "H! r:200", "a.H! r.H! a<200 recreated=true end a.H! r.H!");
    f.check(
        &["<H:stop", ""],
        "H! r:200 a:again r:200!",
        "a.H! r.H! a<200 end a.H! r.H! recreated=true a<200!",
    );
}

#[test]
fn its_body_is_what_was_kept_back() {
    let f = Fixture::new();
    let seen = "a.H r.H a.D(x)! end a.H r.H a.D(x)! recreated=true r.D(x)!";
    f.check(&["D:buffer", ""], "H D(x)! a:again a:go", seen);
    f.check(&["", ""], "H D(x)! a:again", "a.H r.H a.D(x)! r.D(x)! end a.H! r.H! recreated=true");
}

#[test]
fn a_request_that_cannot_begin_anew() {
    let f = Fixture::new();
    f.check(&["H:again", ""], "H", "a.H recreated=false r.H");
    f.check(&["", ""], "H! r:200 a:again", "a.H! r.H! a<200 out.200 recreated=false");
    f.check(&["", ""], "H! r:200! a:recreate", "a.H! r.H! a<200! out.200! end recreated=false");
    f.check(&["H:reply,again", ""], "H!", "a.H! recreated=false a<403 out.403 a<D(no)! out.D(no)! end");
}
