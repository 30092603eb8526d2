//! The header map beside a list of pairs, and what reads the parts of a head: the input is a row of calls.

use legate::http::{HeaderId, HeaderMap, path_utility, url, utility};

use super::super::Target;
use super::hash;

pub const TARGET: Target = Target {
    name: "headers",
    run,
    seeds: SEEDS,
    dictionary: DICTIONARY,
    max_len: 16 * 1024,
    memory: (256 * 1024, 64),
};

/// Names as a peer may write them. Those before [`KNOWN`] are joined by commas when given twice.
const NAMES: &[&str] = &[
    "accept",
    "Via",
    "CONNECTION",
    "transfer-encoding",
    "x-forwarded-for",
    "te",
    "content-length",
    "set-cookie",
    "Cookie",
    "host",
    "trailer",
    "x-a",
    "X-B",
    "x-",
    "acce",
    "set-cookie2",
];
const JOINED: usize = 7;
const KNOWN: usize = 11;

/// The map as a list of pairs, with names in lower case.
type Model = Vec<(Vec<u8>, Vec<u8>)>;

fn run(input: &[u8]) -> u64 {
    let (mut map, mut model) = (HeaderMap::new(), Model::new());
    let mut calls = input.split(|&b| b == b'\n');
    let mut done = 0;
    for call in calls.by_ref().take(256) {
        step(&mut map, &mut model, call);
        done += 1;
        if done % 16 == 0 {
            same(&map, &model);
        }
        values(call);
    }
    same(&map, &model);
    drop(map.clone());
    same(&map.clone(), &model);
    hash((model.len().min(12), model.iter().map(|(_, value)| value.len().min(3)).sum::<usize>().min(30)))
}

/// The first byte says what is done, the second to what; the rest is the value.
fn step(map: &mut HeaderMap, model: &mut Model, call: &[u8]) {
    let [what, which, value @ ..] = call else { return };
    let which = usize::from(*which) % NAMES.len();
    let written = NAMES[which];
    let name = written.to_ascii_lowercase();
    let (key, id) = (name.as_bytes(), HeaderId::find(name.as_bytes()));
    assert_eq!(id.is_some(), which < KNOWN, "{name}");
    let first = model.iter().position(|(n, _)| n == key);
    match (what % 8, id, first) {
        (0..=2, _, Some(at)) if which < JOINED => {
            map.add_parsed(written.as_bytes(), value).expect("room");
            join(&mut model[at].1, value, b",");
        }
        (0..=2, ..) => {
            map.add_parsed(written.as_bytes(), value).expect("room");
            model.push((key.to_vec(), value.to_vec()));
        }
        (3, Some(id), at) => {
            map.set(id, value);
            match at {
                Some(at) => model[at].1 = value.to_vec(),
                None => model.push((key.to_vec(), value.to_vec())),
            }
        }
        (4, Some(id), at) => {
            map.append(id, value, ", ");
            match at {
                Some(at) => join(&mut model[at].1, value, b", "),
                None => model.push((key.to_vec(), value.to_vec())),
            }
        }
        (5, Some(id), _) => {
            map.remove(id);
            model.retain(|(n, _)| n != key);
        }
        (6, ..) => {
            map.remove_by_name(key);
            model.retain(|(n, _)| n != key);
        }
        (7, ..) => {
            utility::remove_connection_tokens(map, &["close", "te"]);
            remove_tokens(model, &[b"close", b"te"]);
        }
        _ => {}
    }
}

fn join(old: &mut Vec<u8>, value: &[u8], delimiter: &[u8]) {
    if value.is_empty() {
        return;
    }
    if !old.is_empty() {
        old.extend_from_slice(delimiter);
    }
    old.extend_from_slice(value);
}

/// The parts between commas, without white space around them; empty ones do not count.
fn tokens(value: &[u8]) -> Vec<Vec<u8>> {
    let parts = value.split(|&b| b == b',').map(|part| part.trim_ascii().to_vec());
    parts.filter(|part| !part.is_empty()).collect()
}

