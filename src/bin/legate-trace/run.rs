//! Plays a scenario with both proxies, or with legate beside a recorded log of Envoy's, and compares the logs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::bootstrap::{Bootstrap, HOST};
use crate::compare::{Comparison, Terms, compare};
use crate::differences::Difference;
use crate::lanes::{self, ProxyKind, Trace};
use crate::players::{Upstream, UpstreamKind};
use crate::proxy::{Launch, Proxy};
use crate::recorder;
use crate::scenarios::{Recorded, Scenario, Scene};
use crate::stage_texts::StageTexts;

/// Where Envoy's side comes from.
pub enum Model {
    /// This binary plays the scenario.
    Binary(PathBuf),
    /// It has been played: a directory for each scenario, with its `trace.log`.
    Recorded(PathBuf),
}

/// What `run` needs to know.
pub struct Setting<'a> {
    /// Envoy.
    pub envoy: &'a Model,
    /// legate's binary.
    pub legate: &'a Path,
    /// The configuration file, if it is not the built-in one.
    pub config: Option<&'a Path>,
    /// Where configurations and logs go, in a directory per scenario and proxy.
    pub directory: &'a Path,
    /// The table of texts.
    pub texts: &'a StageTexts,
    /// The documented differences.
    pub differences: &'a [Difference],
    /// Whether legate's stages come from its recorder.
    pub recorder: bool,
}

/// Why a scenario was not compared; each with the reason.
#[derive(Debug)]
pub enum NotCompared {
    /// It does not suit the user's configuration.
    Skipped(String),
    /// Envoy's side of it has not been recorded.
    NotRecorded(String),
    /// One of the proxies, or what is to watch them, does not work.
    Failed(String),
}

impl NotCompared {
    /// What is said when it happens.
    pub fn text(&self, scenario: &str) -> String {
        match self {
            NotCompared::Skipped(why) | NotCompared::NotRecorded(why) => {
                format!("{scenario}: skipped: {why}")
            }
            NotCompared::Failed(why) => format!("{scenario}, {why}"),
        }
    }

    /// The same in a line, for the summary.
    pub fn brief(&self, scenario: &str) -> String {
        self.text(scenario).lines().next().unwrap_or_default().to_string()
    }
}

