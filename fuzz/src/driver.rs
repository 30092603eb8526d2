//! The mutation loop: runs a target over its seeds, then over what mutation makes of them, and keeps what
//! led to something new. The same seed gives the same inputs.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::time::{ClockId, clock_gettime};

use super::Target;
use super::memory;
use super::mutate::mutate;

/// An input that the process works on for longer has hung. (CPU time: a busy machine is no hang.)
const HANG: Duration = Duration::from_secs(10);

/// So has one for which it waits so long, and does nothing meanwhile.
const BLOCKED: Duration = Duration::from_secs(30);

/// How often to look whether an input has hung.
const LOOK: Duration = Duration::from_millis(500);

/// CPU time that an input may take.
const MOST_TIME: Duration = Duration::from_secs(1);

/// Inputs kept beside the seeds.
const MAX_CORPUS: usize = 4096;

/// How long a run goes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub time: Duration,
    pub inputs: u64,
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    pub inputs: u64,
    pub time: Duration,
    /// Inputs that led to something new.
    pub kept: usize,
    /// The input that broke an invariant, and how.
    pub failure: Option<(Vec<u8>, String)>,
}

/// Runs `target` until a limit is reached or an invariant breaks.
pub fn run(target: &Target, seed: u64, limits: Limits, on_hang: fn(&Target, &[u8])) -> Report {
    let watch = Watch::start(target, on_hang);
    let mut rng = Rng::with_seed(seed);
    let mut corpus: Vec<Vec<u8>> = target.seeds.iter().map(|seed| seed.to_vec()).collect();
    let mut seen = HashSet::new();
    let start = Instant::now();
    let mut report = Report { inputs: 0, time: Duration::ZERO, kept: 0, failure: None };
    let seeds = corpus.len();
    while report.inputs < limits.inputs
        && (!report.inputs.is_multiple_of(64) || start.elapsed() < limits.time)
    {
        let number = report.inputs as usize;
        let input = if number < seeds { corpus[number].clone() } else { next(&mut rng, &corpus, target) };
        watch.begin(&input);
        let outcome = check(target, &input);
        watch.end();
        report.inputs += 1;
        match outcome {
            Err(problem) => {
                report.failure = Some((input, problem));
                break;
            }
            Ok(signature) => {
                if seen.insert(signature) && number >= seeds {
                    report.kept += 1;
                    keep(&mut rng, &mut corpus, seeds, input);
                }
            }
        }
    }
    report.time = start.elapsed();
    report
}

/// Runs the target on each of the inputs; stops at the one that breaks an invariant.
pub fn each(
    target: &Target,
    inputs: impl IntoIterator<Item = Vec<u8>>,
    on_hang: fn(&Target, &[u8]),
) -> Option<(Vec<u8>, String)> {
    let watch = Watch::start(target, on_hang);
    inputs.into_iter().find_map(|input| {
        watch.begin(&input);
        let outcome = check(target, &input);
        watch.end();
        outcome.err().map(|problem| (input, problem))
    })
}

fn next(rng: &mut Rng, corpus: &[Vec<u8>], target: &Target) -> Vec<u8> {
    let mut input = corpus[rng.usize(..corpus.len())].clone();
    let other = &corpus[rng.usize(..corpus.len())];
    mutate(rng, &mut input, target.dictionary, other, target.max_len);
    input
}

fn keep(rng: &mut Rng, corpus: &mut Vec<Vec<u8>>, seeds: usize, input: Vec<u8>) {
    if corpus.len() < MAX_CORPUS {
        corpus.push(input);
    } else {
        let place = rng.usize(seeds..corpus.len());
        corpus[place] = input;
    }
}

/// Runs the target on one input.
///
/// # Errors
/// The invariant that broke.
pub fn check(target: &Target, input: &[u8]) -> Result<u64, String> {
    let start = time(ClockId::CLOCK_THREAD_CPUTIME_ID);
    let (outcome, peak) = memory::peak_of(|| catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    let signature = outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("panic: {}", text.unwrap_or("no text"))
    })?;
    check_memory(target, input.len(), peak)?;
    let took = time(ClockId::CLOCK_THREAD_CPUTIME_ID) - start;
    if took > MOST_TIME {
        return Err(format!("time: an input of {} bytes took {took:?}", input.len()));
    }
    Ok(signature)
}

fn time(clock: ClockId) -> Duration {
    clock_gettime(clock).expect("a clock").into()
}

fn check_memory(target: &Target, length: usize, peak: usize) -> Result<(), String> {
    let (constant, per_byte) = target.memory;
    let most = constant + per_byte * length;
    if peak > most {
        return Err(format!("memory: an input of {length} bytes held {peak} bytes, above {most}"));
    }
    Ok(())
}

/// The input under way, for the thread that looks whether it ends.
struct Watch {
    shared: Arc<(Mutex<Watched>, Condvar)>,
}

#[derive(Default)]
struct Watched {
    number: u64,
    running: bool,
    input: Vec<u8>,
    over: bool,
}

impl Watch {
    fn start(target: &Target, on_hang: fn(&Target, &[u8])) -> Watch {
        let target = Target { ..*target };
        let shared = Arc::new((Mutex::new(Watched::default()), Condvar::new()));
        let watched = shared.clone();
        std::thread::spawn(move || {
            let (state, over) = &*watched;
            let mut last = (0, Duration::ZERO, Instant::now());
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            while !state.over {
                state = over.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
                let now = time(ClockId::CLOCK_PROCESS_CPUTIME_ID);
                if !state.running || state.number != last.0 {
                    last = (state.number, now, Instant::now());
                    continue;
                }
                let (used, waited) = (now - last.1, last.2.elapsed());
                // One that waits for something uses no time at all.
                let is_blocked = waited > BLOCKED && used < waited / 100;
                if (used > HANG || is_blocked) && !state.over {
                    on_hang(&target, &state.input);
                }
            }
        });
        Watch { shared }
    }

    fn begin(&self, input: &[u8]) {
        let mut state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.number += 1;
        state.running = true;
        state.input.clear();
        state.input.extend_from_slice(input);
    }

    fn end(&self) {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).running = false;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.shared.1.notify_all();
    }
}
