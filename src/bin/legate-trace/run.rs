//! Plays a scenario with both proxies and compares their logs.

use std::path::{Path, PathBuf};

use crate::bootstrap::Bootstrap;
use crate::compare::{Comparison, Terms, compare};
use crate::differences::Difference;
use crate::lanes::{self, ProxyKind, Trace};
use crate::players::Upstream;
use crate::proxy::{Launch, Proxy};
use crate::recorder;
use crate::scenarios::{Scenario, Scene};
use crate::stage_texts::StageTexts;

/// What `run` needs to know.
pub struct Setting<'a> {
    /// Envoy's binary.
    pub envoy: &'a Path,
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

impl Setting<'_> {
    /// Runs one scenario with both. Where it cannot be played to its end, what came until then is compared.
    ///
    /// # Errors
    /// A proxy does not start; the text says which.
    pub fn run(&self, scenario: &Scenario) -> Result<Comparison, String> {
        let side = |proxy: ProxyKind, binary: &Path| {
            let name = proxy.to_string().to_lowercase();
            let recorder = self.recorder && proxy == ProxyKind::Legate;
            self.play(scenario, binary, &self.directory_of(scenario, &name), recorder)
                .and_then(|trace| match trace.proxy {
                    Some(other) if other != proxy => Err(format!("{} is {other}", binary.display())),
                    _ => Ok(trace),
                })
                .map_err(|e| format!("{}, with {name}: {e}", scenario.name))
        };
        let (envoy, legate) = std::thread::scope(|scope| {
            let envoy = scope.spawn(|| side(ProxyKind::Envoy, self.envoy));
            let legate = side(ProxyKind::Legate, self.legate);
            (envoy.join(), legate)
        });
        let mut envoy = envoy.map_err(|_| format!("{}: the script panicked", scenario.name))??;
        if self.recorder {
            recorder::keep_recorded(&mut envoy);
        }
        let terms = Terms {
            scenario: scenario.name,
            mode: scenario.mode,
            differences: self.differences,
            recorded: self.recorder,
        };
        Ok(compare(&envoy, &legate?, terms))
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
        let upstream = Upstream::new(scenario.upstream).map_err(|e| format!("no upstream: {e}"))?;
        let mut bootstrap = Bootstrap::load(self.config)?;
        bootstrap.set_addresses(upstream.address());
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
        let mut proxy = Proxy::start(&launch, &bootstrap.json(), directory)?;
        if recorder {
            // Begins the recording anew.
            proxy.admin("POST", "/trace?enable=n")?;
            proxy.admin("POST", "/trace?enable=y")?;
            proxy.settle();
        }
        let from = proxy.next_line();
        let played = (scenario.play)(&mut Scene { proxy: &mut proxy, upstream: &upstream });
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
            None => lanes::read(self.texts, &log, from),
        };
        trace.stuck = played.err().map(|e| e.to_string());
        Ok(trace)
    }
}
