//! One case: what is configured, what is sent, what the upstream does, and what has to come of it.

use super::action::Action;
use serde_json::{Value, json};

/// One thing that the client does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Send these bytes one by one.
    SendSingly(Vec<u8>),
    /// Wait until the client has got these bytes.
    Has(Vec<u8>),
    /// Wait until the upstream has got these bytes.
    UpstreamHas(Vec<u8>),
    /// Wait until the proxy has closed so many connections to the upstream.
    UpstreamClosed(usize),
    /// Wait until a counter or gauge has a value; `{}` in the name is the case's own prefix.
    Stat(&'static str, u64),
    /// Close the sending half.
    FinishWriting,
    /// Close both halves.
    Leave,
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It serves another request.
    Kept,
    /// The proxy closes it.
    Closed,
    /// Nothing happens: the proxy waits for more.
    Waits,
}

/// What has to come of a case.
#[derive(Clone, Debug)]
pub struct Expect {
    /// What the client gets.
    pub reply: Vec<u8>,
    /// And then.
    pub end: End,
    /// What each connection to the upstream gets; those that get nothing do not count.
    pub upstream: Vec<Vec<u8>>,
    /// The first lines of the access log: code, flags, details, and if wanted `cluster host`, each of these words or
    /// `-`. None: not looked at.
    pub log: Vec<&'static str>,
}

/// A case. [`Case::new`] starts one, the other methods say more about it.
#[derive(Clone, Debug)]
pub struct Case {
    /// For messages.
    pub name: String,
    /// Merged over the listener's configuration.
    pub listener: Value,
    /// Merged over the connection manager's configuration.
    pub hcm: Value,
    /// The TCP proxy that is there instead of a connection manager: merged over its configuration.
    pub tcp_proxy: Option<Value>,
    /// Of the access log, if it is another.
    pub log_format: Option<String>,
    /// Merged over the cluster's configuration.
    pub cluster: Value,
    /// Beside the upstream, in front of it.
    pub other_hosts: Vec<Value>,
    /// Merged over the upstream as a host.
    pub host: Value,
    /// Hosts of the first priority, which makes the upstream one of the second.
    pub first_choice: Vec<Value>,
    /// Of the client.
    pub steps: Vec<Step>,
    /// Of the upstream, per connection.
    pub scripts: Vec<Vec<Action>>,
    /// Of Envoy, and of legate unless that is said to differ.
    pub expect: Expect,
    /// Why legate differs, and what it does.
    pub legate: Option<(&'static str, Expect)>,
}

impl Case {
    /// A case in which nothing is sent and the connection is kept.
    pub fn new(name: impl Into<String>) -> Case {
        let expect = Expect { reply: Vec::new(), end: End::Kept, upstream: Vec::new(), log: Vec::new() };
        Case {
            name: name.into(),
            listener: json!({}),
            hcm: json!({}),
            tcp_proxy: None,
            log_format: None,
            cluster: json!({}),
            other_hosts: Vec::new(),
            host: json!({}),
            first_choice: Vec::new(),
            steps: Vec::new(),
            scripts: vec![vec![Action::Serve]],
            expect,
            legate: None,
        }
    }

    /// Configures the listener.
    pub fn listener(mut self, value: Value) -> Case {
        self.listener = value;
        self
    }

    /// Configures the connection manager.
    pub fn hcm(mut self, value: Value) -> Case {
        self.hcm = value;
        self
    }

    /// Has a TCP proxy, and configures it.
    pub fn tcp_proxy(mut self, value: Value) -> Case {
        self.tcp_proxy = Some(value);
        self
    }

    /// Configures the access log.
    pub fn log_format(mut self, format: &str) -> Case {
        self.log_format = Some(format.to_string());
        self
    }

    /// Configures the cluster.
    pub fn cluster(mut self, value: Value) -> Case {
        self.cluster = value;
        self
    }

    /// Sends bytes.
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Case {
        let bytes = bytes.as_ref().to_vec();
        self.then(Step::Send(bytes))
    }

    /// Does something else.
    pub fn then(mut self, step: Step) -> Case {
        self.steps.push(step);
        self
    }

    /// What the upstream does on its connections, one script each; otherwise it serves.
    pub fn scripts(mut self, scripts: impl IntoIterator<Item = Vec<Action>>) -> Case {
        self.scripts = scripts.into_iter().collect();
        self
    }

    /// The upstream answers its first request with these bytes and serves from then on.
    pub fn answer(self, bytes: impl AsRef<[u8]>) -> Case {
        let first = vec![Action::Head, Action::Send(bytes.as_ref().to_vec()), Action::Serve];
        self.scripts([first, vec![Action::Serve]])
    }

    /// The upstream answers its first request with these bytes and closes; the next connection serves.
    pub fn answer_and_close(self, bytes: impl AsRef<[u8]>) -> Case {
        let first = vec![Action::Head, Action::Send(bytes.as_ref().to_vec()), Action::Close];
        self.scripts([first, vec![Action::Serve]])
    }

    /// The client gets these bytes (once more: in addition).
    pub fn reply(mut self, bytes: impl AsRef<[u8]>) -> Case {
        self.expect.reply.extend_from_slice(bytes.as_ref());
        self
    }

    /// The next connection to the upstream gets these bytes.
    pub fn reaches(mut self, bytes: impl AsRef<[u8]>) -> Case {
        self.expect.upstream.push(bytes.as_ref().to_vec());
        self
    }

    /// The client's connection is closed.
    pub fn closed(mut self) -> Case {
        self.expect.end = End::Closed;
        self
    }

    /// The client's connection is kept, as it is unless something else is said.
    pub fn kept(mut self) -> Case {
        self.expect.end = End::Kept;
        self
    }

    /// The proxy waits for more.
    pub fn waits(mut self) -> Case {
        self.expect.end = End::Waits;
        self
    }

    /// The next line of the access log: code, flags, details, and if wanted `cluster host`.
    pub fn log(mut self, line: &'static str) -> Case {
        self.expect.log.push(line);
        self
    }

    /// Legate differs for this reason: it answers with `reply` and closes, and nothing reaches the upstream.
    pub fn legate_refuses(mut self, reason: &'static str, reply: impl AsRef<[u8]>) -> Case {
        let reply = reply.as_ref().to_vec();
        let expect = Expect { reply, end: End::Closed, upstream: Vec::new(), log: Vec::new() };
        self.legate = Some((reason, expect));
        self
    }

    /// Legate differs for this reason, in what `change` makes of the expectation.
    pub fn legate_differs(mut self, reason: &'static str, change: impl FnOnce(&mut Expect)) -> Case {
        let mut expect = self.expect.clone();
        change(&mut expect);
        self.legate = Some((reason, expect));
        self
    }
}
