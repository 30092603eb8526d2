//! The command line of `legate-trace`.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use lexopt::ValueExt;

use crate::interrupt;
use crate::lanes::LaneId;
use crate::report::Excerpt;
use crate::scenarios::{self, Scenario};

const USAGE: &str = "\
legate-trace lays what legate does beside what Envoy does, stage by stage.

  legate-trace run --scenario NAME|all [--envoy PATH] [--legate PATH] [-c FILE] [--keep DIR] [--recorder]
      starts both with the same configuration, plays the scenario against a scripted upstream, compares;
      --keep leaves configurations and logs (trace.log) in a directory; --recorder takes legate's stages from its
      recorder instead of its log
  legate-trace run --scenario NAME|all --recorded DIR [--legate PATH] [--keep DIR] [--recorder]
      plays it with legate alone and compares with what Envoy logged once, in DIR/NAME/trace.log; the logs of
      Envoy 1.1 are in tests/traces/envoy-1.1
  legate-trace compare ENVOY_LOG LEGATE_LOG [--scenario NAME] [--per-connection]
      compares two logs made with -l trace, or Envoy's with legate's recording (GET /trace?format=json); --scenario
      says that they are of that one; --per-connection is for several workers: connections are matched by their
      requests, and pools and loops are left out
  legate-trace syscalls [--requests N] [--envoy PATH] [--legate PATH] [-c FILE] [--keep DIR]
      runs both under strace and counts the system calls of N kept-alive requests (200), one after another; only
      those of the worker's thread
  legate-trace scenarios
      lists the scenarios

What run and compare print (this changes nothing else, above all not the exit status):
  --summary              only lanes with undocumented differences, as with --scenario all
  --reasons              below the summary, how often each reason of a documented difference occurs
  --lane KIND            only lanes of that kind: downstream, upstream, own, pool, loop, start, main; may be
                         repeated
  --from STAGE, --to STAGE   in each lane only the part from the first STAGE on, up to the next STAGE
  --html FILE            writes the same as a page, too

The first difference in time is marked >>>>, with its lines in the logs; others are marked !, and documented ones have the
number of their reason. A value of date, x-request-id or x-envoy-upstream-service-time does not count.

-c FILE: listeners and admin get free ports, and every cluster becomes STATIC with the scripted upstream as its only
endpoint; a scenario may set a timeout or a limit in it. The first listener has to have an HTTP connection manager with a
route_config that takes GET / of host legate.test to a cluster. A scenario that neither proxy can play with it is left out, with
a line that says why.

Logs of your own are comparable when both proxies had the same configuration, one worker (--concurrency 1), one request after
another, and the same port (one proxy after the other) or clients with a Host of their own. What the kernel decides is joined:
whether bytes, a FIN and edges come together. Beside legate's recording, suppress_envoy_headers: true in the router keeps
x-envoy-upstream-service-time away, whose length, and so the number of bytes, depends on the time.

Envoy is looked for in ENVOY_BIN, .venv and PATH, legate beside this program. Exit status: 0 when the traces are equal up to the
documented differences, 1 when not, when a scenario gets stuck, or when a documented difference does not occur where it should,
2 when they could not be compared.
";

/// What is asked for.
pub enum Command {
    /// Print this.
    Print(String),
    /// Play scenarios.
    Run(RunCommand),
    /// Compare two logs.
    Compare(CompareCommand),
    /// Count system calls.
    Syscalls(SyscallsCommand),
}

/// The two proxies, and where they work.
#[derive(Default)]
pub struct Proxies {
    envoy: Option<PathBuf>,
    legate: Option<PathBuf>,
    /// `-c`.
    pub config: Option<PathBuf>,
    keep: Option<PathBuf>,
}

/// `run`.
#[derive(Default)]
pub struct RunCommand {
    /// The scenario; `None` for all.
    pub scenario: Option<&'static Scenario>,
    /// What is run.
    pub proxies: Proxies,
    /// `--html`.
    pub html: Option<PathBuf>,
    /// What is printed.
    pub excerpt: Excerpt,
    /// `--recorder`.
    pub recorder: bool,
    /// `--recorded`.
    pub recorded: Option<PathBuf>,
}

