//! `legate-trace`: lays what legate does beside what Envoy does, stage by stage.
//!
//! The input are logs of `-l trace`. Each line becomes a stage ([`stage_texts`]), the stages go to lanes, one per connection
//! ([`lanes`]), the lanes are aligned ([`compare`]) and what differs is looked up among the documented differences
//! ([`differences`]). `run` makes the logs itself: it plays [`scenarios`] with both proxies.

mod bootstrap;
mod command_line;
mod compare;
mod differences;
mod html;
mod lanes;
mod log_line;
mod players;
mod proxy;
mod recorder;
mod report;
mod run;
mod scenarios;
mod stage_texts;
mod syscalls;

use std::path::Path;
use std::process::ExitCode;

use command_line::{Command, CompareCommand, Proxies, RunCommand, SyscallsCommand};
use compare::{Comparison, Counts, Mode};
use differences::Difference;
use scenarios::{SCENARIOS, Scenario};
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
    let (envoy, legate) = (command.proxies.envoy()?, command.proxies.legate()?);
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
        None => SCENARIOS.iter().collect(),
    };
    let mut comparisons = Vec::new();
    let mut excerpt = command.excerpt.clone();
    excerpt.differing |= command.scenario.is_none();
    for scenario in &chosen {
        let comparison = setting.run(scenario)?;
        print!("{}", report::side_by_side(&comparison, &differences, &excerpt));
        comparisons.push(comparison);
    }
    print_summary(&comparisons);
    // The recorder does not know all stages, so not all differences can occur.
    if command.scenario.is_none() && !command.recorder {
        let used: std::collections::BTreeSet<usize> = comparisons.iter().flat_map(Comparison::used).collect();
        for (index, difference) in
            differences.iter().enumerate().filter(|(i, d)| !used.contains(i) && !d.sometimes)
        {
            let (number, stage) = (index + 1, &difference.stage);
            println!("documented, but it does not occur: ({number}) {stage} [{}]", difference.since);
        }
    }
    if let Some(kept) = directory.kept() {
        println!("logs: {}", kept.display());
    }
    write_page(command.html.as_deref(), &comparisons, &differences)?;
    Ok(exit_code(&comparisons))
}

fn write_page(file: Option<&Path>, all: &[Comparison], differences: &[Difference]) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, html::page(all, differences))
        .map_err(|e| format!("cannot write {}: {e}", file.display()))
}

fn print_summary(comparisons: &[Comparison]) {
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
    for comparison in comparisons {
        let [envoy, legate] = &comparison.downstream_by_worker;
        if envoy.len() > 1 || legate.len() > 1 {
            println!("{}: connections by worker: Envoy {envoy:?}, legate {legate:?}", comparison.scenario);
        }
    }
}

fn exit_code(comparisons: &[Comparison]) -> u8 {
    let differ = comparisons.iter().any(Comparison::differs);
    if differ { DIFFERENT } else { EQUAL }
}

fn count_syscalls(SyscallsCommand { proxies, requests }: &SyscallsCommand) -> Result<u8, String> {
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

fn compare_logs(command: &CompareCommand) -> Result<u8, String> {
    let texts = StageTexts::built_in()?;
    command.excerpt.check(&texts)?;
    let differences = differences::built_in()?;
    let read = |file: &Path| {
        let bytes = std::fs::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        let trace = match recorder::is_recording(&text) {
            true => recorder::read(&text).map_err(|e| format!("{}: {e}", file.display()))?,
            false => lanes::read(&texts, &text, 1),
        };
        match trace.lanes.is_empty() {
            true => {
                Err(format!("{}: no connection's trace in it (was it run with -l trace?)", file.display()))
            }
            false => Ok(trace),
        }
    };
    let (mut envoy, legate) = (read(&command.envoy)?, read(&command.legate)?);
    let head = std::fs::read(&command.legate).unwrap_or_default();
    if recorder::is_recording(&String::from_utf8_lossy(&head)) {
        recorder::keep_recorded(&mut envoy);
    }
    let (name, mode) = command.scenario.map_or(("", Mode::InOrder), |s| (s.name, s.mode));
    let comparison = compare::compare(&envoy, &legate, name, mode, &differences);
    print!("{}", report::side_by_side(&comparison, &differences, &command.excerpt));
    let comparisons = [comparison];
    print_summary(&comparisons);
    write_page(command.html.as_deref(), &comparisons, &differences)?;
    Ok(exit_code(&comparisons))
}
