//! `make fuzz`: the mutation loop over all targets, or one. See `--help`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use legate::logger::{self, LogOptions};
use legate_fuzz::driver::{self, Limits};
use legate_fuzz::memory::Counting;
use legate_fuzz::{TARGETS, Target, find};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const USAGE: &str = "\
usage: fuzz [OPTION]...         run targets one after the other, each in a process of its own
       fuzz --input FILE --target NAME      run one input
       fuzz --minimize FILE --target NAME   make an input that fails as short as possible

  --target NAME    only this target (may be given more than once)
  --seconds N      how long for each target (60)
  --inputs N       how many inputs for each target, in place of a time
  --seed N         another sequence of inputs (1)
  --log            with legate's own log, on all levels
  --list           names of the targets
  --seeds FOLDER   write the target's seeds to files there, for another fuzzer

An input that breaks an invariant is written to fuzz/artifacts/NAME-HASH, and the run goes on with the next
target; the exit status is then 1.
";

#[derive(Default)]
struct Options {
    targets: Vec<String>,
    seconds: Option<u64>,
    inputs: Option<u64>,
    seed: Option<u64>,
    input: Option<PathBuf>,
    minimize: Option<PathBuf>,
    seeds: Option<PathBuf>,
    log: bool,
    /// This is the process of one target.
    child: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuzz: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.log {
        let level = logger::Level::Trace;
        logger::init(LogOptions { level, ..LogOptions::default() }).expect("a log");
    }
    if let Some(path) = &options.input {
        return run_input(&options, path);
    }
    if let Some(path) = &options.minimize {
        return minimize(&options, path);
    }
    if let Some(folder) = &options.seeds {
        return write_seeds(last_target(&options), folder);
    }
    if options.child {
        return run_child(&options);
    }
    let all = TARGETS.iter().map(|target| target.name);
    let names: Vec<&str> = if options.targets.is_empty() {
        all.collect()
    } else {
        options.targets.iter().map(String::as_str).collect()
    };
    let failed = names.iter().filter(|name| !spawn(name)).count();
    ExitCode::from(u8::from(failed > 0))
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        let number = |text: String| text.parse().map(Some).map_err(|_| format!("{text} is no number"));
        match arg.as_str() {
            "--target" => {
                let name = value()?;
                find(&name).ok_or(format!("no target {name}"))?;
                options.targets.push(name);
            }
            "--seconds" => options.seconds = number(value()?)?,
            "--inputs" => options.inputs = number(value()?)?,
            "--seed" => options.seed = number(value()?)?,
            "--input" => options.input = Some(value()?.into()),
            "--minimize" => options.minimize = Some(value()?.into()),
            "--seeds" => options.seeds = Some(value()?.into()),
            "--log" => options.log = true,
            "--child" => options.child = true,
            "--list" => {
                TARGETS.iter().for_each(|target| println!("{}", target.name));
                return Ok(None);
            }
            "--help" => {
                print!("{USAGE}");
                return Ok(None);
            }
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(Some(options))
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("a path"))
}

/// Runs a target in a process of its own.
fn spawn(name: &str) -> bool {
    let own = std::env::args_os().skip(1);
    let status = this_program().args(own).args(["--child", "--target", name]).status();
    let fine = status.as_ref().is_ok_and(std::process::ExitStatus::success);
    if !fine && !matches!(status.as_ref().map(|s| s.code()), Ok(Some(1))) {
        println!("{name:10} ended badly: {status:?}");
    }
    fine
}

fn last_target(options: &Options) -> &'static Target {
    let name = options.targets.last().expect("--target");
    find(name).expect("a target")
}

fn run_child(options: &Options) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let target = last_target(options);
    let seconds = options.seconds.or(if options.inputs.is_some() { Some(1 << 30) } else { Some(60) });
    let limits = Limits {
        time: Duration::from_secs(seconds.unwrap_or(60)),
        inputs: options.inputs.unwrap_or(u64::MAX),
    };
    let report = driver::run(target, options.seed.unwrap_or(1), limits, |target, input| {
        println!("{:10} HANGS: {}", target.name, save(target, input).display());
        std::process::exit(1);
    });
    let rate = report.inputs as f64 / report.time.as_secs_f64();
    println!(
        "{:10} {:>10} inputs in {:.1} s, {rate:.0} a second, {} kept",
        target.name,
        report.inputs,
        report.time.as_secs_f64(),
        report.kept
    );
    let Some((input, problem)) = report.failure else { return ExitCode::SUCCESS };
    println!("{:10} FAILS: {}\n{problem}", target.name, save(target, &input).display());
    ExitCode::FAILURE
}

fn save(target: &Target, input: &[u8]) -> PathBuf {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(input);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts");
    let path = folder.join(format!("{}-{hash:016x}", target.name));
    let saved = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input));
    if let Err(error) = saved {
        println!("{}: {error}", path.display());
    }
    path
}

fn write_seeds(target: &Target, folder: &Path) -> ExitCode {
    for (number, seed) in target.seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:02}")), seed).expect("room for a seed");
    }
    ExitCode::SUCCESS
}

fn run_input(options: &Options, path: &Path) -> ExitCode {
    let input = fs::read(path).expect("the input");
    match driver::check(last_target(options), &input) {
        Ok(signature) => {
            println!("fine: {signature:016x}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            println!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// How an input fails, in a process of its own; `None` when it does not.
fn failure(target: &Target, path: &OsStr) -> Option<String> {
    let seconds = "10";
    let program = std::env::current_exe().expect("a path");
    let output = Command::new("timeout")
        .arg(seconds)
        .arg(program)
        .args(["--target", target.name, "--input"])
        .arg(path)
        .output()
        .expect("timeout(1)");
    if output.status.success() {
        return None;
    }
    // Numbers differ from input to input.
    let text = String::from_utf8_lossy(&output.stdout);
    let words: Vec<&str> =
        text.split_whitespace().take(6).filter(|word| !word.contains(|c: char| c.is_ascii_digit())).collect();
    Some(format!("{:?} {}", output.status.code(), words.join(" ")))
}

fn minimize(options: &Options, path: &Path) -> ExitCode {
    let target = last_target(options);
    let mut best = fs::read(path).expect("the input");
    let Some(wanted) = failure(target, path.as_os_str()) else {
        println!("it does not fail");
        return ExitCode::FAILURE;
    };
    let try_path = path.with_extension("try");
    let fails = |input: &[u8]| {
        fs::write(&try_path, input).expect("room for the input");
        failure(target, try_path.as_os_str()).as_ref() == Some(&wanted)
    };
    let mut size = best.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < best.len() {
            let mut shorter = best.clone();
            shorter.drain(at..(at + size).min(best.len()));
            if fails(&shorter) {
                best = shorter;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    let _ = fs::remove_file(&try_path);
    let result = path.with_extension("min");
    fs::write(&result, &best).expect("room for the input");
    println!("{wanted}\n{} bytes: {}\n{:?}", best.len(), result.display(), String::from_utf8_lossy(&best));
    ExitCode::SUCCESS
}