/// `syscalls`.
pub struct SyscallsCommand {
    /// What is run.
    pub proxies: Proxies,
    /// How many requests; at least 1.
    pub requests: usize,
}

/// `compare`.
pub struct CompareCommand {
    /// Envoy's log.
    pub envoy: PathBuf,
    /// legate's log.
    pub legate: PathBuf,
    /// What was played.
    pub scenario: Option<&'static Scenario>,
    /// `--per-connection`.
    pub per_connection: bool,
    /// `--html`.
    pub html: Option<PathBuf>,
    /// What is printed.
    pub excerpt: Excerpt,
}

/// Reads the command line.
///
/// # Errors
/// It asks for something that does not exist, for nothing, or for something twice.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let asks_for = |names: [&str; 2]| arguments.iter().any(|word| names.iter().any(|name| word == name));
    if asks_for(["--help", "-h"]) {
        return Ok(Command::Print(USAGE.to_string()));
    }
    if asks_for(["--version", "-V"]) {
        return Ok(Command::Print(format!("legate-trace {}\n", env!("CARGO_PKG_VERSION"))));
    }
    let mut parser = lexopt::Parser::from_iter(arguments);
    let text = |e: lexopt::Error| format!("{e}; see legate-trace --help");
    match parser.next().map_err(text)? {
        None => Err("nothing to do; see legate-trace --help".to_string()),
        Some(lexopt::Arg::Value(word)) => match word.to_str() {
            Some("run") => parse_run(&mut parser).map(Command::Run),
            Some("syscalls") => parse_syscalls(&mut parser).map(Command::Syscalls),
            Some("compare") => parse_compare(&mut parser).map(Command::Compare),
            Some("scenarios") => Ok(Command::Print(scenario_list())),
            _ => Err(format!("no command is called {}; see legate-trace --help", word.display())),
        },
        Some(other) => Err(text(other.unexpected())),
    }
}

fn parse_run(parser: &mut lexopt::Parser) -> Result<RunCommand, String> {
    use lexopt::prelude::Long;
    let text = |e: lexopt::Error| format!("run: {e}; see legate-trace --help");
    let mut command = RunCommand::default();
    let mut chosen = false;
    let mut given = Vec::new();
    while let Some(argument) = parser.next().map_err(text)? {
        once(&mut given, &argument)?;
        if let Long(name @ ("summary" | "reasons" | "lane" | "from" | "to")) = argument {
            let name = name.to_string();
            read_excerpt(&mut command.excerpt, &name, parser)?;
            continue;
        }
        match argument {
            Long("scenario") => {
                let name = parser.value().and_then(ValueExt::string).map_err(text)?;
                command.scenario = if name == "all" { None } else { Some(read_scenario(&name)?) };
                chosen = true;
            }
            Long("recorder") => command.recorder = true,
            Long("recorded") => command.recorded = Some(parser.value().map_err(text)?.into()),
            Long("html") => command.html = Some(parser.value().map_err(text)?.into()),
            other => match command.proxies.place(&other) {
                Some(place) => *place = Some(parser.value().map_err(text)?.into()),
                None => return Err(text(other.unexpected())),
            },
        }
    }
    if command.recorded.is_some() {
        let proxies = &command.proxies;
        let other = [(&proxies.envoy, "--envoy"), (&proxies.config, "-c")];
        if let Some((_, other)) = other.iter().find(|(given, _)| given.is_some()) {
            return Err(format!("run: {other} says nothing of what is --recorded"));
        }
    }
    match chosen {
        true => Ok(command),
        false => Err("run: --scenario is missing; see legate-trace --help".to_string()),
    }
}

fn parse_syscalls(parser: &mut lexopt::Parser) -> Result<SyscallsCommand, String> {
    let text = |e: lexopt::Error| format!("syscalls: {e}; see legate-trace --help");
    let mut command = SyscallsCommand { proxies: Proxies::default(), requests: 200 };
    let mut given = Vec::new();
    while let Some(argument) = parser.next().map_err(text)? {
        once(&mut given, &argument)?;
        match argument {
            lexopt::Arg::Long("requests") => {
                command.requests = parser.value().and_then(|v| v.parse()).map_err(text)?;
            }
            other => match command.proxies.place(&other) {
                Some(place) => *place = Some(parser.value().map_err(text)?.into()),
                None => return Err(text(other.unexpected())),
            },
        }
    }
    match command.requests {
        0 => Err("syscalls: --requests is at least 1".to_string()),
        _ => Ok(command),
    }
}

