//! The compressor and decompressor filters, held against Envoy request by request. How small a body becomes is each
//! library's own business.

use super::http_filters::chain;
use crate::harness::Pairs;
use serde_json::{Value, json};

fn of(kind: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{kind}")
}

fn gzip(more: Value) -> Value {
    let mut config = more;
    config["@type"] = of("compression.gzip.compressor.v3.Gzip").into();
    json!({"name": "gz", "typed_config": config})
}

fn compressor(more: Value) -> Value {
    let mut config = more;
    config["@type"] = of("filters.http.compressor.v3.Compressor").into();
    if config["compressor_library"].is_null() {
        config["compressor_library"] = gzip(json!({}));
    }
    config
}

fn decompressor(more: Value) -> Value {
    let mut config = more;
    config["@type"] = of("filters.http.decompressor.v3.Decompressor").into();
    if config["decompressor_library"].is_null() {
        let library = json!({"@type": of("compression.gzip.decompressor.v3.Gzip")});
        config["decompressor_library"] = json!({"name": "Ungz", "typed_config": library});
    }
    config
}

fn to(prefix: &str) -> Value {
    json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}})
}

fn answer(headers: &str, length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}content-length: {length}\r\n\r\n{}", "ab".repeat(length / 2))
}

const STATISTICS: &[&str] =
    &["http.case0.compressor.", "http.case0.decompressor.", "http.case0.downstream_rq_completed"];

const ACCEPT: [&str; 12] = [
    "",
    "accept-encoding: gzip\r\n",
    "accept-encoding: GZIP\r\n",
    "accept-encoding: gzip;q=0\r\n",
    "accept-encoding: gzip;q=0.5, identity;q=0.6\r\n",
    "accept-encoding: gzip;q=0.5, identity;q=0.4, br;q=0.9\r\n",
    "accept-encoding: br, *\r\n",
    "accept-encoding: identity, *;q=0\r\n",
    "accept-encoding: gzip;q=x\r\n",
    "accept-encoding: ,, deflate ,gzip ; Q = 1 ,\r\n",
    "accept-encoding: br\r\naccept-encoding: gzip\r\n",
    "accept-encoding: \r\n",
];

#[test]
fn what_the_client_accepts() {
    for more in [
        json!({}),
        json!({"remove_accept_encoding_header": true}),
        json!({"response_direction_config": {"remove_accept_encoding_header": true}}),
    ] {
        let mut pairs = Pairs::new(chain("c", compressor(more), json!([to("/")])))
            .answer(&answer("content-type: text/plain\r\n", 400))
            .statistics(STATISTICS)
            .whole();
        for lines in ACCEPT {
            pairs = pairs.get("h", "/", lines);
        }
        pairs
            .raw("HEAD / HTTP/1.1\r\nhost: h\r\nconnection: close\r\naccept-encoding: gzip\r\n\r\n".into())
            .run();
    }
}

#[test]
fn what_the_upstream_answers() {
    let config = |more: Value| chain("c", compressor(more), json!([to("/")]));
    let common = json!({"common_config": {"min_content_length": 100, "content_type": ["a/b"],
        "content_type_matcher": [{"prefix": "image/"}]}, "disable_on_etag_header": true, "uncompressible_response_codes": [206]});
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n40\r\n0123456789012345678901234567890123456789012345678901234567890123\r\n0\r\n\r\n";
    let until_close = "HTTP/1.1 206 Partial Content\r\ncontent-type: image/png\r\ncontent-length: 200\r\n\r\n"
        .to_string() + &"x".repeat(200);
    for answer in [
        answer("", 28),
        answer("", 30),
        answer("", 98),
        answer("", 400),
        answer("", 200_000),
        answer("content-type: text/html; charset=utf-8\r\n", 400),
        answer("content-type: TEXT/HTML\r\n", 400),
        answer("content-type: image/png\r\n", 400),
        answer("content-type: A/B ;x\r\n", 400),
        answer("content-type: \r\n", 400),
        answer("content-encoding: br\r\n", 400),
        answer("cache-control: private, No-Transform\r\n", 400),
        answer("cache-control: no-transformation\r\n", 400),
        answer("etag: \"abc\"\r\n", 400),
        answer("etag: W/\"abc\"\r\n", 400),
        answer("etag: w/\"abc\"\r\n", 400),
        answer("etag: ab\r\n", 400),
        answer("etag: a\r\n", 400),
        answer("etag: \r\n", 400),
        answer("etag: w/\r\n", 400),
        answer("vary: Accept-Encoding, x\r\n", 400),
        answer("vary: accept-encoding\r\n", 400),
        answer("vary: x\r\n", 400),
        answer("vary: \r\n", 400),
        chunked.to_string(),
        until_close,
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 40\r\n\r\n".to_string() + &"y".repeat(40),
        "HTTP/1.1 204 No Content\r\n\r\n".to_string(),
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 400\r\n\r\n".to_string(),
    ] {
        let mut says_so = common.clone();
        says_so["status_header_enabled"] = true.into();
        for more in [
            json!({}),
            json!({"response_direction_config": common}),
            json!({"response_direction_config": says_so}),
        ] {
            Pairs::new(config(more))
                .answer(&answer)
                .statistics(STATISTICS)
                .whole()
                .get("h", "/", "accept-encoding: gzip\r\n")
                .get("h", "/", "")
                .run();
        }
    }
}

