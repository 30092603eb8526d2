//! The command line (Envoy `source/server/options_impl.*`), with the options of Envoy 1.40.
//!
//! Every option of Envoy is known. Those that cannot be honoured are refused by name rather than
//! ignored: `--stats-tag`, `--disable-extensions`, `--enable-core-dump`, `--enable-mutex-tracing`,
//! `--enable-fine-grain-logging`, and a `--restart-epoch` above 0, as there is no hot restart. The other
//! options of hot restart are read and kept. `--demo` is this server's own.
//!
//! Deliberately different from Envoy: `--name=value` is understood too, a negative or an empty number is
//! an error, and the error about a bad `--drain-strategy` names that value.

mod command_line;
mod outcome;
mod table;
mod usage;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::logger::{self, Id, Level, LogOptions};
use command_line::CommandLine;

pub use outcome::OptionsOutcome;

/// What the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Check the configuration, then serve.
    Serve,
    /// Check the configuration and exit.
    Validate,
    /// Initialize fully and exit.
    InitOnly,
}

/// How listeners are drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStrategy {
    /// Connections are closed with a probability that grows over the drain time.
    Gradual,
    /// Every connection is closed at its next chance.
    Immediate,
}

/// The IP version of the local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A command line. Texts that were not given are empty.
#[derive(Clone, Debug)]
pub struct Options {
    /// As given; without hot restart nothing depends on it.
    pub base_id: u32,
    /// A free base id was asked for.
    pub use_dynamic_base_id: bool,
    /// File to write the base id to.
    pub base_id_path: Option<PathBuf>,
    /// Worker threads, at least 1.
    pub concurrency: u32,
    /// The configuration file.
    pub config_path: Option<PathBuf>,
    /// YAML merged over the configuration file.
    pub config_yaml: String,
    /// `--allow-unknown-static-fields` or the deprecated `--allow-unknown-fields`.
    pub allow_unknown_static_fields: bool,
    /// Unknown fields in dynamic configuration are errors.
    pub reject_unknown_dynamic_fields: bool,
    /// Unknown fields in dynamic configuration are not even warned about.
    pub ignore_unknown_dynamic_fields: bool,
    /// The use of deprecated fields is not logged.
    pub skip_deprecated_logs: bool,
    /// File to write the address of the admin interface to.
    pub admin_address_path: Option<PathBuf>,
    /// The IP version of the local address.
    pub local_address_ip_version: IpVersion,
    /// The level of all components without one of their own.
    pub log_level: Level,
    /// `--component-log-level` as given.
    pub component_log_level: String,
    /// `--component-log-level` parsed.
    pub component_log_levels: Vec<(Id, Level)>,
    /// The format of log lines.
    pub log_format: String,
    /// Log lines are written with C escapes.
    pub log_format_escaped: bool,
    /// The log file; standard error if none.
    pub log_path: Option<PathBuf>,
    /// Cluster name of this node.
    pub service_cluster: String,
    /// Name of this node.
    pub service_node: String,
    /// Zone of this node.
    pub service_zone: String,
    /// How often access logs are flushed.
    pub file_flush_interval: Duration,
    /// From how much on access logs are flushed, in KiB.
    pub file_flush_min_size_kb: u32,
    /// How long draining takes.
    pub drain_time: Duration,
    /// How draining proceeds.
    pub drain_strategy: DrainStrategy,
    /// When the parent of a hot restart is ended.
    pub parent_shutdown_time: Duration,
    /// What to do.
    pub mode: Mode,
    /// Hot restart was switched off; it is never on.
    pub disable_hot_restart: bool,
    /// `--skip-hot-restart-on-no-parent`.
    pub skip_hot_restart_on_no_parent: bool,
    /// `--skip-hot-restart-parent-stats`.
    pub skip_hot_restart_parent_stats: bool,
    /// Path of the hot restart socket.
    pub socket_path: String,
    /// Permissions of the hot restart socket, as given.
    pub socket_mode: String,
    /// Workers were to be counted by the cpuset.
    pub cpuset_threads: bool,
    /// Serve the built-in configuration.
    pub demo: bool,
    /// Record stages from the start.
    pub trace_stages: bool,
    /// Where the recorded stages are written at the end.
    pub trace_stages_path: Option<PathBuf>,
    /// To be logged as warnings of the component `config` once logging has started.
    pub warnings: Vec<String>,
}

impl Options {
    /// Reads `args`, the first of which names the program, as [`std::env::args_os`] gives them. The
    /// error is what to say before exiting, which need not be a failure.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, OptionsOutcome> {
        let command_line = CommandLine::parse(args)?;
        let options =
            from_command_line(&command_line).map_err(|message| OptionsOutcome::Error(message + "\n"))?;
        if command_line.switch("hot-restart-version") {
            return Err(OptionsOutcome::HotRestartVersion("disabled".to_string()));
        }
        Ok(options)
    }

    /// What logging is started with.
    pub fn log_options(&self) -> LogOptions {
        LogOptions {
            level: self.log_level,
            component_levels: self.component_log_levels.clone(),
            format: self.log_format.clone(),
            escaped: self.log_format_escaped,
            path: self.log_path.clone(),
        }
    }
}