fn remove_tokens(model: &mut Model, remove: &[&[u8]]) {
    let Some(at) = model.iter().position(|(n, _)| n == b"connection") else { return };
    let mut kept = tokens(&model[at].1);
    kept.retain(|token| !remove.contains(&&token.to_ascii_lowercase()[..]));
    if kept.is_empty() {
        model.remove(at);
    } else {
        model[at].1 = kept.join(&b","[..]);
    }
}

fn same(map: &HeaderMap, model: &Model) {
    let pairs: Model = map.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    assert_eq!(pairs, *model);
    assert_eq!(map.len(), model.len());
    assert_eq!(map.is_empty(), model.is_empty());
    assert_eq!(map.byte_size(), model.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>());
    for name in NAMES.iter().map(|name| name.to_ascii_lowercase()) {
        let of_model: Vec<&[u8]> =
            model.iter().filter(|(n, _)| n == name.as_bytes()).map(|(_, value)| &value[..]).collect();
        assert_eq!(map.get_all(&name).collect::<Vec<_>>(), of_model, "{name}");
        if let Some(id) = HeaderId::find(name.as_bytes()) {
            assert_eq!(map.get(id), of_model.first().copied(), "{name}");
            assert_eq!((map.has(id), map.count(id)), (!of_model.is_empty(), of_model.len()), "{name}");
        }
    }
}

/// What is read out of a value or a target.
fn values(text: &[u8]) {
    assert_eq!(utility::tokens(text).map(<[u8]>::to_vec).collect::<Vec<_>>(), tokens(text));
    let mut path = [b"/", text].concat();
    if let Some(plain) = path_utility::canonical_path(&path) {
        assert!(plain.starts_with(b"/") && !plain.contains(&b'\\'), "{}", plain.escape_ascii());
        assert!(!plain.split(|&b| b == b'/').any(|s| s == b"." || s == b".."), "{}", plain.escape_ascii());
    }
    path_utility::merge_slashes(&mut path);
    assert!(!path.windows(2).any(|w| w == b"//"), "{}", path.escape_ascii());
    for is_connect in [false, true] {
        let valid = url::is_valid(text, is_connect);
        let authority = if is_connect { url::is_host_and_port(text).then_some(text) } else { host_of(text) };
        if let Some(authority) = authority.filter(|_| valid) {
            assert!(!authority.is_empty() && url::has_authority_bytes(authority));
            assert!(!authority.contains(&b'@'), "{}", authority.escape_ascii());
        }
    }
    if let Ok(text) = std::str::from_utf8(text) {
        let encoded = utility::percent_encode(text.as_bytes());
        assert!(encoded.iter().all(|b| (0x20..0x7f).contains(b)));
    }
}

fn host_of(url: &[u8]) -> Option<&[u8]> {
    let (authority, path) = url::split_absolute(url)?;
    assert!(matches!(path.first(), Some(b'/' | b'?')));
    Some(authority)
}

const SEEDS: &[&[u8]] = &[
    b"\0\0text/html\n\0\0*/*\n\x03\x02close, te ,x\n\x07\0\n\x05\0\n\0\x0ba\n\0\x0bb\n\x06\x0b",
    b"\0\x07a=b\n\0\x07c=d\n\x05\x07\n\x04\x01x\n\x04\x01y",
    b"http://u@[::1]:80/a/../b?c#d\nhttps://a\na:443\n[::1]:80\n/%41%2f/./..//x\n,,a , b,\t",
    b"\0\x02,\n\0\x02 close\n\0\x02TE\n\x07\x02",
];

const DICTIONARY: &[&str] = &[
    "\n",
    ",",
    ", ",
    "close",
    "te",
    "keep-alive",
    "http://",
    "https://",
    "://",
    "@",
    ":80",
    ":65536",
    "[::1]",
    "/",
    "/.",
    "/..",
    "//",
    "%2e",
    "%41",
    "%7e",
    "%",
    "?",
    "#",
    "*",
    "\t",
    "\0\0",
    "\0\x02",
    "\x04\x01",
    "\x05\x07",
    "\x06\x0b",
    "\x07\x02",
];
