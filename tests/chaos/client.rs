//! A client that plays one connection: what it sends is drawn from a number, and what it gets has to fit.

use super::answers::Answers;
use super::ends::linger_not;
use super::plan::{Exchange, derive, mutate, once_in, pause};
use super::sites::{KINDS, Kind};
use super::upstream::{PATIENCE, Upstream};
use fastrand::Rng;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// One thing that the client does; it reads all the time.
#[derive(Clone, Debug)]
enum Step {
    /// Send.
    Send(Vec<u8>),
    /// Send nothing for a while.
    Pause(Duration),
    /// Neither send nor read for a while.
    Stall(Duration),
    /// Wait until so many answers have come.
    Answers(usize),
    /// Wait until so many bytes have come, but not long.
    Bytes(usize),
    /// Close the sending half.
    FinishWriting,
    /// Wait until the proxy closes.
    Closed,
    /// Close with a reset.
    Reset,
    /// Close.
    Close,
}

/// What one connection plays.
pub struct Plan {
    /// To which site.
    pub kind: Kind,
    exchanges: Vec<Exchange>,
    steps: Vec<Step>,
    /// All messages are what they should be.
    checked: bool,
    /// The client gives up before its requests are complete, or does not wait for the answers.
    cut: bool,
    small_buffer: bool,
    reads: usize,
}

impl Plan {
    /// The plan of that number.
    pub fn new(seed: u64) -> Plan {
        let mut rng = Rng::with_seed(seed);
        let kind = if once_in(&mut rng, 3) { Kind::Plain } else { KINDS[rng.usize(0..KINDS.len())] };
        let exchanges: Vec<Exchange> =
            (0..rng.u64(1..6)).map(|i| Exchange::new(derive(seed, i), kind)).collect();
        let mutated = once_in(&mut rng, 5);
        let pipelined = mutated || once_in(&mut rng, 3);
        let mut plan = Plan {
            kind,
            exchanges,
            steps: Vec::new(),
            checked: !mutated && kind != Kind::Wild,
            cut: false,
            small_buffer: once_in(&mut rng, 6),
            reads: [1, 100, 4_000, 65_536, 65_536][rng.usize(0..5)],
        };
        plan.requests(&mut rng, mutated, pipelined);
        if once_in(&mut rng, 3) {
            plan.give_up(&mut rng);
        } else {
            plan.end(&mut rng, mutated);
        }
        plan
    }

    fn requests(&mut self, rng: &mut Rng, mutated: bool, pipelined: bool) {
        let mut bytes = Vec::new();
        let mut steps = Vec::new();
        let mut ends = vec![0];
        for (number, exchange) in self.exchanges.iter().enumerate() {
            bytes.extend_from_slice(&exchange.request_head());
            if exchange.expects && !mutated {
                in_pieces(rng, &std::mem::take(&mut bytes), &mut steps);
                steps.push(Step::Pause(Duration::from_millis(rng.u64(0..10))));
            }
            bytes.extend_from_slice(&exchange.request_body());
            ends.push(bytes.len());
            if !pipelined {
                in_pieces(rng, &std::mem::take(&mut bytes), &mut steps);
                steps.push(Step::Answers(number + 1));
            }
        }
        if mutated {
            // It ends there, or goes on after a while.
            let at = mutate(rng, &mut bytes, &ends);
            let rest = bytes.split_off(if once_in(rng, 2) { at } else { bytes.len() });
            in_pieces(rng, &bytes, &mut steps);
            if once_in(rng, 2) {
                steps.push(Step::Pause(Duration::from_millis(rng.u64(0..10))));
                bytes = rest;
            }
        }
        in_pieces(rng, &bytes, &mut steps);
        self.steps = steps;
    }

    /// Ends as a client should, or does not care.
    fn end(&mut self, rng: &mut Rng, mutated: bool) {
        if mutated {
            self.steps.push(Step::Pause(Duration::from_millis(rng.u64(0..60))));
        } else {
            self.steps.push(Step::Answers(self.exchanges.len()));
        }
        self.steps.push(match rng.u32(0..5) {
            0 => Step::Reset,
            1 if self.kind.has_limits() => Step::Closed,
            2 => Step::FinishWriting,
            _ => Step::Close,
        });
    }

    /// Gives up at a random point: of what is sent, or of what is received.
    fn give_up(&mut self, rng: &mut Rng) {
        self.cut = true;
        if once_in(rng, 2) {
            let total: usize = self.steps.iter().map(Step::length).sum();
            let near = if once_in(rng, 2) { total } else { total.min(400) };
            self.cut_at(rng.usize(0..=near));
        } else {
            self.steps.truncate(rng.usize(0..=self.steps.len()));
            let bytes = [0, 1, 150, 1_000, 20_000, 300_000][rng.usize(0..6)];
            self.steps.push(Step::Bytes(if bytes == 0 { 0 } else { rng.usize(0..bytes) }));
        }
        if once_in(rng, 4) {
            self.steps.push(Step::Stall(Duration::from_millis(rng.u64(0..300))));
        }
        let end = match rng.u32(0..10) {
            0..4 => Step::Reset,
            4..6 => Step::Close,
            9 if self.kind.has_limits() => Step::Closed,
            _ => Step::FinishWriting,
        };
        self.steps.push(end);
    }