impl Setting<'_> {
    /// Runs one scenario with both. Where it cannot be played to its end, what came until then is compared.
    ///
    /// # Errors
    /// A proxy does not start; the text says which. With a configuration of the user's, what neither of them can do is no
    /// failure.
    pub fn run(&self, scenario: &Scenario) -> Result<Comparison, NotCompared> {
        let recorded = match self.envoy {
            Model::Recorded(directory) => Some(self.recorded(scenario, directory)?),
            Model::Binary(_) => None,
        };
        let side = |proxy: ProxyKind, binary: &Path| {
            let name = proxy.to_string().to_lowercase();
            let recorder = self.recorder && proxy == ProxyKind::Legate;
            self.play(scenario, binary, &self.directory_of(scenario, &name), recorder)
                .and_then(|trace| match trace.proxy {
                    Some(other) if other != proxy => Err(format!("{} is {other}", binary.display())),
                    _ => Ok(trace),
                })
                .map_err(|e| format!("with {name}: {e}"))
        };
        let (envoy, legate) = std::thread::scope(|scope| {
            let envoy = match self.envoy {
                Model::Binary(binary) => Some(scope.spawn(|| side(ProxyKind::Envoy, binary))),
                Model::Recorded(_) => None,
            };
            let legate = side(ProxyKind::Legate, self.legate);
            let failed = || Err("the script panicked".to_string());
            (envoy.map(|envoy| envoy.join().unwrap_or_else(|_| failed())), legate)
        });
        let envoy = envoy.or_else(|| recorded.map(Ok)).expect("it is either played or recorded");
        let (mut envoy, legate) = match (envoy, legate) {
            (Ok(envoy), Ok(legate)) => (envoy, legate),
            (Err(why), Err(_)) if self.config.is_some() => return Err(NotCompared::Skipped(why)),
            (Err(why), _) | (_, Err(why)) => return Err(NotCompared::Failed(why)),
        };
        if let (Some(why), Some(_), Some(_)) = (&envoy.stuck, &legate.stuck, self.config) {
            return Err(NotCompared::Skipped(format!("with this configuration it gets stuck: {why}")));
        }
        if self.recorder {
            recorder::keep_recorded(&mut envoy);
        }
        let terms = Terms {
            scenario: scenario.name,
            mode: scenario.mode,
            differences: self.differences,
            recorded: self.recorder,
        };
        let mut comparison = compare(&envoy, &legate, terms);
        if self.config.is_some() {
            // What a scenario is known for may be configured otherwise.
            comparison.stale.clear();
        }
        Ok(comparison)
    }

    /// Envoy's side of a scenario, from the log of it.
    fn recorded(&self, scenario: &Scenario, directory: &Path) -> Result<Trace, NotCompared> {
        let file = directory.join(scenario.name).join("trace.log");
        let name = file.display();
        let log = match std::fs::read(&file) {
            Ok(log) => String::from_utf8_lossy(&log).into_owned(),
            Err(e) if e.kind() == ErrorKind::NotFound && directory.is_dir() => {
                return Err(NotCompared::NotRecorded(format!("there is no {name}")));
            }
            Err(e) => return Err(NotCompared::Failed(format!("cannot read {name}: {e}"))),
        };
        let trace = lanes::read(self.texts, &log);
        match trace.proxy {
            Some(ProxyKind::Envoy) if trace.extent.has_trace => Ok(trace),
            Some(ProxyKind::Envoy) => Err(NotCompared::Failed(format!("{name} was not made with -l trace"))),
            _ => Err(NotCompared::Failed(format!("{name} is no log of Envoy's"))),
        }
    }

    fn directory_of(&self, scenario: &Scenario, proxy: &str) -> PathBuf {
        self.directory.join(scenario.name).join(proxy)
    }

    fn play(
        &self,
        scenario: &Scenario,
        binary: &Path,
        directory: &Path,
        recorder: bool,
    ) -> Result<Trace, String> {
        let start = |kind: UpstreamKind| Upstream::new(kind).map_err(|e| format!("no upstream: {e}"));
        let upstream = start(scenario.upstream)?;
        let others: Vec<Upstream> =
            scenario.others.iter().map(|kind| start(*kind)).collect::<Result<_, _>>()?;
        let mut bootstrap = Bootstrap::load(self.config)?;
        bootstrap.set_addresses(upstream.address(), others.iter().map(Upstream::address).collect());
        let is_as_elsewhere =
            scenario.recorded == Recorded::Elsewhere && matches!(self.envoy, Model::Recorded(_));
        if is_as_elsewhere {
            bootstrap.be_as_elsewhere();
        }
        (scenario.configure)(&mut bootstrap);
        let stages = directory.join("stages.json");
        let options = [format!("--trace-stages={}", stages.display())];
        let launch = Launch {
            binary,
            wrapper: &[],
            options: if recorder { &options } else { &[] },
            concurrency: scenario.concurrency,
            log_level: "trace",
        };
        let answer_first = |answer: &str| {
            let mut peer = upstream.accept()?;
            peer.read_message()?;
            peer.send(answer)?;
            std::io::Result::Ok(peer)
        };
        let (proxy, first) = std::thread::scope(|threads| {
            let first = scenario.answers_first.map(|answer| threads.spawn(move || answer_first(answer)));
            let proxy = Proxy::start(&launch, &bootstrap.json(), directory);
            (proxy, first.map(|first| first.join()))
        });
        let mut proxy = proxy?;
        let first = match first {
            Some(Ok(Ok(peer))) => Some(peer),
            Some(_) => return Err("the proxy asks for nothing while it starts".to_string()),
            None => None,
        };
        if recorder {
            // Begins the recording anew.
            proxy.admin("POST", "/trace?enable=n")?;
            proxy.admin("POST", "/trace?enable=y")?;
            proxy.settle();
        }
        let host = if is_as_elsewhere { "ref.test" } else { HOST };
        let mut scene = Scene { proxy: &mut proxy, upstream: &upstream, others: &others, first, host };
        let played = (scenario.play)(&mut scene);
        let log = proxy.log_text();
        // The proxy's own log goes on with what the end of the scenario's connections brings.
        std::fs::write(directory.join("trace.log"), &log)
            .map_err(|e| format!("cannot write trace.log: {e}"))?;
        let recording = if !recorder {
            None
        } else if proxy.runs() {
            Some(proxy.admin("GET", "/trace?format=json")?)
        } else {
            Some(std::fs::read_to_string(&stages).map_err(|e| format!("{}: {e}", stages.display()))?)
        };
        let mut trace = match recording {
            Some(recording) => recorder::read(&recording)?,
            None => lanes::read(self.texts, &log),
        };
        trace.stuck = played.err().map(|e| e.to_string());
        Ok(trace)
    }
}
