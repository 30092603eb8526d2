//! The options that exist, in the order of the help text.

/// An option that may stand on the command line.
pub(super) struct Spec {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

/// What follows the name of an option.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Switch,
    /// A text in UTF-8.
    Text,
    /// A path, in any encoding.
    Path,
    /// Nothing, or a path behind `=`.
    OptionalPath,
    /// A number from 0 to 2^32 - 1.
    Number,
    /// Nothing, and Envoy knows the option but this server does not.
    UnsupportedSwitch,
    /// A value, and Envoy knows the option but this server does not.
    UnsupportedValue,
}

impl Kind {
    /// The type of the value as the help text has it, if a value follows.
    pub(super) fn value_name(self) -> Option<&'static str> {
        match self {
            Kind::Switch | Kind::OptionalPath | Kind::UnsupportedSwitch => None,
            Kind::Text | Kind::Path | Kind::UnsupportedValue => Some("string"),
            Kind::Number => Some("uint32_t"),
        }
    }

    pub(super) fn supported(self) -> bool {
        !matches!(self, Kind::UnsupportedSwitch | Kind::UnsupportedValue)
    }
}

impl Spec {
    /// The option as errors name it: `-c (--config-path)`, or `(--mode)` without a short form.
    pub(super) fn id(&self) -> String {
        match self.short {
            Some(short) => format!("-{short} (--{})", self.long),
            None => format!("(--{})", self.long),
        }
    }
}

/// The option of that long name.
pub(super) fn find_long(name: &str) -> Option<&'static Spec> {
    TABLE.iter().find(|spec| spec.long == name)
}

/// The option of that short name.
pub(super) fn find_short(name: char) -> Option<&'static Spec> {
    TABLE.iter().find(|spec| spec.short == Some(name))
}

const fn spec(long: &'static str, kind: Kind, help: &'static str) -> Spec {
    Spec { long, short: None, kind, help }
}

const fn with_short(short: char, spec: Spec) -> Spec {
    Spec { short: Some(short), ..spec }
}

/// All options but `--`.
pub(super) const TABLE: &[Spec] = &[
    spec("demo", Kind::Switch, "Serve a built-in configuration, to try things out"),
    spec(
        "trace-stages",
        Kind::OptionalPath,
        "Record stages from the start; --trace-stages=FILE writes them there, as JSON lines, at the end",
    ),
    spec("stats-tag", Kind::UnsupportedValue, ""),
    spec("enable-core-dump", Kind::UnsupportedSwitch, ""),
    spec("socket-mode", Kind::Text, "Permissions of the hot restart socket (accepted, without effect)"),
    spec("socket-path", Kind::Text, "Path of the hot restart socket (accepted, without effect)"),
    spec("disable-extensions", Kind::UnsupportedValue, ""),
    spec("cpuset-threads", Kind::Switch, "Without --concurrency, run a worker per CPU of the cpuset"),
    spec("enable-mutex-tracing", Kind::UnsupportedSwitch, ""),
    spec("disable-hot-restart", Kind::Switch, "Disable hot restart"),
    spec(
        "mode",
        Kind::Text,
        "'serve' (default) to check the configuration and serve, 'validate' to only check it, \
         'init_only' to exit when initialized",
    ),
    spec("parent-shutdown-time-s", Kind::Number, "Time until the parent of a hot restart ends, in seconds"),
    spec("drain-strategy", Kind::Text, "How draining proceeds: 'gradual' (default) or 'immediate'"),
    spec("drain-time-s", Kind::Number, "Time to drain listeners in, in seconds"),
    spec("file-flush-min-size-kb", Kind::Number, "Size from which log files are flushed, in KiB"),
    spec("file-flush-interval-msec", Kind::Number, "Interval at which log files are flushed, in ms"),
    spec("service-zone", Kind::Text, "Zone name"),
    spec("service-node", Kind::Text, "Node name"),
    spec("service-cluster", Kind::Text, "Cluster name"),
    spec("hot-restart-version", Kind::Switch, "Print the hot restart compatibility version and exit"),
    spec("restart-epoch", Kind::Number, "Hot restart epoch; only 0 is supported"),
    spec("log-path", Kind::Path, "File to log to instead of standard error"),
    spec("enable-fine-grain-logging", Kind::UnsupportedSwitch, ""),
    spec("log-format-escaped", Kind::Switch, "Write each line of the log with C escapes"),
    spec(
        "log-format",
        Kind::Text,
        "Format of a line of the log, with the flags of spdlog\n\n\
         Default is \"[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v\"",
    ),
    spec(
        "component-log-level",
        Kind::Text,
        "Comma-separated levels of components, for example upstream:debug,config:trace",
    ),
    with_short(
        'l',
        spec(
            "log-level",
            Kind::Text,
            "One of [trace][debug][info][warning|warn][error][critical][off]\n\nDefault is [info]",
        ),
    ),
    spec("local-address-ip-version", Kind::Text, "IP version of the local address, v4 (default) or v6"),
    spec("admin-address-path", Kind::Path, "File to write the address of the admin interface to"),
    spec("log-stacktrace-single-entry", Kind::Switch, "Accepted, without effect: stacks are not logged"),
    spec("skip-deprecated-logs", Kind::Switch, "Do not log the use of deprecated fields"),
    spec("ignore-unknown-dynamic-fields", Kind::Switch, "Ignore unknown fields in dynamic configuration"),
    spec("reject-unknown-dynamic-fields", Kind::Switch, "Reject unknown fields in dynamic configuration"),
    spec("allow-unknown-static-fields", Kind::Switch, "Allow unknown fields in static configuration"),
    spec("allow-unknown-fields", Kind::Switch, "As --allow-unknown-static-fields (deprecated)"),
    spec("config-yaml", Kind::Text, "Configuration in YAML, merged over that of --config-path"),
    with_short('c', spec("config-path", Kind::Path, "Path of the configuration file")),
    spec("concurrency", Kind::Number, "Number of worker threads"),
    spec("base-id-path", Kind::Path, "File to write the base ID to"),
    spec("skip-hot-restart-parent-stats", Kind::Switch, "Do not take over the stats of the parent"),
    spec("skip-hot-restart-on-no-parent", Kind::Switch, "Start even if there is no parent to take over from"),
    spec("use-dynamic-base-id", Kind::Switch, "Choose a base ID that is not in use"),
    spec("base-id", Kind::Number, "Base ID, different for each server on a host"),
    spec("version", Kind::Switch, "Print the version and exit"),
    with_short('h', spec("help", Kind::Switch, "Print this text and exit")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (i, spec) in TABLE.iter().enumerate() {
            assert!(TABLE[..i].iter().all(|other| other.long != spec.long), "{}", spec.long);
            assert!(spec.short.is_none() || TABLE[..i].iter().all(|other| other.short != spec.short));
        }
    }

    #[test]
    fn what_is_supported_is_explained() {
        assert!(TABLE.iter().all(|spec| spec.kind.supported() != spec.help.is_empty()));
    }
}