    /// The steps, a line each; pieces without a pause between them are one.
    fn show_steps(&self) -> String {
        let mut lines = Vec::new();
        for step in &self.steps {
            match (step, lines.last_mut()) {
                (Step::Send(bytes), Some(last @ Step::Send(_))) => {
                    let Step::Send(before) = last else { unreachable!() };
                    before.extend_from_slice(bytes);
                }
                _ => lines.push(step.clone()),
            }
        }
        lines.iter().map(Step::show).collect::<Vec<_>>().join("\n    ")
    }

    /// Leaves only the first `left` bytes of what is sent.
    fn cut_at(&mut self, mut left: usize) {
        let mut kept = Vec::new();
        for step in self.steps.drain(..) {
            if let Step::Send(bytes) = &step
                && bytes.len() >= left
            {
                kept.push(Step::Send(bytes[..left].to_vec()));
                break;
            }
            left -= step.length();
            kept.push(step);
        }
        self.steps = kept;
    }
}

impl Step {
    fn length(&self) -> usize {
        if let Step::Send(bytes) = self { bytes.len() } else { 0 }
    }

    fn show(&self) -> String {
        match self {
            Step::Send(bytes) if bytes.len() > 400 => {
                let (start, end) = (&bytes[..200], &bytes[bytes.len() - 100..]);
                format!("Send {} .. {} ({} bytes)", start.escape_ascii(), end.escape_ascii(), bytes.len())
            }
            Step::Send(bytes) => format!("Send {}", bytes.escape_ascii()),
            other => format!("{other:?}"),
        }
    }
}

/// Cuts bytes at random, behind a CR more often than elsewhere, with pauses between the pieces.
fn in_pieces(rng: &mut Rng, bytes: &[u8], steps: &mut Vec<Step>) {
    let mut cuts: Vec<usize> = match rng.u32(0..12) {
        0 => (0..bytes.len().min(200)).collect(),
        1..5 => (0..rng.usize(1..5)).map(|_| rng.usize(0..=bytes.len())).collect(),
        5..7 => {
            let near = &bytes[..bytes.len().min(3_000)];
            near.iter()
                .enumerate()
                .filter(|(_, b)| **b == b'\r' && once_in(rng, 3))
                .map(|(at, _)| at + 1)
                .collect()
        }
        _ => Vec::new(),
    };
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let mut from = 0;
    for cut in cuts {
        if cut > from {
            steps.push(Step::Send(bytes[from..cut].to_vec()));
            let rest = pause(rng);
            if !rest.is_zero() {
                steps.push(Step::Pause(rest));
            }
            from = cut;
        }
    }
}

/// What came of a connection.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The statuses of its answers.
    pub statuses: Vec<u16>,
    /// What is wrong, if something is.
    pub fault: Option<String>,
}

/// Plays a plan against a port.
pub fn play(plan: &Plan, port: u16, upstream: &Upstream) -> Outcome {
    let stream = match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
        Ok(stream) => stream,
        Err(error) => {
            return Outcome { fault: Some(format!("no connection: {error}")), ..Outcome::default() };
        }
    };
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.set_nonblocking(true).expect("no waiting");
    if plan.small_buffer {
        // A long body would take minutes through a window of two kilobytes.
        let long = plan.exchanges.iter().any(|e| e.response.1 > 8_000);
        setsockopt(&stream, sockopt::RcvBuf, &if long { 65_536 } else { 2_048 }).expect("SO_RCVBUF");
    }
    let answers = Answers::new(&plan.exchanges, plan.checked);
    let mut player = Player { stream, plan, answers, sent: 0, closed: false, begun: Instant::now() };
    let mut played = player.play();
    if player.closed {
        player.answers.finish();
    }
    if played.is_ok() {
        played = player.judge(upstream);
    }
    let statuses = player.answers.statuses.clone();
    let fault = played.err().map(|fault| {
        format!(
            "{fault}\n  {:?}, {} answers of {} bytes, {} ms; exchanges:\n    {}\n  steps:\n    {}\n  received at last:\n    {}",
            plan.kind,
            statuses.len(),
            player.answers.length,
            player.begun.elapsed().as_millis(),
            plan.exchanges.iter().map(|e| format!("{e:?}")).collect::<Vec<_>>().join("\n    "),
            plan.show_steps(),
            player.answers.tail.escape_ascii()
        )
    });
    Outcome { statuses, fault }
}

