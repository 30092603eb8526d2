//! The way of the response.

use super::fixture::Fixture;

/// As [`Fixture::check`], from the response on.
fn check(f: &Fixture, filters: &[&str], steps: &str, expected: &str) {
    let heads = ["a", "b", "c"].iter().take(filters.len() - 1).map(|name| format!("{name}.H! "));
    let heads: String = heads.collect();
    f.check(filters, &format!("H! {steps}"), &format!("{heads}r.H! {expected}"));
}

#[test]
fn filters_that_pass_everything() {
    let f = Fixture::new();
    check(&f, &["", ""], "r:200!", "a<200! out.200! end");
    check(&f, &["", "", ""], "r:200!", "b<200! a<200! out.200! end");
    check(&f, &["", ""], "r:200 r:D(x) r:D(y)!", "a<200 out.200 a<D(x) out.D(x) a<D(y)! out.D(y)! end");
    check(&f, &["", ""], "r:200 r:D(x) r:T", "a<200 out.200 a<D(x) out.D(x) a<T out.T end");
    check(&f, &["", "", ""], "r:200 r:T", "b<200 a<200 out.200 b<T a<T out.T end");
    // ResponseBeforeRequestComplete
    f.check(&["", ""], "H r:200!", "a.H r.H a<200! out.200! out.reset end");
    f.check(
        &["", ""],
        "H r:200 D(x)! r:D(y)!",
        "a.H r.H a<200 out.200 a.D(x)! r.D(x)! a<D(y)! out.D(y)! end",
    );
    // IntermediateBufferingEarlyResponse
    f.check(&["H:stop D:buffer", "H:200!"], "H D(x)! a:go", "a.H a.D(x)! r.H a<200! out.200! end");
}

#[test]
fn headers_that_stop() {
    let f = Fixture::new();
    check(&f, &["<H:stop", ""], "r:200!", "a<200!");
    check(&f, &["<H:stop", ""], "r:200! a<go", "a<200! out.200! end");
    check(&f, &["<H:stop", ""], "r:200 a<go r:D(x)!", "a<200 out.200 a<D(x)! out.D(x)! end");
    check(&f, &["<H:stop", "<H:stop", ""], "r:200! b<go a<go", "b<200! a<200! out.200! end");
    let seen = "a<200 a<D(x) a<D(y)! out.200 out.D(xy)! end";
    check(&f, &["<H:stop <D:buffer <D:buffer", ""], "r:200 r:D(x) r:D(y)! a<go", seen);
    check(&f, &["<H:stop <D:buffer", ""], "r:200 r:D(x) r:D(y)!", seen);
    check(&f, &["<H:stop", ""], "r:200 r:D(x)!", "a<200 a<D(x)! out.200 out.D(x)! end");
    check(&f, &["<H:stop <D:buffer", ""], "r:200 r:D(x) r:T", "a<200 a<D(x) a<T out.200 out.D(x) out.T end");
    check(&f, &["<H:stop <T:stop", ""], "r:200 r:T a<go", "a<200 a<T out.200 out.T end");
}

#[test]
fn data_that_stops() {
    let f = Fixture::new();
    for status in ["buffer", "watermark"] {
        let stops = format!("<D:{status}");
        check(&f, &[&stops, ""], "r:200 r:D(x)!", "a<200 out.200 a<D(x)!");
        check(&f, &[&stops, ""], "r:200 r:D(x)! a<go", "a<200 out.200 a<D(x)! out.D(x)! end");
        check(&f, &[&stops, ""], "r:200 r:D(x) r:D(y)!", "a<200 out.200 a<D(x) a<D(y)! out.D(xy)! end");
        check(&f, &[&stops, ""], "r:200 r:D(x) r:T", "a<200 out.200 a<D(x) a<T out.D(x) out.T end");
    }
    let seen = "a<200 out.200 a<D(x) a<D(y)! out.D(y)! end";
    check(&f, &["<D:take,nobuffer", ""], "r:200 r:D(x) a<go r:D(y)!", seen);
    check(&f, &["<T:stop", ""], "r:200 r:D(x) r:T a<go", "a<200 out.200 a<D(x) out.D(x) a<T out.T end");
    let (stops, seen) = ("<H:stop <D:buffer", "b<200 b<D(x)! a<200 a<D(x)! out.200 out.D(x)! end");
    check(&f, &[stops, stops, ""], "r:200 r:D(x)! b<go a<go", seen);
}

#[test]
fn everything_that_stops() {
    let f = Fixture::new();
    for status in ["allbuffer", "allwatermark"] {
        let stops = format!("<H:{status}");
        check(&f, &[&stops, ""], "r:200! a<go", "a<200! out.200! end");
        check(&f, &[&stops, ""], "r:200 r:D(x) r:D(y)! a<go", "a<200 out.200 a<D(xy)! out.D(xy)! end");
        // TestStopAllIterationAndBufferOnEncodingPath
        let seen = "b<200 a<200 out.200 b<D(x) a<D(x) out.D(x) b<T a<T out.T end";
        check(&f, &["", &stops, ""], "r:200 r:D(x) r:T b<go", seen);
    }
}