#[test]
fn other_settings() {
    let off = json!({"default_value": true, "runtime_key": "off"});
    for (more, answered) in [
        (json!({"runtime_enabled": {"default_value": false, "runtime_key": "x"}}), answer("", 400)),
        (json!({"runtime_enabled": off}), answer("", 400)),
        (json!({"response_direction_config": {"common_config": {"enabled": off}}}), answer("", 400)),
        (
            json!({"response_direction_config": {"common_config": {"enabled": off}, "status_header_enabled": true}}),
            answer("", 400),
        ),
        (
            json!({"response_direction_config": {"status_header_enabled": true}}),
            answer("x-envoy-compression-status: a\r\n", 400),
        ),
        (
            json!({"response_direction_config": {"weaken_etag_on_compress": true}}),
            answer("etag: \"abc\"\r\n", 400),
        ),
        (
            json!({"response_direction_config": {"weaken_etag_on_compress": true}}),
            answer("etag: W/\"abc\"\r\n", 400),
        ),
        (
            json!({"content_length": 500, "content_type": ["a/b"], "disable_on_etag_header": true}),
            answer("content-type: a/b\r\n", 400),
        ),
        (
            json!({"content_length": 0, "content_type": ["a/b"], "disable_on_etag_header": true}),
            answer("content-type: a/b\r\netag: x\r\n", 400),
        ),
        (
            json!({"compressor_library": gzip(json!({"memory_level": 9, "window_bits": 15, "compression_level": "BEST_SPEED",
            "compression_strategy": "RLE", "chunk_size": 65536}))}),
            answer("", 400),
        ),
        (
            json!({"compressor_library": gzip(json!({"memory_level": 1, "window_bits": 9, "compression_level": 9, "compression_strategy": 2}))}),
            answer("", 40_000),
        ),
    ] {
        let layers = json!({"layered_runtime": {"layers": [{"name": "l", "static_layer": {"off": false}}]}});
        Pairs::new(chain("c", compressor(more), json!([to("/")])))
            .answer(&answered)
            .bootstrap(layers)
            .statistics(STATISTICS)
            .whole()
            .get("h", "/", "accept-encoding: gzip\r\n")
            .run();
    }
}

#[test]
fn requests() {
    let directions = json!({"request_direction_config": {"common_config": {"min_content_length": 50}}});
    let config = chain("c", compressor(directions), json!([to("/")]));
    let mut pairs = Pairs::new(config).statistics(STATISTICS).whole().get("h", "/", "");
    for lines in
        ["", "content-type: image/png\r\n", "content-encoding: br\r\n", "content-type: application/json\r\n"]
    {
        let head = format!("POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{lines}");
        let body = "z".repeat(120);
        pairs = pairs
            .raw(format!("{head}content-length: 120\r\n\r\n{body}"))
            .raw(format!("{head}content-length: 20\r\n\r\n{}", &body[..20]))
            .raw(format!(
                "{head}transfer-encoding: chunked\r\n\r\n14\r\n{}\r\n64\r\n{}\r\n0\r\n\r\n",
                &body[..20],
                &body[..100]
            ));
    }
    pairs.run();
}

