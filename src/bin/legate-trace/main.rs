//! `legate-trace`: lays what legate does beside what Envoy does, stage by stage.
//!
//! The input are logs of `-l trace`. Each line becomes a stage ([`stage_texts`]), the stages go to lanes, one per connection
//! ([`lanes`]), the lanes are aligned ([`compare`]) and what differs is looked up ([`judge`]) among the documented differences
//! ([`differences`]). `run` makes the logs itself: it plays [`scenarios`] with both proxies.

mod across;
mod added_up;
mod align;
mod bootstrap;
mod command_line;
mod compare;
mod differences;
mod extent;
mod html;
mod interrupt;
mod joined;
mod judge;
mod lanes;
mod laws;
mod log_line;
mod pairing;
mod players;
mod proxy;
mod recorder;
mod report;
mod requests;
mod run;
mod scenarios;
mod stage_texts;
mod syscalls;
#[cfg(test)]
mod texts_exist;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use command_line::{Command, CompareCommand, Proxies, RunCommand, SyscallsCommand};
use compare::{Comparison, Counts, Mode, Terms};
use differences::Difference;
use extent::Extent;
use html::Page;
use lanes::{ProxyKind, Trace};
use report::Excerpt;
use run::{Model, NotCompared};
use scenarios::Scenario;
use stage_texts::StageTexts;

/// Equal up to the documented differences.
const EQUAL: u8 = 0;
/// Not equal.
const DIFFERENT: u8 = 1;
/// Not compared.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let outcome = command_line::parse(std::env::args_os()).and_then(|command| match command {
        Command::Print(text) => {
            print!("{text}");
            Ok(EQUAL)
        }
        Command::Run(command) => run_scenarios(&command),
        Command::Compare(command) => compare_logs(&command),
        Command::Syscalls(command) => count_syscalls(&command),
    });
    ExitCode::from(outcome.unwrap_or_else(|error| {
        eprintln!("legate-trace: {error}");
        FAILED
    }))
}

fn run_scenarios(command: &RunCommand) -> Result<u8, String> {
    let texts = StageTexts::built_in()?;
    command.excerpt.check(&texts)?;
    let differences = differences::built_in()?;
    let Proxies { config, .. } = &command.proxies;
    let envoy = match &command.recorded {
        Some(directory) => Model::Recorded(directory.clone()),
        None => Model::Binary(command.proxies.envoy()?),
    };
    let legate = command.proxies.legate()?;
    let page = PageFile::new(command.html.as_deref())?;
    bootstrap::Bootstrap::load(config.as_deref())?;
    interrupt::listen();
    let directory = command.proxies.directory()?;
    let setting = run::Setting {
        envoy: &envoy,
        legate: &legate,
        config: config.as_deref(),
        directory: &directory.path,
        texts: &texts,
        differences: &differences,
        recorder: command.recorder,
    };
    let chosen: Vec<&Scenario> = match command.scenario {
        Some(one) => vec![one],
        None => scenarios::all().collect(),
    };
    let (mut comparisons, mut others) = (Vec::new(), Vec::new());
    let mut excerpt = command.excerpt.clone();
    excerpt.differing |= command.scenario.is_none();
    for scenario in &chosen {
        match setting.run(scenario) {
            Ok(comparison) => {
                print!("{}", report::side_by_side(&comparison, &differences, &excerpt));
                comparisons.push(comparison);
            }
            Err(why) => {
                match &why {
                    NotCompared::Skipped(_) | NotCompared::NotRecorded(_) => {
                        println!("{}", why.text(scenario.name));
                    }
                    NotCompared::Failed(_) if chosen.len() == 1 => return Err(why.text(scenario.name)),
                    NotCompared::Failed(_) => eprintln!("legate-trace: {}", why.text(scenario.name)),
                }
                others.push((scenario.name, why));
            }
        }
    }
    let mut notes = print_summary(&comparisons, &others, &differences);
    print_reasons(&command.excerpt, &comparisons, &differences);
    // Not all differences can occur: the recorder does not know all stages, and another configuration does not pass them.
    let is_missing = |(_, why): &(&str, NotCompared)| matches!(why, NotCompared::NotRecorded(_));
    let is_whole = command.scenario.is_none() && others.iter().all(is_missing);
    let stale = match is_whole && !command.recorder && config.is_none() {
        true => never_used(&comparisons, &differences),
        false => Vec::new(),
    };
    let lines = report::stale_lines("", &stale, &differences);
    lines.iter().for_each(|line| println!("{line}"));
    notes.extend(lines);
    if let Some(kept) = directory.kept() {
        println!("logs: {}", kept.display());
    }
    let excerpt = &command.excerpt;
    page.write(&Page { comparisons: &comparisons, differences: &differences, excerpt, notes: &notes })?;
    let has_failed = others.iter().any(|(_, why)| matches!(why, NotCompared::Failed(_)));
    Ok(match exit_code(&comparisons) {
        _ if has_failed || comparisons.is_empty() => FAILED,
        EQUAL if !stale.is_empty() => DIFFERENT,
        code => code,
    })
}

/// Documented differences that occur nowhere, though it is not up to the time.
fn never_used(comparisons: &[Comparison], differences: &[Difference]) -> Vec<usize> {
    let used: BTreeSet<usize> = comparisons.iter().flat_map(Comparison::used).collect();
    let has_to_be = |difference: &Difference| {
        let scenario =
            |c: &Comparison| difference.scenarios.is_empty() || difference.scenarios.contains(&c.scenario);
        let can_be = |c: &Comparison| difference.is_known_of(c.dialect) && scenario(c);
        !difference.sometimes && comparisons.iter().any(can_be)
    };
    (0..differences.len()).filter(|i| !used.contains(i) && has_to_be(&differences[*i])).collect()
}