#[test]
fn a_response_that_ends_with_its_headers() {
    let f = Fixture::new();
    check(&f, &["", "<H:end", ""], "r:200", "b<200 a<200! out.200! end");
    check(&f, &["", "<H:end", ""], "r:200 r:D(x)!", "b<200 a<200! out.200! end");
    check(&f, &["", "<H:end", ""], "r:200 r:D(x) r:T", "b<200 a<200! out.200! end");
}

#[test]
fn data_that_a_filter_adds() {
    let f = Fixture::new();
    let seen = "a<200 out.200 a<D(x) out.D(x) a<T out.D(z) out.T end";
    check(&f, &["<T:adds(z)", ""], "r:200 r:D(x) r:T", seen);
    let adds = "<H:stop <D:buffer <D:readd";
    check(&f, &[adds, ""], "r:200 r:D(x) r:D(y)!", "a<200 a<D(x) a<D(y)! out.200 out.D(xy)! end");
    check(&f, &["<H:adds(z)", ""], "r:200!", "a<200! out.200 out.D(z)! end");
    check(&f, &["", "<H:adds(z)", ""], "r:200!", "b<200! a<200 out.200 a<D(z)! out.D(z)! end");
    let seen = "c<200! b<200! a<200 out.200 a<D(z)! out.D(z)! end";
    check(&f, &["", "<H:adds(z)", "<H:stop", ""], "r:200! c<go", seen);
    check(&f, &["<H:stop", ""], "r:200! a<adds(z) a<go", "a<200! out.200 out.D(z)! end");
    check(&f, &["<D:add(z),buffer", ""], "r:200 r:D(x)! a<go", "a<200 out.200 a<D(x)! out.D(zx)! end");
}

#[test]
fn limits() {
    let f = Fixture::new();
    let limited = |filters: &[&str], steps: &str, seen: &str| {
        f.check_with_limit(3, filters, &format!("H! {steps}"), &format!("a.H! r.H! {seen}"));
    };
    // HitFilterWatermarkLimits
    let seen = "a<200 a<D(wxyz) r.pause out.200 out.D(wxyz) r.resume";
    limited(&["<H:stop <D:watermark", "H:watch"], "r:200 r:D(wxyz) a<go", seen);
    let seen = "a<200 r.pause out.200 a<D(wxyz) out.D(wxyz) r.resume";
    limited(&["<H:allwatermark", "H:watch"], "r:200 r:D(wxyz) a<go", seen);
    limited(&["<H:stop <D:watermark", ""], "r:200 r:D(wxyz) r:watch", "a<200 a<D(wxyz) r.pause");
    // HitResponseBufferLimitsBeforeHeaders, -AfterHeaders
    const TOO_LARGE: &str = "out.500 out.D(Internal Server Error)! end";
    limited(&["<H:stop <D:buffer", ""], "r:200 r:D(wxyz)", &format!("a<200 a<D(wxyz) {TOO_LARGE}"));
    limited(&["<H:allbuffer", ""], "r:200 r:D(wxyz)", &format!("a<200 {TOO_LARGE}"));
    limited(&["<D:buffer", ""], "r:200 r:D(wxyz)", "a<200 out.200 a<D(wxyz) out.reset end");
}

#[test]
fn informational_heads() {
    let f = Fixture::new();
    let seen = "b<100 a<100 out.100 b<200! a<200! out.200! end";
    check(&f, &["", "", ""], "r:100 r:200!", seen);
    f.check(&["", ""], "H r:100 D(x)!", "a.H r.H a<100 out.100 a.D(x)! r.D(x)!");
}

#[test]
fn informational_heads_that_stop() {
    let f = Fixture::new();
    // PauseResume100Continue
    let seen = "b<100 a<100 out.100 b<200! a<200! out.200! end";
    check(&f, &["", "<I:stop", ""], "r:100 b<go r:200!", seen);
    check(&f, &["", "<I:go,stop", ""], "r:100 r:200!", seen);
    check(&f, &["<I:stop", ""], "r:100", "a<100");
    // The response that follows takes the head along, or overtakes it.
    check(&f, &["<I:stop <H:stop", ""], "r:100 r:200! a<go", "a<100 a<200! out.100 out.200! end");
    check(&f, &["<I:stop", ""], "r:100 r:200 r:D(x)!", "a<100 a<200 out.200 a<D(x)! out.D(x)! end");
}

