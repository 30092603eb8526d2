//! Format strings: of access logs, of their dates, of the log, and the levels of its components. The first
//! byte chooses.

use std::cell::OnceCell;

use legate::formatter::{Context, Formatter, JsonFormatter};
use legate::http::{HeaderId, HeaderMap, Protocol};
use legate::logger;
use legate::stream_info::{ResponseFlag, StreamInfoImpl};

use super::super::Target;
use super::hash;

pub const TARGET: Target = Target {
    name: "format",
    run,
    seeds: SEEDS,
    dictionary: DICTIONARY,
    max_len: 4096,
    memory: (64 * 1024, 1024),
};

fn run(input: &[u8]) -> u64 {
    let Some((&choice, data)) = input.split_first() else { return 0 };
    let Ok(text) = std::str::from_utf8(data) else { return 0 };
    match choice & 3 {
        0 => access_log(text),
        1 => access_log(&format!("%START_TIME({text})%")),
        2 => {
            let line = logger::line_in_format(text, choice & 4 != 0, "a \"message\"\n\u{1}\u{e9}\\");
            assert!(line.ends_with('\n'), "a line without an end: {line:?}");
            hash((2, line.len().min(64)))
        }
        _ => match logger::parse_component_levels(text) {
            Ok(levels) => hash((3, levels.len().min(8))),
            Err(error) => hash((4, error.len().min(64))),
        },
    }
}

struct Stream {
    request: HeaderMap,
    response: HeaderMap,
    trailers: HeaderMap,
    info: StreamInfoImpl,
}

thread_local! {
    static STREAM: OnceCell<Stream> = const { OnceCell::new() };
}

impl Stream {
    fn new() -> Stream {
        let mut request = HeaderMap::new();
        request.set(HeaderId::Method, b"GET");
        request.set(HeaderId::Path, b"/\xc3\xa9?a=\"b\"");
        request.add("x-a", b"\xff\n%START_TIME%");
        let mut response = HeaderMap::new();
        response.set_status(200);
        let mut trailers = HeaderMap::new();
        trailers.add("x-a", b"trailer");
        let info = StreamInfoImpl::new();
        info.protocol.set(Some(Protocol::Http11));
        info.set_response_flag(ResponseFlag::DownstreamProtocolError);
        info.set_response_code_details("some details");
        Stream { request, response, trailers, info }
    }
}

/// As a text and, as the value of an object's field, as JSON.
fn access_log(text: &str) -> u64 {
    match Formatter::new(text) {
        Ok(formatter) => STREAM.with(|stream| {
            let stream = stream.get_or_init(Stream::new);
            let full = Context {
                request_headers: Some(&stream.request),
                response_headers: Some(&stream.response),
                response_trailers: Some(&stream.trailers),
                ..Context::new(&stream.info)
            };
            let mut line = Vec::new();
            formatter.format(&mut line, &full);
            let length = line.len();
            json(text, &full);
            line.clear();
            let info = StreamInfoImpl::new();
            formatter.format(&mut line, &Context::new(&info));
            json(text, &Context::new(&info));
            hash((0, length.min(64), line.len().min(8)))
        }),
        Err(error) => hash((1, error.split_whitespace().take(2).collect::<Vec<_>>())),
    }
}

fn json(text: &str, context: &Context<'_>) {
    let pattern = serde_json::Map::from_iter([("key".to_string(), text.into())]);
    let formatter = JsonFormatter::new(&pattern, false, &[]).expect("a good format");
    let mut line = Vec::new();
    formatter.format(&mut line, context);
    let value: Result<serde_json::Value, _> = serde_json::from_slice(&line);
    assert!(
        value.is_ok_and(|value| value.get("key").is_some()),
        "no JSON: {}",
        String::from_utf8_lossy(&line)
    );
}

const SEEDS: &[&[u8]] = &[
    b"\0[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH):10% %PROTOCOL%\" %RESPONSE_CODE%\n",
    b"\0%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %BYTES_RECEIVED% %DURATION% %RESP(X)% %TRAILER(X-A):3% %UPSTREAM_HOST%",
    b"\0%DYNAMIC_METADATA(a:b):2% %FILTER_STATE(a:PLAIN)% %FILTER_STATE(a:FIELD:b):3% %DOWNSTREAM_PEER_SUBJECT%",
    b"\0%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %ROUTE_NAME% %HOSTNAME% 100%% %RESPONSE_CODE_DETAILS(X)%",
    b"\x01%Y-%m-%dT%H:%M:%S.%3fZ",
    b"\x01%s %6f %E3f %Ez %E*S %EY %-d %_5d %010s %^a %#Z %c %x %X %r %+ %U%V%W %g%G %j %n %t",
    b"\x02[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v",
    b"\x06%8l%-8l%=8l%8!l%^%$%*%%%_%j%+%E%F%f%o%i%u%O%x",
    b"\x03upstream:debug,connection:trace,http:off",
];

const DICTIONARY: &[&str] = &[
    "%",
    "%%",
    "%START_TIME(",
    ")%",
    "%REQ(",
    "%RESP(",
    "%TRAILER(",
    "%REQUEST_HEADER(",
    "?",
    ":",
    ":3%",
    ":99999999999%",
    "%PROTOCOL%",
    "%RESPONSE_CODE%",
    "%DURATION%",
    "%COMMON_DURATION(",
    "%UPSTREAM_HOST%",
    "%ENVIRONMENT(",
    "%DYNAMIC_METADATA(",
    "%E",
    "%E*f",
    "%E15S",
    "%ET",
    "%9f",
    "%0f",
    "%99f",
    "%Ez",
    "%E4Y",
    "%::z",
    "%-",
    "%_",
    "%^",
    "%#",
    "%010",
    "%255d",
    "%256d",
    "%99999999999d",
    "%O",
    "%\u{e9}",
    "%v",
    "%l",
    "%8!v",
    "%=64v",
    "%-65v",
    "%99999999999v",
    "%!",
    "debug",
    "trace",
    "off",
    "http",
    "connection",
    ",",
    "\n",
    "\u{e9}",
];