fn parse_compare(parser: &mut lexopt::Parser) -> Result<CompareCommand, String> {
    let text = |e: lexopt::Error| format!("compare: {e}; see legate-trace --help");
    let mut files: Vec<PathBuf> = Vec::new();
    let mut html = None;
    let mut scenario = None;
    let mut per_connection = false;
    let mut excerpt = Excerpt::default();
    let mut given = Vec::new();
    while let Some(argument) = parser.next().map_err(text)? {
        once(&mut given, &argument)?;
        match argument {
            lexopt::Arg::Long(name @ ("summary" | "reasons" | "lane" | "from" | "to")) => {
                let name = name.to_string();
                read_excerpt(&mut excerpt, &name, parser)?;
            }
            lexopt::Arg::Value(file) => files.push(file.into()),
            lexopt::Arg::Long("per-connection") => per_connection = true,
            lexopt::Arg::Long("scenario") => {
                scenario = Some(read_scenario(&parser.value().and_then(ValueExt::string).map_err(text)?)?);
            }
            lexopt::Arg::Long("html") => html = Some(parser.value().map_err(text)?.into()),
            other => return Err(text(other.unexpected())),
        }
    }
    match <[PathBuf; 2]>::try_from(files) {
        Ok([envoy, legate]) => Ok(CompareCommand { envoy, legate, scenario, per_connection, html, excerpt }),
        Err(files) => {
            Err(format!("compare: it takes two files, Envoy's log and legate's, not {}", files.len()))
        }
    }
}

/// Refuses an option that was given before.
fn once(given: &mut Vec<String>, argument: &lexopt::Arg<'_>) -> Result<(), String> {
    let name = match argument {
        lexopt::Arg::Long(name) => format!("--{name}"),
        lexopt::Arg::Short(letter) => format!("-{letter}"),
        lexopt::Arg::Value(_) => return Ok(()),
    };
    if given.contains(&name) && name != "--lane" {
        return Err(format!("{name} is given twice"));
    }
    given.push(name);
    Ok(())
}

fn read_scenario(name: &str) -> Result<&'static Scenario, String> {
    let none = || format!("no scenario is called '{name}'; legate-trace scenarios lists them");
    scenarios::named(name).ok_or_else(none)
}

fn read_excerpt(excerpt: &mut Excerpt, name: &str, parser: &mut lexopt::Parser) -> Result<(), String> {
    match name {
        "summary" => excerpt.differing = true,
        "reasons" => excerpt.reasons = true,
        _ => return read_part(excerpt, name, parser),
    }
    Ok(())
}

fn read_part(excerpt: &mut Excerpt, name: &str, parser: &mut lexopt::Parser) -> Result<(), String> {
    let value = parser.value().and_then(ValueExt::string).map_err(|e| format!("--{name}: {e}"))?;
    match name {
        "lane" if !LaneId::KINDS.contains(&value.as_str()) => {
            let kinds = LaneId::KINDS.join(", ");
            return Err(format!("--lane: no kind of lane is called '{value}'; there is {kinds}"));
        }
        "lane" => excerpt.lanes.push(value),
        "from" => excerpt.from = Some(value),
        _ => excerpt.to = Some(value),
    }
    Ok(())
}

fn scenario_list() -> String {
    let mut out = String::new();
    for Scenario { name, about, .. } in scenarios::all() {
        let _ = writeln!(out, "{name:<28} {about}");
    }
    out
}

impl Proxies {
    /// Where the value of an option goes.
    fn place(&mut self, option: &lexopt::Arg<'_>) -> Option<&mut Option<PathBuf>> {
        Some(match option {
            lexopt::Arg::Long("envoy") => &mut self.envoy,
            lexopt::Arg::Long("legate") => &mut self.legate,
            lexopt::Arg::Long("config-path") | lexopt::Arg::Short('c') => &mut self.config,
            lexopt::Arg::Long("keep") => &mut self.keep,
            _ => return None,
        })
    }