#[test]
fn routes_say_otherwise() {
    let route = |prefix: &str, mut of_route: Value| {
        of_route["@type"] = of("filters.http.compressor.v3.CompressorPerRoute").into();
        json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}, "typed_per_filter_config": {"c": of_route}})
    };
    let overrides = |more: Value| json!({"overrides": {"response_direction_config": more}});
    for enabled in [true, false] {
        let routes = json!([
            route("/off", json!({"disabled": true})),
            route("/on", overrides(json!({}))),
            route("/removed", overrides(json!({"remove_accept_encoding_header": true}))),
            route("/kept", overrides(json!({"remove_accept_encoding_header": false}))),
            route("/same", json!({"overrides": {}})),
            to("/"),
        ]);
        let more = json!({"response_direction_config": {"common_config": {"enabled": {"default_value": enabled, "runtime_key": "x"}},
            "remove_accept_encoding_header": enabled}});
        let mut pairs = Pairs::new(chain("c", compressor(more), routes))
            .answer(&answer("", 400))
            .statistics(STATISTICS)
            .whole();
        for path in ["/off", "/on", "/removed", "/kept", "/same", "/other"] {
            pairs = pairs.get("h", path, "accept-encoding: gzip\r\n");
        }
        pairs.run();
    }
}

#[test]
fn what_was_compressed_is_so_no_more() {
    // Answers are text: that one is compressed is said by a compressor behind the decompressor.
    let directions = json!({"response_direction_config": {"common_config": {"min_content_length": 1}}});
    for more in [
        json!({}),
        json!({"request_direction_config": {"advertise_accept_encoding": false}}),
        json!({"response_direction_config": {"common_config": {"enabled": {"default_value": false, "runtime_key": "x"}}}}),
        json!({"response_direction_config": {"common_config": {"ignore_no_transform_header": true}}}),
    ] {
        for headers in [
            "",
            "content-encoding: gzip\r\n",
            "content-encoding: GZIP , br\r\n",
            "content-encoding: br,gzip\r\n",
            "content-encoding: gzip\r\ncache-control: no-transform\r\n",
        ] {
            let mut config = chain("d", decompressor(more.clone()), json!([to("/")]));
            let second = json!({"name": "c", "typed_config": compressor(directions.clone())});
            config["http_filters"].as_array_mut().expect("filters").insert(1, second);
            let mut pairs = Pairs::new(config).answer(&answer(headers, 400)).statistics(STATISTICS).whole();
            for lines in ["", "accept-encoding: gzip\r\n", "accept-encoding: br, gzip;q=0.3 ,x\r\n"] {
                pairs = pairs.get("h", "/", lines);
            }
            pairs.run();
        }
    }
}

