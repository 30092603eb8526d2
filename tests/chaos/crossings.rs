//! What a request that got 503 had to do with the reset of its upstream connection.
//!
//! One that was sent before the reset is late for every proxy: the faster it is passed on, the surer it is to be on
//! the connection when that is reset. Only one that was sent behind the reset should have got another connection.
//! The proxy's access log says which request had which connection.

use super::ends::lock;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// How long the log may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Resets by the proxy's port, and requests that got 503 by path.
#[derive(Default)]
pub struct Crossings {
    log: PathBuf,
    resets: Mutex<HashMap<u16, Reset>>,
    refused: Mutex<HashMap<String, Instant>>,
}

struct Reset {
    done: Instant,
    met: bool,
}

/// How many requests got 503, and when they were sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refused {
    /// Before the reset, and they had come to the upstream.
    pub met: usize,
    /// Before the reset, and they had not.
    pub crossed: usize,
    /// Behind the reset.
    pub behind: usize,
}

impl Refused {
    /// All of them.
    pub fn all(self) -> usize {
        self.met + self.crossed + self.behind
    }
}

impl Crossings {
    /// With an access log in this file; see [`Crossings::access_log`].
    pub fn new(log: PathBuf) -> Crossings {
        Crossings { log, ..Crossings::default() }
    }

    /// For the connection manager.
    pub fn access_log(&self) -> Value {
        let config = json!({
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": self.log,
            "log_format": {"text_format_source": {
                "inline_string": "%RESPONSE_CODE% %REQ(:PATH)% %UPSTREAM_LOCAL_ADDRESS%\n",
            }},
        });
        json!([{"name": "file", "typed_config": config}])
    }

    /// An upstream has just reset the connection from this port, on which a request had come, or not.
    pub fn reset(&self, port: u16, met: bool) {
        lock(&self.resets).insert(port, Reset { done: Instant::now(), met });
    }

    /// A request got 503.
    pub fn refuse(&self, path: String, sent: Instant) {
        lock(&self.refused).insert(path, sent);
    }

    /// Counts the requests that got 503 since the last time.
    pub fn count(&self) -> Refused {
        let refused = std::mem::take(&mut *lock(&self.refused));
        let ports = self.ports(&refused);
        let resets = std::mem::take(&mut *lock(&self.resets));
        let mut count = Refused::default();
        for (path, sent) in &refused {
            match ports.get(path).and_then(|port| resets.get(port)) {
                Some(reset) if reset.met => count.met += 1,
                Some(reset) if *sent <= reset.done => count.crossed += 1,
                _ => count.behind += 1,
            }
        }
        count
    }

    /// The ports of the connections that these requests had.
    fn ports(&self, refused: &HashMap<String, Instant>) -> HashMap<String, u16> {
        let since = Instant::now();
        let mut ports = HashMap::new();
        while ports.len() < refused.len() && since.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20)); // the log is written now and then
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines = log.lines().filter_map(|line| line.strip_prefix("503 ")?.split_once(' '));
            let known = lines.filter(|(path, _)| refused.contains_key(*path));
            ports = known
                .map(|(path, address)| {
                    let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
                    (path.to_string(), port.unwrap_or_default())
                })
                .collect();
        }
        ports
    }
}
