use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::*;
use crate::server::version;

fn parse(args: &str) -> Result<Options, OptionsOutcome> {
    let args = args.split(' ').filter(|arg| !arg.is_empty()).map(|arg| arg.trim_matches('"'));
    Options::parse(["legate"].into_iter().chain(args).map(OsString::from))
}

fn options(args: &str) -> Options {
    parse(args).unwrap()
}

fn error(args: &str) -> String {
    match parse(args) {
        Err(OptionsOutcome::Error(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Asserts that `args` is a syntax error in `argument`.
fn assert_parse_error(args: &str, argument: &str, problem: &str) {
    let text = error(args);
    assert!(
        text.starts_with(&format!("PARSE ERROR: Argument: {argument}\n             {problem}\n\n")),
        "{text}"
    );
    assert!(text.ends_with(&format!("\n\n{argument} -- {problem}\n")), "{text}");
}

#[test]
fn defaults_are_those_of_envoy() {
    let o = options("");
    assert_eq!((o.base_id, o.base_id_path, o.config_path, o.config_yaml), (0, None, None, String::new()));
    assert_eq!((o.log_level, o.component_log_levels, o.log_path), (Level::Info, vec![], None));
    assert_eq!(o.log_format, "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v");
    assert_eq!((o.mode, o.drain_strategy), (Mode::Serve, DrainStrategy::Gradual));
    assert_eq!(o.local_address_ip_version, IpVersion::V4);
    assert_eq!((o.file_flush_interval, o.file_flush_min_size_kb), (Duration::from_secs(10), 64));
    assert_eq!((o.drain_time, o.parent_shutdown_time), (Duration::from_secs(600), Duration::from_secs(900)));
    assert_eq!((o.socket_path.as_str(), o.socket_mode.as_str()), ("@envoy_domain_socket", "600"));
    assert!(o.concurrency >= 1 && o.warnings.is_empty() && o.admin_address_path.is_none());
    let switches = [
        o.use_dynamic_base_id,
        o.allow_unknown_static_fields,
        o.reject_unknown_dynamic_fields,
        o.ignore_unknown_dynamic_fields,
        o.skip_deprecated_logs,
        o.log_format_escaped,
        o.disable_hot_restart,
        o.skip_hot_restart_on_no_parent,
        o.skip_hot_restart_parent_stats,
        o.cpuset_threads,
        o.demo,
    ];
    assert_eq!(switches, [false; 11]);
}

#[test]
fn values_are_read() {
    let o = options(
        "--base-id 1 --base-id-path /b --concurrency 3 --config-path /c --config-yaml {} --admin-address-path /a \
         --local-address-ip-version v6 --log-level trace --component-log-level pool:off --log-format %v \
         --log-path /l --restart-epoch 0 --service-cluster sc --service-node sn --service-zone sz \
         --file-flush-interval-msec 5 --file-flush-min-size-kb 6 --drain-time-s 7 --drain-strategy immediate \
         --parent-shutdown-time-s 8 --mode init_only --socket-path sp --socket-mode 700",
    );
    assert_eq!((o.base_id, o.concurrency), (1, 3));
    assert_eq!(o.base_id_path.as_deref(), Some(Path::new("/b")));
    assert_eq!(o.config_path.as_deref(), Some(Path::new("/c")));
    assert_eq!(o.admin_address_path.as_deref(), Some(Path::new("/a")));
    assert_eq!(o.log_path.as_deref(), Some(Path::new("/l")));
    assert_eq!((o.config_yaml.as_str(), o.local_address_ip_version), ("{}", IpVersion::V6));
    assert_eq!((o.log_level, o.component_log_level.as_str()), (Level::Trace, "pool:off"));
    assert_eq!((o.log_format.as_str(), o.component_log_levels), ("%v", vec![(Id::Pool, Level::Off)]));
    assert_eq!([o.service_cluster, o.service_node, o.service_zone], ["sc", "sn", "sz"]);
    assert_eq!((o.file_flush_interval, o.file_flush_min_size_kb), (Duration::from_millis(5), 6));
    assert_eq!((o.drain_time, o.parent_shutdown_time), (Duration::from_secs(7), Duration::from_secs(8)));
    assert_eq!((o.drain_strategy, o.mode), (DrainStrategy::Immediate, Mode::InitOnly));
    assert_eq!([o.socket_path, o.socket_mode], ["sp", "700"]);
}

#[test]
fn switches_are_read() {
    let o = options(
        "--use-dynamic-base-id --allow-unknown-static-fields --reject-unknown-dynamic-fields \
         --ignore-unknown-dynamic-fields --skip-deprecated-logs --log-format-escaped --disable-hot-restart \
         --skip-hot-restart-on-no-parent --skip-hot-restart-parent-stats --cpuset-threads --demo \
         --log-stacktrace-single-entry",
    );
    let switches = [
        o.use_dynamic_base_id,
        o.allow_unknown_static_fields,
        o.reject_unknown_dynamic_fields,
        o.ignore_unknown_dynamic_fields,
        o.skip_deprecated_logs,
        o.log_format_escaped,
        o.disable_hot_restart,
        o.skip_hot_restart_on_no_parent,
        o.skip_hot_restart_parent_stats,
        o.cpuset_threads,
        o.demo,
    ];
    assert_eq!(switches, [true; 11]);
    assert!(options("--allow-unknown-fields").allow_unknown_static_fields);
}

#[test]
fn stages_are_recorded_with_or_without_a_file() {
    let o = options("");
    assert_eq!((o.trace_stages, o.trace_stages_path), (false, None));
    let o = options("--trace-stages --demo");
    assert_eq!((o.trace_stages, o.trace_stages_path, o.demo), (true, None, true));
    let o = options("--trace-stages=a.jsonl");
    assert_eq!((o.trace_stages, o.trace_stages_path), (true, Some("a.jsonl".into())));
}

#[test]
fn log_options_are_those_of_the_command_line() {
    let log =
        options("-l warn --component-log-level http:debug --log-format x --log-format-escaped --log-path p")
            .log_options();
    assert_eq!((log.level, log.component_levels), (Level::Warn, vec![(Id::Http, Level::Debug)]));
    assert_eq!((log.format.as_str(), log.escaped), ("x", true));
    assert_eq!(log.path.as_deref(), Some(Path::new("p")));
}

#[test]
fn values_can_be_written_in_several_ways() {
    assert_eq!(options("-c a").config_path.as_deref(), Some(Path::new("a")));
    assert_eq!(options("--config-path=a").config_path.as_deref(), Some(Path::new("a")));
    assert_eq!(options("-c --mode").config_path.as_deref(), Some(Path::new("--mode")));
    assert_eq!(options("-c \"\"").config_path, None);
    assert_eq!(options("-l off --concurrency 2").log_level, Level::Off);
}

#[test]
fn what_follows_two_dashes_is_ignored() {
    assert_eq!(options("--mode validate -- --bogus x").mode, Mode::Validate);
    assert_eq!(options("--ignore_rest --bogus").mode, Mode::Serve);
    assert_eq!(options("-c -- --mode validate").mode, Mode::Validate);
}

#[test]
fn syntax_errors_are_those_of_tclap() {
    let (unknown, again) = ("Couldn't find match for argument", "Argument already set!");
    let missing = "Missing a value for this argument!";
    assert_parse_error("--bogus", "--bogus", unknown);
    assert_parse_error("--con 3", "--con", unknown);
    assert_parse_error("-v", "-v", unknown);
    assert_parse_error("-c e.yaml foo", "foo", unknown);
    assert_parse_error("-", "-", unknown);
    assert_parse_error("--concurrency", "(--concurrency)", missing);
    assert_parse_error("-c", "-c (--config-path)", missing);
    assert_parse_error("--mode serve --mode serve", "(--mode)", again);
    assert_parse_error("-c a --config-path b", "-c (--config-path)", again);
    assert_parse_error("--disable-hot-restart --disable-hot-restart", "(--disable-hot-restart)", again);
    assert_parse_error("--demo=1", "(--demo)", "Takes no value!");
}

#[test]
fn numbers_have_32_bits() {
    for bad in ["abc", "5x", "-1", "0x10", "99999999999", "\"\""] {
        let problem = format!("Couldn't read argument value from string '{}'", bad.trim_matches('"'));
        assert_parse_error(&format!("--concurrency {bad}"), "(--concurrency)", &problem);
    }
    assert_eq!(options("--drain-time-s 4294967295").drain_time, Duration::from_secs(4_294_967_295));
}

#[test]
fn only_paths_may_be_other_than_utf8() {
    let parse =
        |name: &str| Options::parse(["legate".into(), name.into(), OsString::from_vec(vec![b'a', 0xff])]);
    assert_eq!(parse("-c").unwrap().config_path.unwrap().into_os_string().into_vec(), [b'a', 0xff]);
    assert!(
        matches!(parse("--mode"), Err(OptionsOutcome::Error(e)) if e.contains("from string 'a\u{fffd}'"))
    );
}

#[test]
fn bad_values_have_the_messages_of_envoy() {
    let cases = [
        ("-l bogus", "error: invalid log level specified 'bogus'\n"),
        ("-l err", "error: invalid log level specified 'err'\n"),
        ("--component-log-level foo:debug", "error: invalid component specified 'foo'\n"),
        ("--component-log-level pool", "error: component log level not correctly specified 'pool'\n"),
        ("--mode foo", "error: unknown mode 'foo'\n"),
        ("--local-address-ip-version v5", "error: unknown IP address version 'v5'\n"),
        ("--drain-strategy foo", "error: unknown drain-strategy 'foo'\n"),
        (
            "--restart-epoch 1 --use-dynamic-base-id",
            "error: cannot use --restart-epoch=1 with --use-dynamic-base-id\n",
        ),
        ("--mode foo -l bogus --local-address-ip-version x", "error: invalid log level specified 'bogus'\n"),
        ("--mode foo --hot-restart-version", "error: unknown mode 'foo'\n"),
    ];
    for (args, message) in cases {
        assert_eq!(error(args), message, "{args}");
    }
}

#[test]
fn what_is_not_supported_is_refused() {
    let cases = [
        ("--stats-tag a:b", "error: --stats-tag is not supported\n"),
        ("--disable-extensions a", "error: --disable-extensions is not supported\n"),
        ("--enable-core-dump", "error: --enable-core-dump is not supported\n"),
        ("--enable-mutex-tracing", "error: --enable-mutex-tracing is not supported\n"),
        ("--enable-fine-grain-logging", "error: --enable-fine-grain-logging is not supported\n"),
        ("--restart-epoch 2", "error: --restart-epoch=2: hot restart is not supported\n"),
    ];
    for (args, message) in cases {
        assert_eq!(error(args), message);
    }
}

#[test]
fn texts_are_for_the_right_stream() {
    assert!(matches!(parse("--help --bogus"), Err(OptionsOutcome::Text(t)) if t.starts_with("\nUSAGE: ")));
    assert!(matches!(parse("-h"), Err(OptionsOutcome::Text(_))));
    let version = format!("\nlegate  version: {}\n\n", version::version());
    assert_eq!(parse("--version --bogus").unwrap_err(), OptionsOutcome::Text(version));
    assert!(error("--bogus --help").starts_with("PARSE ERROR"));
    let disabled = OptionsOutcome::HotRestartVersion("disabled".to_string());
    assert_eq!(parse("--hot-restart-version").unwrap_err(), disabled);
}

#[test]
fn workers_are_counted() {
    assert_eq!(options("--concurrency 0").concurrency, 1);
    assert_eq!(options("--concurrency 7").concurrency, 7);
    assert_eq!(options("").concurrency, hardware_threads());
    assert_eq!(options("--cpuset-threads").concurrency, cpuset_threads());
    let both = options("--concurrency 7 --cpuset-threads");
    let warning = "Both --concurrency and --cpuset-threads options are set; not applying --cpuset-threads.";
    assert_eq!((both.concurrency, both.warnings), (7, vec![warning.to_string()]));
}

#[test]
fn the_cpuset_is_that_of_the_thread() {
    let first = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpu = (0..CpuSet::count()).find(|cpu| first.is_set(*cpu).unwrap()).unwrap();
    let pinned = std::thread::spawn(move || {
        let mut one = CpuSet::new();
        one.set(cpu).unwrap();
        nix::sched::sched_setaffinity(Pid::from_raw(0), &one).unwrap();
        cpuset_threads()
    });
    assert_eq!(pinned.join().unwrap(), 1);
}

#[test]
fn the_demonstration_takes_no_configuration() {
    for (args, with) in [
        ("--demo -c x", "--config-path"),
        ("--config-path= --demo", "--config-path"),
        ("--config-yaml {} --demo", "--config-yaml"),
        ("--demo --mode validate", "--mode validate"),
    ] {
        assert_eq!(error(args), format!("error: --demo cannot be used with {with}\n"), "{args}");
    }
    assert_eq!(options("--demo --mode init_only").mode, Mode::InitOnly);
}
