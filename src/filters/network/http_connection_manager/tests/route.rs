//! The route, which filters may have looked up anew.

use super::fixture::Fixture;

#[test]
fn the_route_is_kept_until_cleared() {
    let f = Fixture::new();
    f.check(&["H:route", "H:route"], "H!", "a.H! route=first r.H! route=first");
    f.check(&["H:second,route", "H:route"], "H!", "a.H! route=first r.H! route=first");
    f.check(&["H:second,clear", "H:route"], "H!", "a.H! r.H! route=second");
    f.check(&["", ""], "H! a:route a:clear a:route", "a.H! r.H! route=first route=first");
    // FilterClearRouteCache
    let (second, first) = ("H:second,clear", "H:route,first,clear");
    f.check(&[second, first, "H:route"], "H!", "a.H! b.H! route=second r.H! route=first");
}

/// While the filter has hold of the headers, the route is that of before.
#[test]
fn the_route_is_looked_up_when_the_headers_are_free() {
    let f = Fixture::new();
    f.check(&["H:second,clear,route", "H:route"], "H!", "a.H! route=first r.H! route=second");
    f.check(&["H:second,clear,let,route", "H:route"], "H!", "a.H! route=second r.H! route=second");
    let seen = "a.H r.H a.D(x)! r.D(x)! route=second";
    f.check(&["D:second,clear", "D:route"], "H D(x)!", seen);
    f.check(&["T:second,clear", "T:route"], "H T", "a.H r.H a.T r.T route=second");
    f.check(&["H:second,clear,stop", "H:route"], "H! a:go", "a.H! r.H! route=second");
    f.check(&["<H:second,clear", ""], "H! r:200 r:route", "a.H! r.H! a<200 out.200 route=second");
}

/// A stream goes by the routes that were there when it looked first.
#[test]
fn routes_that_change_are_those_of_the_next_stream() {
    let f = Fixture::updated();
    let seen = "a.H! r.H! route=none route=none";
    f.check(&["", ""], "H! a:route a:update a:clear a:route", seen);
    f.check(&["", ""], "H! a:route", "a.H! r.H! route=first");
}
