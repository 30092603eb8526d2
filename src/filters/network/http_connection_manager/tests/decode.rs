//! The way of the request.

use super::fixture::Fixture;

#[test]
fn filters_that_pass_everything() {
    let f = Fixture::new();
    f.check(&["", ""], "H!", "a.H! r.H!");
    f.check(&["", ""], "H D(x) D(y)!", "a.H r.H a.D(x) r.D(x) a.D(y)! r.D(y)!");
    f.check(&["", "", ""], "H D(x)!", "a.H b.H r.H a.D(x)! b.D(x)! r.D(x)!");
    f.check(&["", ""], "H D(x) T", "a.H r.H a.D(x) r.D(x) a.T r.T");
    f.check(&["", ""], "H T", "a.H r.H a.T r.T");
    f.check(&["", ""], "H D()!", "a.H r.H a.D()! r.D()!");
}

#[test]
fn headers_that_stop() {
    let f = Fixture::new();
    f.check(&["H:stop", ""], "H!", "a.H!");
    f.check(&["H:stop", ""], "H! a:go", "a.H! r.H!");
    f.check(&["H:stop", ""], "H a:go D(x)!", "a.H r.H a.D(x)! r.D(x)!");
    f.check(&["H:stop", "H:stop", ""], "H! a:go b:go", "a.H! b.H! r.H!");
    // What comes is still offered to the filter, whose word on it lets everything go.
    f.check(&["H:stop D:buffer D:buffer", ""], "H D(x) D(y)! a:go", "a.H a.D(x) a.D(y)! r.H r.D(xy)!");
    f.check(&["H:stop D:buffer", ""], "H D(x) D(y)!", "a.H a.D(x) a.D(y)! r.H r.D(xy)!");
    f.check(&["H:stop", ""], "H D(x)!", "a.H a.D(x)! r.H r.D(x)!");
    f.check(&["H:stop D:buffer", ""], "H D(x) T", "a.H a.D(x) a.T r.H r.D(x) r.T");
    f.check(&["H:stop D:buffer T:stop", ""], "H D(x) T a:go", "a.H a.D(x) a.T r.H r.D(x) r.T");
    f.check(&["H:stop T:stop", ""], "H T a:go", "a.H a.T r.H r.T");
    f.check(&["H:stop", ""], "H T", "a.H a.T r.H r.T");
}

#[test]
fn data_that_stops() {
    let f = Fixture::new();
    for status in ["buffer", "watermark"] {
        let stops = format!("D:{status}");
        f.check(&[&stops, ""], "H D(x)!", "a.H r.H a.D(x)!");
        f.check(&[&stops, ""], "H D(x)! a:go", "a.H r.H a.D(x)! r.D(x)!");
        f.check(&[&stops, ""], "H D(x) D(y)!", "a.H r.H a.D(x) a.D(y)! r.D(xy)!");
        f.check(&[&stops, ""], "H D(x) a:go D(y)!", "a.H r.H a.D(x) r.D(x) a.D(y)! r.D(y)!");
        f.check(&[&stops, ""], "H D(x) T", "a.H r.H a.D(x) a.T r.D(x) r.T");
    }
    f.check(&["D:take,nobuffer", ""], "H D(x) a:go D(y)!", "a.H r.H a.D(x) a.D(y)! r.D(y)!");
    f.check(&["D:nobuffer", ""], "H D(x) T", "a.H r.H a.D(x) a.T r.T");
    f.check(&["T:stop", ""], "H D(x) T a:go", "a.H r.H a.D(x) r.D(x) a.T r.T");
    f.check(&["D:buffer T:stop", ""], "H D(x) T a:go", "a.H r.H a.D(x) a.T r.D(x) r.T");
    // DoubleBuffering
    let stops = "H:stop D:buffer";
    let seen = "a.H a.D(hello)! b.H b.D(hello)! r.H r.D(hello)!";
    f.check(&[stops, stops, ""], "H D(hello)! a:go b:go", seen);
    // ZeroByteDataFiltering
    f.check(&["H:stop D:buffer", ""], "H a:go D()! a:go", "a.H r.H a.D()! r.D()!");
}

