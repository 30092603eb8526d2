//! Tags: the parts of a name that say which one, not what (Envoy `source/common/stats/tag_extractor_impl.*`,
//! and the default tags of `source/common/config/well_known_names.cc`).
//!
//! Of Envoy's default tags those for which legate has names. They are looked for when somebody asks, not when a
//! metric is made; and by hand, as each takes a part between two dots at most.

/// A tag, with its name in the form that Prometheus sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// `envoy_cluster_name`.
    pub name: &'static str,
    /// What was taken out of the name.
    pub value: String,
}

/// Takes the default tags out of a name; in Envoy's order.
pub fn extract_tags(name: &str) -> (String, Vec<Tag>) {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    let mut tags = Vec::new();
    for (tag, find) in EXTRACTORS {
        if let Some(found) = find(name) {
            tags.push(Tag { name: tag, value: name[found.value.0..found.value.1].to_string() });
            parts.push(found.removed);
        }
    }
    parts.sort_unstable();
    let mut rest = String::with_capacity(name.len());
    let mut at = 0;
    for (start, end) in parts.into_iter().filter(|part| part.0 < part.1) {
        rest.push_str(name.get(at..start).unwrap_or_default());
        at = at.max(end);
    }
    rest.push_str(&name[at..]);
    (rest, tags)
}

/// Where a tag is in a name, and what goes with it.
struct Found {
    value: (usize, usize),
    removed: (usize, usize),
}

type Extractor = fn(&str) -> Option<Found>;

const EXTRACTORS: &[(&str, Extractor)] = &[
    ("envoy_response_code", response_code),
    ("envoy_response_code_class", response_code_class),
    ("envoy_http_user_agent", user_agent),
    ("envoy_worker_id", worker_id),
    ("envoy_cluster_name", cluster_name),
    ("envoy_http_conn_manager_prefix", listener_http_prefix),
    ("envoy_http_conn_manager_prefix", http_prefix),
    ("envoy_listener_address", listener_address),
];

/// `*_rq(_<code>)`
fn response_code(name: &str) -> Option<Found> {
    let start = name.len().checked_sub(3).filter(|start| name.is_char_boundary(*start))?;
    let digits = name[start..].bytes().all(|b| b.is_ascii_digit());
    (digits && name[..start].ends_with("_rq_"))
        .then(|| Found { value: (start, name.len()), removed: (start - 1, name.len()) })
}

/// `*_rq_(<class>)xx`
fn response_code_class(name: &str) -> Option<Found> {
    let rest = name.strip_suffix("xx")?;
    let before = rest.strip_suffix(|c: char| c.is_ascii_digit())?;
    let at = (before.len(), rest.len());
    before.ends_with("_rq_").then_some(Found { value: at, removed: at })
}

/// `http.<prefix>.user_agent.(<agent>.)<name>`
fn user_agent(name: &str) -> Option<Found> {
    let (prefix, _) = name.strip_prefix("http.")?.split_once('.')?;
    let found = part(name, "http.".len() + prefix.len() + 1, "user_agent.")?;
    (!name[found.removed.1..].contains('.')).then_some(found)
}

/// `server.worker_(<id>.)*`, `listener.<address>.worker_(<id>.)*`
fn worker_id(name: &str) -> Option<Found> {
    let at = match listener_address(name) {
        Some(address) => address.removed.1,
        None => ["server.", "listener_manager."].iter().find(|prefix| name.starts_with(**prefix))?.len(),
    };
    let found = part(name, at, "worker_")?;
    name[found.value.0..found.value.1].bytes().all(|b| b.is_ascii_digit()).then_some(found)
}

/// `cluster.(<name>.)*`
fn cluster_name(name: &str) -> Option<Found> {
    part(name, 0, "cluster.")
}

/// `listener.<address>.http.(<prefix>.)*`
fn listener_http_prefix(name: &str) -> Option<Found> {
    let rest = name.strip_prefix("listener.")?;
    part(name, "listener.".len() + rest.find(".http.")?, ".http.")
}