#[test]
fn the_end_of_data_that_a_filter_takes() {
    let f = Fixture::new();
    let seen = "a<200 out.200 a<D(x)! out.D()! end";
    check(&f, &["<D:take,nobuffer", ""], "r:200 r:D(x)! a<go", seen);
    check(&f, &["<D:go,take,nobuffer", ""], "r:200 r:D(x)!", seen);
    let seen = "a<200 a<D(x)! out.200 out.D()! end";
    check(&f, &["<H:stop <D:take,nobuffer", ""], "r:200 r:D(x)! a<go", seen);
    let seen = "a<200 out.200 a<D(x) a<T out.T end";
    check(&f, &["<D:take,nobuffer <T:stop", ""], "r:200 r:D(x) r:T a<go", seen);
}

#[test]
fn continues_from_inside_a_call() {
    let f = Fixture::new();
    check(&f, &["<H:go,stop", ""], "r:200!", "a<200! out.200! end");
    check(&f, &["<H:go,allbuffer", ""], "r:200 r:D(x)!", "a<200 out.200 a<D(x)! out.D(x)! end");
    check(&f, &["<D:go,buffer", ""], "r:200 r:D(x)!", "a<200 out.200 a<D(x)! out.D(x)! end");
    check(&f, &["<T:go,stop", ""], "r:200 r:T", "a<200 out.200 a<T out.T end");
    // Not stopped at all.
    check(&f, &["<H:go", ""], "r:200!", "a<200! out.200! end");
    check(&f, &["", ""], "r:200 a<go r:D(x) a<go r:T", "a<200 out.200 a<D(x) out.D(x) a<T out.T end");
}

#[test]
fn nothing_follows_the_end() {
    let f = Fixture::new();
    check(&f, &["", ""], "r:200! r:200! r:D(x)! r:T r:100", "a<200! out.200! end");
    check(&f, &["", ""], "r:200! a:reset a:reply a<go a:go", "a<200! out.200! end");
}

/// The head has passed the filter, but not the one behind it: Envoy 1.1 resets here.
#[test]
fn a_response_too_large_before_the_codec_has_its_head() {
    let f = Fixture::new();
    let seen = "a.H! b.H! r.H! b<200 a<200 b<D(wxyz) out.500 out.D(Internal Server Error)! end";
    f.check_with_limit(3, &["<H:stop", "<D:buffer", ""], "H! r:200 r:D(wxyz)", seen);
}

#[test]
fn trailers_that_a_filter_adds() {
    let f = Fixture::new();
    check(&f, &["<D:trailers", ""], "r:200 r:D(x)!", "a<200 out.200 a<D(x)! added out.D(x) out.T end");
    let seen = "b<200 a<200 out.200 b<D(x)! added a<D(x) out.D(x) a<T out.T end";
    check(&f, &["", "<D:trailers", ""], "r:200 r:D(x)!", seen);
    let seen = "a<200 out.200 a<D(x)! added out.D(x) out.T end";
    check(&f, &["<D:trailers,buffer", ""], "r:200 r:D(x)! a<go", seen);
    let seen = "a<200 out.200 a<D(x) refused out.D(x) a<T refused out.T end";
    check(&f, &["<D:trailers <T:trailers", ""], "r:200 r:D(x) r:T", seen);
}

#[test]
fn data_that_a_filter_gives_out() {
    let f = Fixture::new();
    let seen = "a<200 out.200 a<D(response)! out.D(res) out.D(ponse)! end";
    check(&f, &["<D:take,nobuffer", ""], "r:200 r:D(response)! a<inject(res) a<inject(ponse)!", seen);
    let seen = "a<200 out.200 a<D(response) a<T out.D(res) out.D(ponse) out.T end";
    let steps = "r:200 r:D(response) r:T a<inject(res) a<inject(ponse) a<go";
    check(&f, &["<D:take,nobuffer <T:stop", ""], steps, seen);
    check(&f, &["<H:stop <D:take,nobuffer", ""], "r:200 r:D(x) a<inject(y)", "a<200 a<D(x) out.200 out.D(y)");
}

#[test]
fn data_kept_back() {
    let f = Fixture::new();
    let seen = "a<200 out.200 a<D(x)! keeps(x) keeps(yz) out.D(yz)! end";
    check(&f, &["<D:buffer", ""], "r:200 r:D(x)! a<show a<change(yz) a<show a<go", seen);
    let seen = "a.H! r.H! a<200 a<D(wxyz) r.pause r.resume";
    let filters = ["<H:stop <D:watermark", "H:watch"];
    f.check_with_limit(3, &filters, "H! r:200 r:D(wxyz) a<limit(10)", seen);
}

/// As in 1.40; in 1.1 the filter that stops never sees the body.
#[test]
fn a_body_added_before_a_filter_that_stops() {
    let f = Fixture::new();
    let seen = "b<200! a<200 a<D(z)! out.200 out.D(z)! end";
    check(&f, &["<H:stop", "<H:adds(z)", ""], "r:200!", seen);
    check(&f, &["<H:stop <D:buffer", "<H:adds(z)", ""], "r:200! a<go", seen);
}