#[test]
fn everything_that_stops() {
    let f = Fixture::new();
    for status in ["allbuffer", "allwatermark"] {
        let stops = format!("H:{status}");
        f.check(&[&stops, ""], "H! a:go", "a.H! r.H!");
        f.check(&[&stops, ""], "H D(x) D(y)!", "a.H");
        f.check(&[&stops, ""], "H D(x) D(y)! a:go", "a.H r.H a.D(xy)! r.D(xy)!");
        f.check(&[&stops, ""], "H D(x) a:go D(y)!", "a.H r.H a.D(x) r.D(x) a.D(y)! r.D(y)!");
        // TestStopAllIterationAndBufferOnDecodingPathFirstFilter, -SecondFilter
        f.check(&[&stops, ""], "H D(x) T a:go", "a.H r.H a.D(x) r.D(x) a.T r.T");
        let seen = "a.H b.H a.D(x) a.T r.H b.D(x) r.D(x) b.T r.T";
        f.check(&["", &stops, ""], "H D(x) T b:go", seen);
        f.check(&[&stops, ""], "H T a:go", "a.H r.H a.T r.T");
    }
}

#[test]
fn a_request_that_ends_with_its_headers() {
    let f = Fixture::new();
    f.check(&["H:end", ""], "H", "a.H r.H!");
    f.check(&["H:end", ""], "H D(x)!", "a.H r.H!");
    f.check(&["H:end", ""], "H D(x) T", "a.H r.H!");
    f.check(&["H:stop", "H:end", ""], "H D(x)!", "a.H a.D(x)! b.H r.H!");
}

#[test]
fn data_that_a_filter_adds() {
    let f = Fixture::new();
    // FilterAddBodyInTrailersCallback
    f.check(&["T:adds(z)", ""], "H D(x) T", "a.H r.H a.D(x) r.D(x) a.T r.D(z) r.T");
    // FilterAddBodyDuringDecodeData
    let adds = "H:stop D:buffer D:readd,kept";
    f.check(&[adds, ""], "H D(x) D(y)!", "a.H a.D(x) a.D(y)! kept=2 r.H r.D(xy)!");
    f.check(&["D:add(z),buffer", ""], "H D(x)! a:go", "a.H r.H a.D(x)! r.D(zx)!");
    // FilterAddBodyInline, AddDataWithAllContinue
    f.check(&["H:adds(z)", ""], "H!", "a.H! r.H r.D(z)!");
    f.check(&["", "H:adds(z)", ""], "H!", "a.H! b.H! r.H r.D(z)!");
    f.check(&["H:adds(z)", "", ""], "H!", "a.H! b.H r.H b.D(z)! r.D(z)!");
    // AddDataWithStopAndContinue
    f.check(&["H:stop", "H:adds(z)", ""], "H! a:go", "a.H! b.H! r.H r.D(z)!");
    // FilterAddBodyContinuation
    f.check(&["H:stop", ""], "H! a:adds(z) a:go", "a.H! r.H r.D(z)!");
    f.check(&["H:add(z),stop", ""], "H! a:go", "a.H! r.H r.D(z)!");
    f.check(&["H:add(z),stop", ""], "H D(x)!", "a.H a.D(x)! r.H r.D(zx)!");
    f.check(&["D:buffer", ""], "H D(x) a:add(z) a:go D(y)!", "a.H r.H a.D(x) r.D(xz) a.D(y)! r.D(y)!");
}

#[test]
fn limits() {
    let f = Fixture::new();
    const TOO_LARGE: &str = "a<413 out.413 a<D(Payload Too Large)! out.D(Payload Too Large)!";
    let limited = |filters: &[&str], steps, seen: String| f.check_with_limit(3, filters, steps, &seen);
    let takes = "D:take,nobuffer";
    limited(
        &["D:watermark", takes],
        "H D(wxyz) a:go",
        "a.H r.H a.D(wxyz) out.disable r.D(wxyz) out.enable".into(),
    );
    limited(&["D:watermark", takes], "H D(xyz) a:go", "a.H r.H a.D(xyz) r.D(xyz)".into());
    let seen = "a.H out.disable r.H a.D(wxyz) r.D(wxyz) out.enable";
    limited(&["H:allwatermark", takes], "H D(wxyz) a:go", seen.into());
    limited(&["H:allbuffer", takes], "H D(wxyz)", format!("a.H {TOO_LARGE} out.reset end"));
    limited(&["D:buffer", takes], "H D(wxyz)!", format!("a.H r.H a.D(wxyz)! {TOO_LARGE} end"));
    limited(
        &["D:buffer", takes],
        "H D(xy) D(z) D(a)",
        "a.H r.H a.D(xy) a.D(z) r.D(xyz) a.D(a) r.D(a)".into(),
    );
    // HitRequestBufferLimits
    limited(&["H:stop", takes], "H! a:add(wxyz)", format!("a.H! {TOO_LARGE} end"));
    limited(&["H:stop", takes], "H a:adds(wxyz) a:go", "a.H out.disable r.H r.D(wxyz) out.enable".into());
    // HitRequestBufferLimitsIntermediateFilter
    let stops = "H:stop D:buffer <H:stop <D:watermark";
    let seen = "a.H a.D(xy) a.D(z1)! a<413 a<D(Payload Too Large)!";
    limited(&[stops, takes], "H D(xy) D(z1)!", seen.into());
}