/// The cluster's connections and the clients' have trailers.
fn with_trailers(config: &mut Value) -> Value {
    config["http_protocol_options"] = json!({"enable_trailers": true});
    let of_cluster = json!({"@type": of("upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}}});
    json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": of_cluster}})
}

fn to_first() -> Value {
    json!([{"match": {"prefix": "/"}, "route": {"cluster": "case0"}}])
}

#[test]
fn compressed_requests() {
    let request = json!({"request_direction_config": {"common_config": {"min_content_length": 1}}});
    let off = json!({"enabled": {"default_value": false, "runtime_key": "x"}});
    for (more, trailers) in [
        (json!({}), false),
        (json!({}), true),
        (json!({"request_direction_config": {"common_config": off}}), true),
    ] {
        let mut config = chain("c", compressor(request.clone()), to_first());
        let second = json!({"name": "d", "typed_config": decompressor(more.clone())});
        config["http_filters"].as_array_mut().expect("filters").insert(1, second);
        let cluster = if trailers { with_trailers(&mut config) } else { json!({}) };
        let mut pairs = Pairs::new(config).cluster(cluster).statistics(STATISTICS).whole().get("h", "/", "");
        for lines in [
            "",
            "content-encoding: gzip\r\n",
            "content-encoding: gzip, br\r\n",
            "cache-control: no-transform\r\n",
        ] {
            let head = format!("POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{lines}");
            let body = "z".repeat(120);
            let chunks = format!("14\r\n{}\r\n64\r\n{}\r\n0\r\n", &body[..20], &body[..100]);
            pairs = pairs
                .raw(format!("{head}content-length: 120\r\n\r\n{body}"))
                .raw(format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}\r\n"))
                .raw(format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}x-t: 1\r\n\r\n"));
        }
        pairs.run();
    }
}

#[test]
fn responses_with_trailers() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n";
    for decompresses in [false, true] {
        for answer in [format!("{head}\r\n"), format!("{head}x-t: 1\r\n\r\n"), answer("", 400)] {
            let mut config = chain("c", compressor(json!({})), to_first());
            if decompresses {
                let first = json!({"name": "d", "typed_config": decompressor(json!({}))});
                config["http_filters"].as_array_mut().expect("filters").insert(0, first);
            }
            let cluster = with_trailers(&mut config);
            let pairs = Pairs::new(config).cluster(cluster).answer(&answer).statistics(STATISTICS).whole();
            pairs.get("h", "/", "accept-encoding: gzip\r\n").get("h", "/", "accept-encoding: br\r\n").run();
        }
    }
}

/// Every library, by what its extension is called.
const LIBRARIES: [(&str, &str); 3] = [("gzip", "Gzip"), ("brotli", "Brotli"), ("zstd", "Zstd")];

fn library(name: &str, message: &str, does: &str, more: Value) -> Value {
    let mut config = more;
    config["@type"] = of(&format!("compression.{name}.{does}.v3.{message}")).into();
    json!({"name": name, "typed_config": config})
}

#[test]
fn every_library() {
    let all_ways = json!({"request_direction_config": {"common_config": {"min_content_length": 1}}});
    // Not so small that it is taken for a bomb.
    let body = (1..1000).map(|number| number.to_string()).collect::<String>();
    for (name, message) in LIBRARIES {
        let mut first = all_ways.clone();
        first["compressor_library"] = library(name, message, "compressor", json!({}));
        let only = chain("c", compressor(first.clone()), json!([to("/")]));
        let ungz = json!({"decompressor_library": library(name, message, "decompressor", json!({}))});
        let mut both = only.clone();
        let second = json!({"name": "d", "typed_config": decompressor(ungz)});
        both["http_filters"].as_array_mut().expect("filters").insert(1, second);
        for config in [only, both] {
            for answered in [
                answer("content-type: text/plain\r\n", 50_000),
                answer(&format!("content-encoding: {name}\r\n"), 400),
            ] {
                Pairs::new(config.clone())
                    .answer(&answered)
                    .statistics(STATISTICS)
                    .whole()
                    .get("h", "/", "accept-encoding: gzip, br, zstd\r\n")
                    .get("h", "/", "accept-encoding: *\r\n")
                    .get("h", "/", "accept-encoding: deflate\r\n")
                    .raw(format!("POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
                    .raw("POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-encoding: br\r\ncontent-length: 5\r\n\r\nwrong".into())
                    .run();
            }
        }
    }
}

#[test]
fn libraries_compete() {
    for chosen in LIBRARIES {
        let filters = LIBRARIES.map(|(name, message)| {
            let more = json!({"compressor_library": library(name, message, "compressor", json!({})),
                "choose_first": chosen.0 == name, "content_type": if name == "gzip" { json!(["a/b", "a/gzip"]) } else { json!(["a/b", "a/br"]) }});
            json!({"name": name, "typed_config": compressor(more)})
        });
        let mut config = chain("x", json!({}), json!([to("/")]));
        let router = config["http_filters"][1].clone();
        config["http_filters"] = filters.into_iter().chain([router]).collect();
        for content_type in ["content-type: a/b\r\n", "content-type: a/gzip\r\n", "content-type: a/br\r\n"] {
            let mut pairs =
                Pairs::new(config.clone()).answer(&answer(content_type, 400)).statistics(STATISTICS).whole();
            for lines in [
                "gzip, br",
                "br, gzip, zstd",
                "gzip;q=0.5, br;q=0.4",
                "gzip;q=0.5, br;q=0.5, identity;q=0.5",
                "identity, br, gzip",
                "*",
                "gzip;q=0, *",
                "br",
                "deflate",
            ] {
                pairs = pairs.get("h", "/", &format!("accept-encoding: {lines}\r\n"));
            }
            pairs.get("h", "/", "").run();
        }
    }
}