/// The checks are in Envoy's order, so that of several errors the same one is reported.
fn from_command_line(given: &CommandLine) -> Result<Options, String> {
    let text = |name| given.text(name, "").to_string();
    let number = |name, default| given.number(name).unwrap_or(default);
    let seconds = |name, default| Duration::from_secs(u64::from(number(name, default)));
    let log_level = log_level(given)?;
    let component_log_levels = logger::parse_component_levels(given.text("component-log-level", ""))?;
    let mode = mode(given)?;
    let local_address_ip_version = ip_version(given)?;
    let drain_strategy = drain_strategy(given)?;
    check_restart_epoch(given)?;
    check_demo(given, mode)?;
    let (concurrency, warnings) = concurrency(given);
    Ok(Options {
        base_id: number("base-id", 0),
        use_dynamic_base_id: given.switch("use-dynamic-base-id"),
        base_id_path: given.path("base-id-path"),
        concurrency,
        config_path: given.path("config-path"),
        config_yaml: text("config-yaml"),
        allow_unknown_static_fields: given.switch("allow-unknown-static-fields")
            || given.switch("allow-unknown-fields"),
        reject_unknown_dynamic_fields: given.switch("reject-unknown-dynamic-fields"),
        ignore_unknown_dynamic_fields: given.switch("ignore-unknown-dynamic-fields"),
        skip_deprecated_logs: given.switch("skip-deprecated-logs"),
        admin_address_path: given.path("admin-address-path"),
        local_address_ip_version,
        log_level,
        component_log_level: text("component-log-level"),
        component_log_levels,
        log_format: given.text("log-format", logger::DEFAULT_FORMAT).to_string(),
        log_format_escaped: given.switch("log-format-escaped"),
        log_path: given.path("log-path"),
        service_cluster: text("service-cluster"),
        service_node: text("service-node"),
        service_zone: text("service-zone"),
        file_flush_interval: Duration::from_millis(u64::from(number("file-flush-interval-msec", 10_000))),
        file_flush_min_size_kb: number("file-flush-min-size-kb", 64),
        drain_time: seconds("drain-time-s", 600),
        drain_strategy,
        parent_shutdown_time: seconds("parent-shutdown-time-s", 900),
        mode,
        disable_hot_restart: given.switch("disable-hot-restart"),
        skip_hot_restart_on_no_parent: given.switch("skip-hot-restart-on-no-parent"),
        skip_hot_restart_parent_stats: given.switch("skip-hot-restart-parent-stats"),
        socket_path: given.text("socket-path", "@envoy_domain_socket").to_string(),
        socket_mode: given.text("socket-mode", "600").to_string(),
        cpuset_threads: given.switch("cpuset-threads"),
        demo: given.switch("demo"),
        trace_stages: given.given("trace-stages"),
        trace_stages_path: given.path("trace-stages"),
        warnings,
    })
}

fn log_level(given: &CommandLine) -> Result<Level, String> {
    let name = given.text("log-level", Level::Info.name());
    Level::from_option(name).ok_or_else(|| format!("error: invalid log level specified '{name}'"))
}

fn mode(given: &CommandLine) -> Result<Mode, String> {
    match given.text("mode", "serve") {
        "serve" => Ok(Mode::Serve),
        "validate" => Ok(Mode::Validate),
        "init_only" => Ok(Mode::InitOnly),
        other => Err(format!("error: unknown mode '{other}'")),
    }
}

fn ip_version(given: &CommandLine) -> Result<IpVersion, String> {
    match given.text("local-address-ip-version", "v4") {
        "v4" => Ok(IpVersion::V4),
        "v6" => Ok(IpVersion::V6),
        other => Err(format!("error: unknown IP address version '{other}'")),
    }
}

fn drain_strategy(given: &CommandLine) -> Result<DrainStrategy, String> {
    match given.text("drain-strategy", "gradual") {
        "gradual" => Ok(DrainStrategy::Gradual),
        "immediate" => Ok(DrainStrategy::Immediate),
        other => Err(format!("error: unknown drain-strategy '{other}'")),
    }
}

fn check_restart_epoch(given: &CommandLine) -> Result<(), String> {
    match given.number("restart-epoch") {
        None | Some(0) => Ok(()),
        Some(epoch) if given.switch("use-dynamic-base-id") => {
            Err(format!("error: cannot use --restart-epoch={epoch} with --use-dynamic-base-id"))
        }
        Some(epoch) => Err(format!("error: --restart-epoch={epoch}: hot restart is not supported")),
    }
}

/// The demonstration has a configuration of its own.
fn check_demo(given: &CommandLine, mode: Mode) -> Result<(), String> {
    if !given.switch("demo") {
        return Ok(());
    }
    if let Some(other) = ["config-path", "config-yaml"].into_iter().find(|name| given.given(name)) {
        return Err(format!("error: --demo cannot be used with --{other}"));
    }
    if mode == Mode::Validate {
        return Err("error: --demo cannot be used with --mode validate".to_string());
    }
    Ok(())
}

/// The number of workers, and what is to be said about it.
fn concurrency(given: &CommandLine) -> (u32, Vec<String>) {
    match (given.number("concurrency"), given.switch("cpuset-threads")) {
        (Some(workers), false) => (workers.max(1), vec![]),
        (Some(workers), true) => {
            let warning = "Both --concurrency and --cpuset-threads options are set; not applying \
                           --cpuset-threads.";
            (workers.max(1), vec![warning.to_string()])
        }
        (None, false) => (hardware_threads(), vec![]),
        (None, true) => (cpuset_threads(), vec![]),
    }
}

fn hardware_threads() -> u32 {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    u32::try_from(threads).unwrap_or(u32::MAX)
}

/// The CPUs that this process may run on, whatever share of them it may use.
fn cpuset_threads() -> u32 {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return hardware_threads();
    };
    let count = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count();
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}
