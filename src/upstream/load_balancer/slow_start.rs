//! Hosts that have just become healthy get fewer requests than they are worth, and more by and by.
//!
//! Mirrors what `EdfLoadBalancerBase` of Envoy 1.40 does about it in `load_balancer_impl.cc`.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::common::CallbackHandle;
use crate::config::core::{Percent, RuntimeDouble};
use crate::event::Moment;
use crate::message;
use crate::runtime::SnapshotImpl;
use crate::upstream::{Health, HostImpl, HostSetImpl, PrioritySetImpl, PriorityUpdateCb};

message! {
    /// Of a cluster, or of a policy.
    pub struct SlowStartMessage = "envoy.config.cluster.v3.Cluster.SlowStartConfig"
        or "envoy.extensions.load_balancing_policies.common.v3.SlowStartConfig" {
        /// How long it takes; none is no slow start.
        pub slow_start_window: Duration,
        /// How fast the weight grows: 1 is with the time, more is faster at first.
        pub aggression: RuntimeDouble = RuntimeDouble { default_value: 1.0, runtime_key: String::new() },
        /// Of the weight there is at least this; default 10.
        pub min_weight_percent: Percent = Percent { value: 10.0 },
    }
}

/// As it is used.
#[derive(Debug, Clone)]
pub struct SlowStartConfig {
    window: Duration,
    min_weight: f64,
    aggression: Arc<RuntimeNumber>,
}

impl SlowStartConfig {
    /// `None` where there is none.
    pub fn new(message: Option<&SlowStartMessage>) -> Option<Self> {
        let message = message.filter(|message| !message.slow_start_window.is_zero())?;
        Some(SlowStartConfig {
            window: message.slow_start_window,
            min_weight: message.min_weight_percent.value / 100.0,
            aggression: Arc::new(RuntimeNumber::new(message.aggression.clone())),
        })
    }

    /// Takes over what runtime says.
    pub fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        self.aggression.on_new_snapshot(snapshot);
    }
}

/// A number that runtime may have another one for.
pub struct RuntimeNumber {
    config: RuntimeDouble,
    bits: AtomicU64,
}

impl RuntimeNumber {
    /// As it is configured.
    pub fn new(config: RuntimeDouble) -> Self {
        RuntimeNumber { bits: AtomicU64::new(config.default_value.to_bits()), config }
    }

    /// The number of now.
    #[inline]
    pub fn value(&self) -> f64 {
        f64::from_bits(self.bits.load(Relaxed))
    }

    /// Takes over what runtime says.
    pub fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        let RuntimeDouble { default_value, runtime_key } = &self.config;
        if !runtime_key.is_empty() {
            self.bits.store(snapshot.get_double(runtime_key, *default_value).to_bits(), Relaxed);
        }
    }
}

/// Only what is configured: configurations are told apart by how they are printed.
impl std::fmt::Debug for RuntimeNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.config.fmt(f)
    }
}

/// See the module's description.
pub struct SlowStart {
    config: SlowStartConfig,
    /// When the last host became healthy.
    latest_host_added: Cell<Moment>,
    update: Cell<Option<CallbackHandle<PriorityUpdateCb>>>,
}

impl SlowStart {
    /// Follows the hosts.
    pub fn new(priority_set: &Rc<PrioritySetImpl>, config: &SlowStartConfig) -> Rc<Self> {
        let this = Rc::new(SlowStart {
            config: config.clone(),
            latest_host_added: Cell::new(Moment::now()),
            update: Cell::default(),
        });
        for host_set in priority_set.host_sets_per_priority() {
            this.recalculate_hosts_in_slow_start(&host_set);
        }
        let (weak, weak_set) = (Rc::downgrade(&this), Rc::downgrade(priority_set));
        let update = priority_set.add_priority_update_cb(move |priority, _, _| {
            if let (Some(this), Some(set)) = (weak.upgrade(), weak_set.upgrade())
                && let Some(host_set) = set.host_sets_per_priority().get(priority as usize)
            {
                this.recalculate_hosts_in_slow_start(host_set);
            }
        });
        this.update.set(Some(update));
        this
    }

    fn recalculate_hosts_in_slow_start(&self, host_set: &HostSetImpl) {
        let now = Moment::now();
        for host in &*host_set.healthy_hosts() {
            let healthy_since = host.healthy_since().unwrap_or_else(|| host.note_healthy_since(now));
            let is_in_window = now.since(healthy_since) <= self.config.window;
            if is_in_window && healthy_since > self.latest_host_added.get() {
                self.latest_host_added.set(healthy_since);
            }
        }
    }

    /// Whether any host may be in its window.
    pub fn has_hosts(&self) -> bool {
        self.latest_host_added.get().elapsed() <= self.config.window
    }

    /// What a host's weight is for now.
    pub fn apply(&self, weight: f64, host: &HostImpl) -> f64 {
        let Some(since) = host.healthy_since().filter(|_| self.has_hosts()) else { return weight };
        let (age, window) = (since.elapsed().as_millis(), self.config.window.as_millis());
        if age >= window || host.health() != Health::Healthy {
            return weight;
        }
        let aggression = Some(self.config.aggression.value()).filter(|number| *number > 0.0).unwrap_or(1.0);
        let time_factor = age.max(1) as f64 / window as f64;
        weight * time_factor.powf(1.0 / aggression).max(self.config.min_weight)
    }
}