/// Envoy 1.1 never ends such a request; 1.40 does.
#[test]
fn the_end_of_data_that_a_filter_takes() {
    let f = Fixture::new();
    f.check(&["D:nobuffer", ""], "H D()! a:go", "a.H r.H a.D()! r.D()!");
    f.check(&["D:take,nobuffer", ""], "H D(x)! a:go", "a.H r.H a.D(x)! r.D()!");
    f.check(&["D:pass D:nobuffer", ""], "H D(x) D()! a:go", "a.H r.H a.D(x) r.D(x) a.D()! r.D()!");
    f.check(&["H:stop D:take,nobuffer", ""], "H D(x)! a:go", "a.H a.D(x)! r.H r.D()!");
    f.check(&["H:stop D:take,nobuffer", ""], "H D(x)! a:add(y) a:go", "a.H a.D(x)! r.H r.D(y)!");
    f.check(&["D:buffer D:take,nobuffer", ""], "H D(x) D(y)! a:go", "a.H r.H a.D(x) a.D(y)! r.D(x)!");
    f.check(&["D:nobuffer T:stop", ""], "H D(x) T a:go", "a.H r.H a.D(x) a.T r.T");
}

#[test]
fn continues_from_inside_a_call() {
    let f = Fixture::new();
    f.check(&["H:go,stop", ""], "H!", "a.H! r.H!");
    f.check(&["H:go,stop", ""], "H D(x)!", "a.H r.H a.D(x)! r.D(x)!");
    f.check(&["H:go,allbuffer", ""], "H D(x)!", "a.H r.H a.D(x)! r.D(x)!");
    f.check(&["H:add(x),go,stop", ""], "H!", "a.H! r.H r.D(x)!");
    f.check(&["D:go,buffer", ""], "H D(x)!", "a.H r.H a.D(x)! r.D(x)!");
    f.check(&["H:stop D:go,buffer", ""], "H D(x)!", "a.H a.D(x)! r.H r.D(x)!");
    f.check(&["D:go,take,nobuffer", ""], "H D(x)!", "a.H r.H a.D(x)! r.D()!");
    f.check(&["T:go,stop", ""], "H D(x) T", "a.H r.H a.D(x) r.D(x) a.T r.T");
    f.check(&["H:stop T:go,stop", ""], "H T", "a.H a.T r.H r.T");
}

/// Envoy asserts that nobody does.
#[test]
fn continues_without_a_stop() {
    let f = Fixture::new();
    f.check(&["H:go", ""], "H!", "a.H! r.H!");
    f.check(&["D:go", ""], "H D(x)!", "a.H r.H a.D(x)! r.D(x)!");
    f.check(&["", ""], "H a:go D(x) a:go T a:go", "a.H r.H a.D(x) r.D(x) a.T r.T");
    f.check(&["H:stop", ""], "H! a:go a:go", "a.H! r.H!");
    f.check(&["T:stop", ""], "H T a:go a:go", "a.H r.H a.T r.T");
    f.check(&["D:buffer", ""], "H D(x)! a:go a:go", "a.H r.H a.D(x)! r.D(x)!");
}