/// `http.(<prefix>.)*`
fn http_prefix(name: &str) -> Option<Found> {
    part(name, 0, "http.")
}

/// `listener.(<address>.)*`; the admin's is none.
fn listener_address(name: &str) -> Option<Found> {
    let start = "listener.".len();
    let rest = name.strip_prefix("listener.")?;
    let ip = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(rest.len());
    // An IPv4 address has dots of its own, and one more behind its port.
    let length = match rest[..ip].rfind('.') {
        Some(dot) if dot > 0 => dot,
        _ => rest.find('.')?,
    };
    (length > 0 && &rest[..length] != "admin")
        .then_some(Found { value: (start, start + length), removed: (start, start + length + 1) })
}

/// What stands behind `before` at `at`, up to the next dot; the dot goes with it.
fn part(name: &str, at: usize, before: &str) -> Option<Found> {
    let start = at + before.len();
    let length = name.get(at..)?.strip_prefix(before)?.find('.').filter(|length| *length > 0)?;
    Some(Found { value: (start, start + length), removed: (start, start + length + 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Envoy 1.40 has them.
    #[test]
    fn names_are_taken_apart() {
        for (name, rest, tags) in [
            ("server.live", "server.live", ""),
            ("cluster.c1.upstream_rq_503", "cluster.upstream_rq", "response_code=503 cluster_name=c1"),
            (
                "cluster.odd.name.external.upstream_rq_5xx",
                "cluster.name.external.upstream_rq_xx",
                "response_code_class=5 cluster_name=odd",
            ),
            ("cluster_manager.active_clusters", "cluster_manager.active_clusters", ""),
            ("http.admin.downstream_rq_time", "http.downstream_rq_time", "http_conn_manager_prefix=admin"),
            ("http.in.gress.rq_total", "http.gress.rq_total", "http_conn_manager_prefix=in"),
            (
                "http.ingress.user_agent.ios.downstream_cx_total",
                "http.user_agent.downstream_cx_total",
                "http_user_agent=ios http_conn_manager_prefix=ingress",
            ),
            (
                "http.in.gress.user_agent.ios.downstream_cx_total",
                "http.gress.user_agent.ios.downstream_cx_total",
                "http_conn_manager_prefix=in",
            ),
            (
                "listener.127.0.0.1_0.http.ingress.downstream_rq_2xx",
                "listener.http.downstream_rq_xx",
                "response_code_class=2 http_conn_manager_prefix=ingress listener_address=127.0.0.1_0",
            ),
            (
                "listener.[__1]_80.worker_1.downstream_cx_total",
                "listener.worker_downstream_cx_total",
                "worker_id=1 listener_address=[__1]_80",
            ),
            (
                "listener.pre.fix.http.in.gress.downstream_rq_completed",
                "listener.fix.http.gress.downstream_rq_completed",
                "http_conn_manager_prefix=in listener_address=pre",
            ),
            (
                "listener.pre.fix.worker_0.downstream_cx_total",
                "listener.fix.worker_0.downstream_cx_total",
                "listener_address=pre",
            ),
            ("listener.admin.downstream_cx_total", "listener.admin.downstream_cx_total", ""),
            (
                "listener.admin.http.admin.downstream_rq_4xx",
                "listener.admin.http.downstream_rq_xx",
                "response_code_class=4 http_conn_manager_prefix=admin",
            ),
            ("server.worker_0.watchdog_miss", "server.worker_watchdog_miss", "worker_id=0"),
            ("listener_manager.workers_started", "listener_manager.workers_started", ""),
        ] {
            let (got, found) = extract_tags(name);
            let found: Vec<String> = found
                .iter()
                .map(|t| format!("{}={}", t.name.trim_start_matches("envoy_"), t.value))
                .collect();
            assert_eq!((got.as_str(), found.join(" ").as_str()), (rest, tags), "{name}");
        }
    }

    #[test]
    fn odd_names_do_no_harm() {
        for name in
            ["", ".", "cluster.", "cluster..x", "http.", "listener.", "listener..", "é_rq_1xx", "xx", "1é"]
        {
            extract_tags(name);
        }
    }
}