    /// Envoy's binary.
    ///
    /// # Errors
    /// None is given and none is found.
    pub fn envoy(&self) -> Result<PathBuf, String> {
        let given = self
            .envoy
            .clone()
            .or_else(|| std::env::var_os("ENVOY_BIN").filter(|path| !path.is_empty()).map(PathBuf::from));
        given.or_else(envoy_in_venv).or_else(|| in_path("envoy")).ok_or_else(|| {
            "no Envoy: name one with --envoy, or run `make test`, which installs it into .venv".to_string()
        })
    }

    /// legate's binary.
    ///
    /// # Errors
    /// None is given and none is beside this program.
    pub fn legate(&self) -> Result<PathBuf, String> {
        let beside = || {
            let own = std::env::current_exe().ok()?;
            Some(own.with_file_name("legate")).filter(|path| path.exists())
        };
        let found = self.legate.clone().or_else(beside);
        found.ok_or_else(|| "no legate beside this program: name one with --legate".to_string())
    }

    /// Where logs go: the directory of `--keep`, or one that is removed at the end.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self) -> Result<Directory, String> {
        let temporary = || std::env::temp_dir().join(format!("legate-trace-{}", std::process::id()));
        let path = self.keep.clone().unwrap_or_else(temporary);
        std::fs::create_dir_all(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        interrupt::note_directory(self.keep.is_none().then_some(path.as_path()));
        Ok(Directory { path, is_kept: self.keep.is_some() })
    }
}

/// A directory that goes when it is dropped, unless it is to be kept.
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    is_kept: bool,
}

impl Directory {
    /// Where it is, if it is kept.
    pub fn kept(&self) -> Option<&Path> {
        self.is_kept.then_some(self.path.as_path())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn envoy_in_venv() -> Option<PathBuf> {
    let pythons = std::fs::read_dir(".venv/lib").ok()?;
    let binary = |python: PathBuf| python.join("site-packages/envoy/_bin/envoy");
    pythons.filter_map(Result::ok).map(|entry| binary(entry.path())).find(|path| path.exists())
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(words: &str) -> String {
        let words = std::iter::once("legate-trace").chain(words.split_whitespace());
        match parse(words.map(OsString::from)) {
            Err(error) => error,
            Ok(_) => panic!("it is taken"),
        }
    }

    #[test]
    fn a_run_is_read() {
        let words =
            ["legate-trace", "run", "--scenario", "pipelined", "--envoy=/e", "-c", "x.yaml", "--summary"];
        let Ok(Command::Run(command)) = parse(words.map(OsString::from)) else { panic!() };
        assert_eq!(command.scenario.map(|s| s.name), Some("pipelined"));
        assert_eq!(command.proxies.envoy(), Ok(PathBuf::from("/e")));
        assert_eq!(command.proxies.config, Some(PathBuf::from("x.yaml")));
        assert!(command.excerpt.differing && command.html.is_none());
    }

    #[test]
    fn help_and_version_are_given_everywhere() {
        for (words, want) in [
            ("run --help", USAGE),
            ("compare -h", USAGE),
            ("--help", USAGE),
            ("--version", concat!("legate-trace ", env!("CARGO_PKG_VERSION"), "\n")),
        ] {
            let words = std::iter::once("legate-trace").chain(words.split_whitespace());
            match parse(words.map(OsString::from)) {
                Ok(Command::Print(text)) => assert_eq!(text, want),
                _ => panic!("nothing is printed"),
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(error(""), "nothing to do; see legate-trace --help");
        assert!(error("walk").contains("no command is called walk"));
        assert!(error("run").contains("--scenario is missing"));
        assert!(error("run --scenario x").contains("no scenario is called 'x'"));
        assert!(error("run --scenario all --fast").contains("--fast"));
        assert!(error("run --lane x").contains("no kind of lane is called 'x'; there is downstream, "));
        assert!(error("syscalls --requests 0").contains("at least 1"));
        assert!(error("compare a").contains("it takes two files"));
        assert_eq!(error("run --scenario all --keep a --keep b"), "--keep is given twice");
        assert!(error("compare a b --per-connection --per-connection").contains("given twice"));
        assert!(!error("run --lane pool --lane loop").contains("twice"));
    }
}
