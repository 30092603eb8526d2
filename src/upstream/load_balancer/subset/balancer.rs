//! Finds the subset of a request, or what stands in for it.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::subset_entry::{LbSubset, SubsetMaker};
use super::subset_tree::{Criteria, Pair, SelectorTree, SubsetTree, extract};
use super::{FallbackPolicy, SelectorFallback, SubsetConfig};
use crate::common::CallbackHandle;
use crate::envoy_log;
use crate::stats::{self, Gauge};
use crate::upstream::load_balancer::{LoadBalancer, LoadBalancerContext, LoadBalancerParams};
use crate::upstream::{
    ENVOY_LB, HostSetImpl, PrioritySetImpl, PriorityUpdateCb, WorkerHost, metadata_label_match,
};

/// The name under which criteria say what to try one after the other.
const FALLBACK_LIST: &str = "fallback_list";

/// Criteria, mostly few.
type Pairs<'a> = SmallVec<[Pair<'a>; 8]>;

/// See the module's description.
pub struct SubsetLoadBalancer {
    state: Rc<State>,
    _update: CallbackHandle<PriorityUpdateCb>,
}

struct State {
    maker: SubsetMaker,
    any: Option<Rc<LbSubset>>,
    default: Option<Rc<LbSubset>>,
    tree: RefCell<SubsetTree>,
    selectors: SelectorTree,
    duplicates: OnceCell<Gauge>,
}

impl SubsetLoadBalancer {
    /// Follows the hosts.
    pub fn new(params: &LoadBalancerParams<'_>, config: Arc<SubsetConfig>) -> Self {
        let maker = SubsetMaker {
            info: params.info.clone(),
            local_priority_set: params.local_priority_set.cloned(),
            config,
        };
        let state = Rc::new(State::new(maker));
        for host_set in params.priority_set.host_sets_per_priority() {
            state.update(&host_set);
        }
        let (weak_state, weak_set) = (Rc::downgrade(&state), Rc::downgrade(params.priority_set));
        let update = params.priority_set.add_priority_update_cb(move |priority, _, _| {
            if let (Some(state), Some(set)) = (weak_state.upgrade(), weak_set.upgrade()) {
                state.on_priority_update(&set, priority);
            }
        });
        SubsetLoadBalancer { state, _update: update }
    }
}

impl State {
    fn new(maker: SubsetMaker) -> Self {
        let config = &maker.config;
        match config.fallback_policy {
            FallbackPolicy::NoFallback => {}
            FallbackPolicy::AnyEndpoint => {
                envoy_log!(Upstream, debug, "subset lb: creating any-endpoint fallback load balancer");
            }
            FallbackPolicy::DefaultSubset => envoy_log!(
                Upstream,
                debug,
                "subset lb: creating fallback load balancer for {}",
                describe(&config.default_subset)
            ),
        }
        let says = |fallback| config.selectors.iter().any(|selector| selector.fallback_policy == fallback);
        let any = config.fallback_policy == FallbackPolicy::AnyEndpoint
            || config.panic_mode_any
            || says(SelectorFallback::AnyEndpoint);
        let default =
            config.fallback_policy == FallbackPolicy::DefaultSubset || says(SelectorFallback::DefaultSubset);
        State {
            any: any.then(|| maker.make(false)),
            default: default.then(|| maker.make(false)),
            tree: RefCell::default(),
            selectors: SelectorTree::new(&config.selectors),
            duplicates: OnceCell::new(),
            maker,
        }
    }

    fn on_priority_update(&self, priority_set: &PrioritySetImpl, priority: u32) {
        let sets = priority_set.host_sets_per_priority();
        let Some(host_set) = sets.get(priority as usize) else { return };
        self.update(host_set);
        let mut gone = Vec::new();
        self.tree.borrow_mut().purge_empty(&mut gone);
        self.count_removed(gone.len());
    }

    fn count_removed(&self, count: usize) {
        let stats = self.maker.info.stats();
        for _ in 0..count {
            stats.lb_subsets_removed().inc();
            stats.lb_subsets_active().dec();
        }
    }

    /// Puts the hosts of a priority into all subsets that they belong to.
    fn update(&self, host_set: &HostSetImpl) {
        let (vectors, priority) = (host_set.vectors(), host_set.priority());
        let options = self.maker.options(&vectors.options);
        let finalize = |subset: &Rc<LbSubset>| subset.finalize(priority, &self.maker, &vectors, &options);
        let SubsetConfig { default_subset, list_as_any, .. } = &*self.maker.config;
        if let Some(any) = &self.any {
            vectors.hosts.iter().for_each(|host| _ = any.push_host(host));
            finalize(any);
        }
        if let Some(default) = &self.default {
            for host in &*vectors.hosts {
                let metadata = host.metadata().map(|metadata| &**metadata);
                if metadata_label_match(default_subset, metadata, ENVOY_LB, *list_as_any) {
                    default.push_host(host);
                }
            }
            finalize(default);
        }
        if self.maker.config.fallback_policy == FallbackPolicy::NoFallback {
            envoy_log!(Upstream, debug, "subset lb: fallback load balancer disabled");
        }
        let duplicates = self.push_hosts(&vectors.hosts);
        let name = "lb_subsets_single_host_per_subset_duplicate";
        let gauge = self.duplicates.get_or_init(|| self.maker.info.scope().gauge(name));
        // All threads find the same; of those that would set it at a time, each would have counted the others in.
        if stats::is_shared_shard() {
            gauge.set(duplicates);
        }
        let mut subsets = Vec::new();
        self.tree.borrow().for_each(&mut |subset| subsets.push(subset.clone()));
        subsets.iter().for_each(finalize);
    }