/// The file of `--html`; it is made at once, so that it is known to be writable.
struct PageFile<'a>(Option<(&'a Path, File)>);

impl<'a> PageFile<'a> {
    fn new(path: Option<&'a Path>) -> Result<PageFile<'a>, String> {
        let open = |path: &'a Path| match File::create(path) {
            Ok(file) => Ok((path, file)),
            Err(e) => Err(format!("cannot write {}: {e}", path.display())),
        };
        Ok(PageFile(path.map(open).transpose()?))
    }

    fn write(self, page: &Page) -> Result<(), String> {
        let Some((path, mut file)) = self.0 else { return Ok(()) };
        file.write_all(html::page(page).as_bytes())
            .map_err(|e| format!("cannot write {}: {e}", path.display()))
    }
}

/// Prints the summary, with the scenarios that were not compared and why; returns what is said below its table.
fn print_summary(
    comparisons: &[Comparison],
    others: &[(&str, NotCompared)],
    differences: &[Difference],
) -> Vec<String> {
    println!("{}", report::summary_head());
    let mut total = Counts::default();
    for comparison in comparisons {
        let counts = comparison.counts();
        println!("{}", report::summary_line(&comparison.scenario, counts));
        total.add(counts);
    }
    if comparisons.len() > 1 {
        println!("{}", report::summary_line("all", total));
    }
    let mut notes: Vec<String> = others.iter().map(|(name, why)| why.brief(name)).collect();
    for Comparison { scenario, downstream_by_worker: [envoy, legate], stale, .. } in comparisons {
        if envoy.len() > 1 || legate.len() > 1 {
            notes.push(format!("{scenario}: connections by worker: Envoy {envoy:?}, legate {legate:?}"));
        }
        report::stale_lines(scenario, stale, differences).iter().for_each(|line| println!("{line}"));
    }
    notes.iter().for_each(|line| println!("{}", line.trim_start_matches(": ")));
    notes
}

fn print_reasons(excerpt: &Excerpt, comparisons: &[Comparison], differences: &[Difference]) {
    if excerpt.reasons {
        report::reason_lines(comparisons, differences).iter().for_each(|line| println!("{line}"));
    }
}

fn exit_code(comparisons: &[Comparison]) -> u8 {
    let differ = comparisons.iter().any(Comparison::differs);
    if differ { DIFFERENT } else { EQUAL }
}

fn count_syscalls(SyscallsCommand { proxies, requests }: &SyscallsCommand) -> Result<u8, String> {
    interrupt::listen();
    let directory = proxies.directory()?;
    let count = |name: &str, binary: &Path| {
        let directory = directory.path.join("syscalls").join(name);
        syscalls::count(binary, proxies.config.as_deref(), &directory, *requests)
            .map_err(|e| format!("syscalls, with {name}: {e}"))
    };
    let (envoy, legate) = (count("envoy", &proxies.envoy()?)?, count("legate", &proxies.legate()?)?);
    print!("{}", syscalls::table(&envoy, &legate, *requests));
    Ok(EQUAL)
}

/// A log's trace, or a recording's, which has to be of that proxy.
fn read_trace(file: &Path, of: ProxyKind, texts: &StageTexts) -> Result<(Trace, bool), String> {
    let name = file.display();
    let bytes = std::fs::read(file).map_err(|e| format!("cannot read {name}: {e}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let is_recording = recorder::is_recording(&text);
    let trace = match is_recording {
        true => Trace {
            proxy: Some(ProxyKind::Legate),
            extent: Extent { has_trace: true, has_end: true, is_cut: false },
            ..recorder::read(&text).map_err(|e| format!("{name}: {e}"))?
        },
        false => lanes::read(texts, &text),
    };
    if !is_recording && trace.proxy == Some(of) && !trace.extent.has_trace {
        return Err(format!("{name} has no line of the level trace: {of} has to be run with -l trace"));
    }
    match trace.proxy {
        Some(proxy) if proxy != of => {
            Err(format!("{name} is of {proxy}, not of {of}: compare takes Envoy's log first, then legate's"))
        }
        _ if trace.lanes.is_empty() => {
            Err(format!("{name}: no connection's trace in it (was it run with -l trace?)"))
        }
        _ => Ok((trace, is_recording)),
    }
}

fn compare_logs(command: &CompareCommand) -> Result<u8, String> {
    let texts = StageTexts::built_in()?;
    command.excerpt.check(&texts)?;
    let differences = differences::built_in()?;
    let page = PageFile::new(command.html.as_deref())?;
    let (mut envoy, _) = read_trace(&command.envoy, ProxyKind::Envoy, &texts)?;
    let (legate, recorded) = read_trace(&command.legate, ProxyKind::Legate, &texts)?;
    if recorded {
        recorder::keep_recorded(&mut envoy);
    }
    let (scenario, mut mode) = command.scenario.map_or(("", Mode::Joined), |s| (s.name, s.mode));
    if command.per_connection {
        mode = Mode::PerConnection;
    }
    let terms = Terms { scenario, mode, differences: &differences, recorded };
    let mut comparison = compare::compare(&envoy, &legate, terms);
    comparison.notes.extend(extent::doubts(&envoy, &legate));
    print!("{}", report::side_by_side(&comparison, &differences, &command.excerpt));
    let comparisons = [comparison];
    let notes = print_summary(&comparisons, &[], &differences);
    print_reasons(&command.excerpt, &comparisons, &differences);
    let excerpt = &command.excerpt;
    page.write(&Page { comparisons: &comparisons, differences: &differences, excerpt, notes: &notes })?;
    Ok(exit_code(&comparisons))
}
