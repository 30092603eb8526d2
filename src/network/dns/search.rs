//! The names that a short name may stand for.
//!
//! Stands where c-ares has `ares_search`. evdns could do it too, but would take an answer that is too long for one that says
//! that there is no such name.

use std::fs;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What `name` is looked up as, one after the other until one is there.
pub(super) fn candidates(name: &str, no_search: bool) -> Vec<String> {
    if no_search || name.ends_with('.') {
        return vec![name.to_string()];
    }
    let file = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    Search::of(&file, hostname).names(name)
}

/// What `/etc/resolv.conf` says of it.
struct Search {
    domains: Vec<String>,
    /// A name with so many dots is tried as it is first.
    ndots: usize,
}

impl Search {
    fn of(file: &str, hostname: impl Fn() -> String) -> Search {
        let (mut domains, mut ndots) = (None, 1);
        for line in file.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_ascii_whitespace();
            match words.next() {
                Some("search") => domains = Some(words.map(str::to_string).collect()),
                Some("domain") => domains = Some(words.take(1).map(str::to_string).collect()),
                Some("options") => {
                    let given = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    given.for_each(|number| ndots = number);
                }
                _ => {}
            }
        }
        let of_hostname = || hostname().split_once('.').map(|(_, domain)| domain.to_string());
        Search { domains: domains.unwrap_or_else(|| of_hostname().into_iter().collect()), ndots }
    }

    fn names(&self, name: &str) -> Vec<String> {
        let in_domain = |domain: &String| format!("{name}.{}", domain.trim_start_matches('.'));
        let mut names: Vec<String> = self.domains.iter().map(in_domain).collect();
        let is_long = name.bytes().filter(|b| *b == b'.').count() >= self.ndots;
        names.insert(if is_long { 0 } else { names.len() }, name.to_string());
        names
    }
}

fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_tried_in_the_domains_first() {
        let names =
            |file: &str, name: &str| Search::of(file, || "h.of.host".to_string()).names(name).join(" ");
        let file = "nameserver 1.1.1.1\nsearch a.b  c # d\noptions timeout:1 ndots:2\n";
        assert_eq!(names(file, "x"), "x.a.b x.c x");
        assert_eq!(names(file, "x.y"), "x.y.a.b x.y.c x.y");
        assert_eq!(names(file, "x.y.z"), "x.y.z x.y.z.a.b x.y.z.c");
        assert_eq!(names("search a\ndomain b c", "x.y"), "x.y x.y.b");
        assert_eq!(names("", "x"), "x.of.host x");
        assert_eq!(names("search\n", "x"), "x");
    }

    #[test]
    fn a_name_that_ends_in_a_dot_is_whole() {
        assert_eq!(candidates("x.", false), ["x."]);
        assert_eq!(candidates("x", true), ["x"]);
    }
}