    /// Gives each host to its subsets, which are made where there are none; how many had no room.
    fn push_hosts(&self, hosts: &[crate::upstream::HostSharedPtr]) -> u64 {
        let mut tree = self.tree.borrow_mut();
        let stats = self.maker.info.stats();
        let mut duplicates = 0;
        for host in hosts {
            let said = host.metadata().and_then(|metadata| metadata.filter_metadata.get(ENVOY_LB));
            let Some(Value::Object(said)) = said else { continue };
            for selector in &self.maker.config.selectors {
                for pairs in extract(&selector.keys, said, self.maker.config.list_as_any) {
                    let subset = tree.find_or_create(&pairs).subset.get_or_insert_with(|| {
                        stats.lb_subsets_active().inc();
                        stats.lb_subsets_created().inc();
                        self.maker.make(selector.single_host_per_subset)
                    });
                    duplicates += u64::from(!subset.push_host(host));
                }
            }
        }
        duplicates
    }

    fn choose(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        let criteria = context.metadata_match_criteria();
        let Some(criteria) = criteria.as_deref() else { return self.choose_iteration(None, context) };
        let all: Pairs<'_> =
            criteria.iter().map(|criterion| (criterion.name.as_str(), &criterion.value)).collect();
        let list = all.iter().find(|(name, _)| *name == FALLBACK_LIST);
        match list.filter(|_| self.maker.config.falls_back_by_list) {
            Some((_, list)) => self.choose_by_list(&all, list, context),
            None => self.choose_iteration(Some(Criteria { all: &all, only: None }), context),
        }
    }

    /// With the criteria that each of `list` makes of the others, until there is a host.
    fn choose_by_list(
        &self,
        criteria: &[Pair<'_>],
        list: &Value,
        context: &dyn LoadBalancerContext,
    ) -> Option<Rc<WorkerHost>> {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let others = criteria.iter().copied().filter(|(name, _)| *name != FALLBACK_LIST);
        if list.is_empty() {
            let others: Pairs<'_> = others.collect();
            return self.choose_iteration(Some(Criteria { all: &others, only: None }), context);
        }
        list.iter().find_map(|fallback| {
            let more =
                || fallback.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value));
            let stays = |(name, _): &Pair<'_>| !more().any(|(other, _)| other == *name);
            let mut merged: Pairs<'_> = others.clone().filter(stays).chain(more()).collect();
            merged.sort_unstable_by_key(|(name, _)| *name);
            self.choose_iteration(Some(Criteria { all: &merged, only: None }), context)
        })
    }

    fn choose_iteration(
        &self,
        criteria: Option<Criteria<'_>>,
        context: &dyn LoadBalancerContext,
    ) -> Option<Rc<WorkerHost>> {
        let stats = self.maker.info.stats();
        if let Some(criteria) = criteria.map(|criteria| self.without_redundant_keys(criteria)) {
            let subset = self.tree.borrow().find(criteria).filter(|subset| subset.is_active()).cloned();
            if let Some(subset) = subset {
                stats.lb_subsets_selected().inc();
                return subset.choose_host(context);
            }
            match self.selectors.find(criteria) {
                None | Some((SelectorFallback::NotDefined, _)) => {}
                Some((SelectorFallback::NoFallback, _)) => return None,
                Some((SelectorFallback::AnyEndpoint, _)) => return self.any.as_ref()?.choose_host(context),
                Some((SelectorFallback::DefaultSubset, _)) => {
                    return self.default.as_ref()?.choose_host(context);
                }
                Some((SelectorFallback::KeysSubset, keys)) => {
                    return self.choose_iteration(Some(criteria.only(keys)), context);
                }
            }
        }
        let fallback = match self.maker.config.fallback_policy {
            FallbackPolicy::NoFallback => return None,
            FallbackPolicy::AnyEndpoint => self.any.as_ref()?,
            FallbackPolicy::DefaultSubset => self.default.as_ref()?,
        };
        if let Some(host) = fallback.choose_host(context) {
            stats.lb_subsets_fallback().inc();
            return Some(host);
        }
        let any = self.any.as_ref().filter(|_| self.maker.config.panic_mode_any)?;
        let host = any.choose_host(context)?;
        stats.lb_subsets_fallback_panic().inc();
        Some(host)
    }

    /// Only the criteria of the first selector all of whose keys are there, if that is allowed.
    fn without_redundant_keys<'a>(&'a self, criteria: Criteria<'a>) -> Criteria<'a> {
        let has = |key: &String| criteria.iter().any(|(name, _)| name == key);
        let selectors = Some(&self.maker.config.selectors).filter(|_| self.maker.config.allow_redundant_keys);
        let first = selectors.and_then(|all| all.iter().find(|selector| selector.keys.iter().all(has)));
        first.map_or(criteria, |selector| criteria.only(&selector.keys))
    }
}

impl LoadBalancer for SubsetLoadBalancer {
    fn choose_host_once(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        self.state.choose(context)
    }

    /// The balancer of a subset asks for another one itself.
    fn choose_host(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        self.state.choose(context)
    }
}

impl Drop for SubsetLoadBalancer {
    fn drop(&mut self) {
        let mut active = 0;
        self.state.tree.borrow().for_each(&mut |subset| active += usize::from(subset.is_active()));
        self.state.count_removed(active);
    }
}

fn describe(metadata: &Map<String, Value>) -> String {
    let sorted: BTreeMap<_, _> = metadata.iter().collect();
    let pairs: Vec<_> = sorted.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { "<no metadata>".to_string() } else { pairs.join(", ") }
}