struct Player<'a> {
    stream: TcpStream,
    plan: &'a Plan,
    answers: Answers<'a>,
    /// Bytes of the step that is being sent.
    sent: usize,
    /// The proxy has closed, or reset.
    closed: bool,
    begun: Instant,
}

impl Player<'_> {
    fn play(&mut self) -> Result<(), String> {
        for step in &self.plan.steps {
            self.sent = 0;
            match step {
                Step::Reset => {
                    linger_not(&self.stream);
                    return Ok(());
                }
                Step::Close => return Ok(()),
                Step::FinishWriting => {
                    let _ = self.stream.shutdown(Shutdown::Write);
                    return self.until(&Step::Closed);
                }
                Step::Stall(time) => std::thread::sleep(*time),
                Step::Pause(time) => self.rest(step, *time)?,
                Step::Bytes(_) => self.rest(step, Duration::from_millis(200))?,
                step => self.until(step)?,
            }
            if self.closed {
                return Ok(());
            }
        }
        Ok(())
    }

    fn done(&self, step: &Step) -> bool {
        match step {
            Step::Send(bytes) => self.sent == bytes.len(),
            Step::Answers(count) => self.answers.have(*count),
            // A client that is given nothing more gives up, too.
            Step::Bytes(count) => {
                self.answers.length >= *count || self.answers.have(self.plan.exchanges.len())
            }
            _ => false,
        }
    }

    /// Takes turns until a step is done, or so much time has passed.
    fn rest(&mut self, step: &Step, time: Duration) -> Result<(), String> {
        let since = Instant::now();
        while since.elapsed() < time && !self.closed && !self.done(step) {
            self.turn(false, time - since.elapsed().min(time))?;
        }
        Ok(())
    }

    /// Takes turns until a step is done or the connection is over; something has to happen meanwhile.
    fn until(&mut self, step: &Step) -> Result<(), String> {
        let mut last = (self.sent, self.answers.length, Instant::now());
        while !self.closed && !self.done(step) {
            if let Step::Send(bytes) = step {
                self.write(&bytes[self.sent..]);
            }
            if !self.done(step) && !self.closed {
                self.turn(matches!(step, Step::Send(_)), Duration::from_secs(1))?;
            }
            if (self.sent, self.answers.length) != (last.0, last.1) {
                last = (self.sent, self.answers.length, Instant::now());
            }
            if last.2.elapsed() > PATIENCE {
                return Err(format!("the client hangs in {}", step.show()));
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) {
        match self.stream.write(bytes) {
            Ok(count) => self.sent += count,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            // What has come before the reset may still be read.
            Err(_) => self.sent += bytes.len(),
        }
    }

    /// Waits until something can be done, and reads.
    fn turn(&mut self, writes: bool, most: Duration) -> Result<(), String> {
        let wanted = if writes { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
        let mut fds = [PollFd::new(self.stream.as_fd(), wanted)];
        let most = PollTimeout::try_from(most + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut fds, most); // EINTR is one more turn
        // Small reads for a while; all of a long body would take too long.
        let size = if self.answers.length < 2_000 { self.plan.reads } else { 65_536 };
        let mut bytes = vec![0; size];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.closed = true,
            Ok(count) => return self.answers.feed(&bytes[..count]),
            Err(e) if e.kind() == ErrorKind::WouldBlock || e.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.closed = true,
        }
        Ok(())
    }

    /// Whether what came of the connection is what had to.
    fn judge(&self, upstream: &Upstream) -> Result<(), String> {
        if !self.plan.checked {
            return Ok(());
        }
        for (exchange, planned) in self.plan.exchanges.iter().zip(&self.answers.complete) {
            if !planned || !exchange.reads_first {
                continue;
            }
            let (length, seed) = (exchange.request.1, exchange.seed);
            let fits = match upstream.take_received(seed) {
                Some(received) => received.intact && received.length == length,
                None => false,
            };
            if !fits {
                return Err(format!("the request {seed:016x} came to the upstream in another form"));
            }
        }
        if !self.closed || self.plan.cut || self.may_close() {
            return Ok(());
        }
        Err("the connection was closed without an answer".into())
    }

    /// Whether the proxy may close before the next answer.
    fn may_close(&self) -> bool {
        // Behind a refusal, or the last request of a connection, what was sent already is not answered.
        let pipelined = !self.plan.steps.iter().any(|s| matches!(s, Step::Answers(1)));
        let next = self.plan.exchanges.get(self.answers.complete.len());
        let early = self.plan.exchanges[..self.answers.complete.len()].iter().any(|e| !e.reads_first);
        // The time limits are no shorter.
        let slow = self.begun.elapsed() > Duration::from_millis(500);
        slow || self.plan.kind == Kind::Tight
            || self.answers.says_close
            || self.answers.within()
            || early
            || pipelined
            || next.is_none()
    }
}