#[test]
fn trailers_that_a_filter_adds() {
    let f = Fixture::new();
    // FilterAddTrailersInDataCallbackNoTrailers
    f.check(&["D:trailers", ""], "H D(x)!", "a.H r.H a.D(x)! added r.D(x) r.T");
    f.check(&["D:trailers", "", ""], "H D(x)!", "a.H b.H r.H a.D(x)! added b.D(x) r.D(x) b.T r.T");
    f.check(&["D:trailers,buffer", ""], "H D(x)! a:go", "a.H r.H a.D(x)! added r.D(x) r.T");
    f.check(&["D:trailers,take,nobuffer", ""], "H D(x)! a:go", "a.H r.H a.D(x)! added r.T");
    f.check(&["H:stop D:trailers", ""], "H D(x)!", "a.H a.D(x)! added r.H r.D(x) r.T");
    f.check(&["D:buffer", "D:trailers", ""], "H D(x)! a:go", "a.H b.H r.H a.D(x)! b.D(x)! added r.D(x) r.T");
    // FilterAddTrailersInTrailersCallback; only the last data, and once.
    f.check(&["D:trailers T:trailers", ""], "H D(x) T", "a.H r.H a.D(x) refused r.D(x) a.T refused r.T");
    f.check(
        &["H:trailers D:trailers,trailers", ""],
        "H D(x)!",
        "a.H refused r.H a.D(x)! added refused r.D(x) r.T",
    );
    f.check(&["", ""], "H D(x)! a:trailers", "a.H r.H a.D(x)! r.D(x)! refused");
}

/// FilterDirectDecodeEncodeDataNoTrailers, -Trailers
#[test]
fn data_that_a_filter_gives_out() {
    let f = Fixture::new();
    let steps = "H D(hello)! a:inject(he) a:inject(llo)!";
    f.check(&["D:take,nobuffer", ""], steps, "a.H r.H a.D(hello)! r.D(he) r.D(llo)!");
    let steps = "H D(hello) T a:inject(he) a:inject(llo) a:go";
    f.check(&["D:take,nobuffer T:stop", ""], steps, "a.H r.H a.D(hello) a.T r.D(he) r.D(llo) r.T");
    f.check(&["D:inject(y),take,nobuffer", ""], "H D(x)", "a.H r.H a.D(x) r.D(y)");
    // Headers go before, as in 1.40.
    f.check(&["H:stop D:take,nobuffer", ""], "H D(x) a:inject(y)", "a.H a.D(x) r.H r.D(y)");
    f.check(&["H:inject(y),stop", ""], "H! a:go", "a.H! r.H r.D(y)!");
}

#[test]
fn data_kept_back() {
    let f = Fixture::new();
    f.check(&["D:buffer,show", ""], "H D(x) a:show", "a.H r.H a.D(x) keeps(x)");
    f.check(
        &["D:buffer", ""],
        "H D(x)! a:change(yz) a:show a:go a:show",
        "a.H r.H a.D(x)! keeps(yz) r.D(yz)!",
    );
    f.check(&["H:stop", ""], "H! a:show a:change(x)", "a.H!");
}

#[test]
fn limits_that_a_filter_changes() {
    let f = Fixture::new();
    // AlterFilterWatermarkLimits
    let seen = "a.H r.H limits=100,100 limits=99,99 limits=0,0";
    f.check_with_limit(100, &["", ""], "H a:limits a:limit(99) a:limits a<limit(0) a:limits", seen);
    // HitFilterWatermarkLimits
    let seen = "a.H r.H a.D(wxyz) out.disable out.enable r.D(wxyz)";
    f.check_with_limit(1, &["D:watermark", ""], "H D(wxyz) a:limit(10) a:go", seen);
    f.check(&["D:watermark", ""], "H D(wxyz) a:limit(1)", "a.H r.H a.D(wxyz) out.disable");
    let seen = "a.H r.H a.D(wxyz) out.disable out.enable";
    f.check_with_limit(3, &["D:watermark", ""], "H D(wxyz) a:change(x) a:change()", seen);
    // The end alone, kept back, has the limit too.
    f.check_with_limit(3, &["D:take,nobuffer", ""], "H D(x)! a:adds(wxyz)", "a.H r.H a.D(x)! out.disable");
}

/// The filter that stops sees the body, as in 1.40; in 1.1 it passes it by.
#[test]
fn a_body_added_before_a_filter_that_stops() {
    let f = Fixture::new();
    f.check(&["H:adds(z)", "H:stop", ""], "H!", "a.H! b.H b.D(z)! r.H r.D(z)!");
    f.check(&["H:adds(z)", "H:stop D:buffer", ""], "H! b:go", "a.H! b.H b.D(z)! r.H r.D(z)!");
    f.check(&["H:adds(z)", "H:allbuffer", ""], "H! b:go", "a.H! b.H r.H b.D(z)! r.D(z)!");
    f.check(&["H:adds(z)", "H:go,stop D:buffer", ""], "H!", "a.H! b.H b.D(z)! r.H r.D(z)!");
}
