//! A bootstrap, as YAML, as JSON, in protobuf's binary form, or as one merged over the other, through the whole
//! reader. The first byte chooses.

use legate::config::{
    Bootstrap, ConfigError, ConfigErrors, UnknownFields, json, merge, parse_binary, parse_bootstrap, yaml,
};
use legate::filters::LINKED;
use legate::filters::network::http_connection_manager::HttpConnectionManager;
use legate::router::ConfigImpl;

use super::super::Target;
use super::hash;

pub const TARGET: Target = Target {
    name: "config",
    run,
    seeds: SEEDS,
    dictionary: DICTIONARY,
    max_len: 16 * 1024,
    memory: (4 * 1024 * 1024, 1024),
};

fn run(input: &[u8]) -> u64 {
    let Some((&choice, data)) = input.split_first() else { return 0 };
    let unknown = if choice & 4 == 0 { UnknownFields::Reject } else { UnknownFields::Allow };
    match read(choice, data, unknown) {
        Ok(bootstrap) => hash((0, build(&bootstrap), bootstrap.unknown_fields.len().min(4))),
        Err(error) => {
            let text = error.to_string();
            let text = text.get(..200).unwrap_or(&text);
            let known = |word: &&str| word.len() > 2 && DICTIONARY.contains(word);
            let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(known);
            // Nothing of the input's own: an input is kept where this is new.
            let told = text
                .split_whitespace()
                .filter(|word| TOLD.split_whitespace().any(|told| told == *word))
                .take(4);
            hash((1, words.next_back(), told.collect::<Vec<_>>()))
        }
    }
}

fn read(choice: u8, data: &[u8], unknown: UnknownFields) -> Result<Bootstrap, ConfigErrors> {
    let text = || std::str::from_utf8(data).map_err(|_| ConfigError::document("not UTF-8"));
    let raw = match choice & 3 {
        _ if choice & BINARY != 0 => parse_binary(data)?,
        0 | 1 => yaml::parse_yaml(text()?)?,
        2 => {
            let raw = json::parse_json(text()?)?;
            let again = json::parse_json(&raw.to_string()).expect("JSON of what was read");
            assert_eq!(again, raw, "JSON written and read again is not the same");
            raw
        }
        _ => {
            let text = text()?;
            let (file, over) = text.split_once("\n===\n").unwrap_or((text, "a: b"));
            let (mut base, over) = (yaml::parse_yaml(file)?, yaml::parse_yaml(over)?);
            if !base.is_object() || !over.is_object() {
                return Err(ConfigError::document("not an object").into());
            }
            merge::merge_bootstrap(&mut base, over);
            base
        }
    };
    let bootstrap = parse_bootstrap(raw.clone(), unknown, &LINKED)?;
    let again = parse_bootstrap(raw, unknown, &LINKED).expect("it was read before");
    assert_eq!(again, bootstrap, "read twice, it is not the same");
    Ok(bootstrap)
}

/// What is made of a configuration, as far as that touches nothing outside; returns where it ends.
fn build(bootstrap: &Bootstrap) -> u64 {
    let chains = bootstrap.static_resources.listeners.iter().flat_map(|listener| &listener.filter_chains);
    let filters = chains.flat_map(|chain| &chain.filters);
    let outcomes = filters.filter_map(HttpConnectionManager::of);
    let outcomes = outcomes.map(|hcm| ConfigImpl::new(&hcm.route_config, None).map(drop).is_ok());
    hash((outcomes.take(3).collect::<Vec<_>>(), bootstrap.static_resources.clusters.len().min(3)))
}

/// Words by which errors are told apart.
const TOLD: &str = "unknown unsupported supported field type expected got must required set only twice empty least \
    most greater less between one not valid protobuf UTF-8 line did duplicate trailing mapping sequence scalar string \
    number duration deep large";

/// In the first byte: the rest is binary.
const BINARY: u8 = 8;

/// A node with an id, an admin with an address, a cluster with a timeout.
const IN_BINARY: &[u8] = b"\x08\x0a\x03\x0a\x01a\x62\x11\x1a\x0f\x0a\x0d\x12\x09127.0.0.1\x18\x50\x12\x09\x12\x07\x0a\x01c\x22\x02\x08\x05";

/// A bootstrap with some of everything.
const WHOLE: &str = concat!("\0", include_str!("bootstrap.yaml"));

const SEEDS: &[&[u8]] = &[
    WHOLE.as_bytes(),
    IN_BINARY,
    b"\x02{\"admin\": {\"address\": {\"socket_address\": {\"address\": \"::1\", \"port_value\": \"0x50\"}}}, \"node\": {\"id\": \"a\\u00e9\\ud83d\\ude00\"}}",
    b"\x03admin: {access_log_path: /a}\nstatic_resources: {clusters: [{name: a}]}\n===\nadmin: {address: {pipe: {path: /b}}}\nstatic_resources: {clusters: [{name: b}]}\n",
    b"\x04node: {id: &a b, cluster: *a}\nunknown: [1, 1.5, ~, 'x', \"y\\n\", |\n  block\n, !x y]\n",
    b"\0a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
    b"\x02[1, -0, 1e400, 1.5e3, true, null, \"\"]",
    b"\0stats_flush_interval: 0.5s\nlayered_runtime: {layers: [{name: a, static_layer: {b: {c: 1}}}, {name: z, admin_layer: {}}]}\n",
];

const DICTIONARY: &[&str] = &[
    ": ",
    "- ",
    "\n",
    "  ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    "|",
    ">",
    "&a ",
    "*a",
    "!!str ",
    "! ",
    "<<: ",
    "---\n",
    "...\n",
    "#",
    "~",
    "null",
    "true",
    "false",
    "yes",
    "0x10",
    "0o7",
    "1e3",
    "-1",
    "1.5",
    ".inf",
    ".nan",
    "4294967296",
    "0.25s",
    "1s",
    "-1s",
    "9223372036s",
    "\\u0000",
    "\\ud800",
    "\t",
    "\u{feff}",
    "\u{e9}",
    "\n===\n",
    "static_resources",
    "listeners",
    "clusters",
    "name",
    "address",
    "socket_address",
    "port_value",
    "pipe",
    "path",
    "filter_chains",
    "filters",
    "typed_config",
    "\"@type\"",
    "route_config",
    "virtual_hosts",
    "domains",
    "[\"*\"]",
    "routes",
    "match",
    "prefix",
    "regex",
    "safe_regex",
    "route",
    "cluster",
    "weighted_clusters",
    "direct_response",
    "status",
    "timeout",
    "retry_policy",
    "load_assignment",
    "endpoints",
    "lb_endpoints",
    "endpoint",
    "priority",
    "load_balancing_weight",
    "circuit_breakers",
    "thresholds",
    "max_requests",
    "connect_timeout",
    "lb_policy",
    "ROUND_ROBIN",
    "type",
    "STATIC",
    "admin",
    "node",
    "layered_runtime",
    "layers",
    "static_layer",
    "access_log",
    "http_filters",
    "stat_prefix",
    "health_checks",
    "transport_socket",
    "camelCase",
    "statPrefix",
    "routeConfig",
    "value",
    "numerator",
    "denominator",
];
