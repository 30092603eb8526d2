//! The order in which clusters are initialized. Mirrors `ClusterManagerInitHelper` of Envoy's
//! `source/common/upstream/cluster_manager_impl.cc`, without the state of waiting for discovery.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use crate::envoy_log;
use crate::trace::{self, Stage};
use crate::upstream::{Cluster, InitializePhase};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Clusters are still being added.
    Loading,
    WaitingForStaticInitialize,
    AllClustersInitialized,
}

/// Called for each cluster once its first hosts are there.
type PerClusterInitCb = Box<dyn Fn(&Rc<dyn Cluster>)>;

/// Initializes primary clusters as they are added, then the secondary ones.
pub(super) struct ClusterManagerInitHelper {
    weak: Weak<ClusterManagerInitHelper>,
    per_cluster_init_callback: PerClusterInitCb,
    primary: RefCell<Vec<Rc<dyn Cluster>>>,
    secondary: RefCell<Vec<Rc<dyn Cluster>>>,
    started_secondary: Cell<bool>,
    state: Cell<State>,
    initialized_callback: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl ClusterManagerInitHelper {
    pub(super) fn new(per_cluster_init_callback: PerClusterInitCb) -> Rc<Self> {
        Rc::new_cyclic(|weak| ClusterManagerInitHelper {
            weak: weak.clone(),
            per_cluster_init_callback,
            primary: RefCell::default(),
            secondary: RefCell::default(),
            started_secondary: Cell::new(false),
            state: Cell::new(State::Loading),
            initialized_callback: RefCell::default(),
        })
    }

    pub(super) fn add_cluster(&self, cluster: Rc<dyn Cluster>) {
        if cluster.initialize_phase() == InitializePhase::Primary {
            self.primary.borrow_mut().push(cluster.clone());
            self.initialize(cluster.clone());
        } else {
            self.secondary.borrow_mut().push(cluster.clone());
            if self.started_secondary.get() {
                self.initialize(cluster.clone());
            }
        }
        // As in Envoy, behind what initializing it has said.
        self.record(Stage::AddCluster);
        self.log("adding", &cluster);
    }

    /// Records a stage with the numbers of clusters that are not initialized yet.
    fn record(&self, stage: Stage) {
        if trace::enabled() {
            let (primary, secondary) = (self.primary.borrow().len(), self.secondary.borrow().len());
            trace::instant(stage, None, 0, primary as u64, secondary as u64);
        }
    }

    fn log(&self, what: &str, cluster: &Rc<dyn Cluster>) {
        envoy_log!(
            Upstream,
            debug,
            "cm init: {}: cluster={} primary={} secondary={}",
            what,
            cluster.info().name(),
            self.primary.borrow().len(),
            self.secondary.borrow().len()
        );
    }

    fn initialize(&self, cluster: Rc<dyn Cluster>) {
        // The cluster keeps the callback until it has its hosts, which may be never.
        let (helper, weak) = (self.weak.clone(), Rc::downgrade(&cluster));
        cluster.initialize(Box::new(move || {
            if let (Some(helper), Some(cluster)) = (helper.upgrade(), weak.upgrade()) {
                helper.on_cluster_init(&cluster);
            }
        }));
    }

    fn on_cluster_init(&self, cluster: &Rc<dyn Cluster>) {
        (self.per_cluster_init_callback)(cluster);
        self.remove_cluster(cluster);
    }

    /// A cluster is initialized, or will not be: nothing waits for it any more.
    pub(super) fn remove_cluster(&self, cluster: &Rc<dyn Cluster>) {
        if self.all_clusters_initialized() {
            return;
        }
        let list = if cluster.initialize_phase() == InitializePhase::Primary {
            &self.primary
        } else {
            &self.secondary
        };
        list.borrow_mut().retain(|c| !Rc::ptr_eq(c, cluster));
        self.log("init complete", cluster);
        self.maybe_finish_initialize();
    }

    /// Whether nothing is waited for any more.
    pub(super) fn all_clusters_initialized(&self) -> bool {
        self.state.get() == State::AllClustersInitialized
    }

    /// All clusters of the configuration have been added.
    pub(super) fn on_static_load_complete(&self) {
        self.state.set(State::WaitingForStaticInitialize);
        self.maybe_finish_initialize();
    }

    /// Calls back once all clusters are initialized; at once when they are.
    pub(super) fn set_initialized_cb(&self, callback: Box<dyn FnOnce()>) {
        if self.all_clusters_initialized() {
            callback();
        } else {
            *self.initialized_callback.borrow_mut() = Some(callback);
        }
    }

    fn maybe_finish_initialize(&self) {
        if self.state.get() != State::WaitingForStaticInitialize || !self.primary.borrow().is_empty() {
            return;
        }
        let secondary = self.secondary.borrow().clone();
        self.record(Stage::MaybeFinishInitialize);
        if !secondary.is_empty() {
            if !self.started_secondary.replace(true) {
                envoy_log!(Upstream, info, "cm init: initializing secondary clusters");
                for cluster in secondary {
                    envoy_log!(Upstream, debug, "initializing secondary cluster {}", cluster.info().name());
                    self.initialize(cluster);
                }
            }
            return;
        }
        self.state.set(State::AllClustersInitialized);
        envoy_log!(Upstream, info, "cm init: all clusters initialized");
        let callback = self.initialized_callback.borrow_mut().take();
        if let Some(callback) = callback {
            callback();
        }
    }
}
