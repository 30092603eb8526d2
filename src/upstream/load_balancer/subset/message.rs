//! What a configuration says of subsets.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Selector, SubsetConfig, SubsetPolicy};
use crate::config::cluster::{CommonLbConfig, LocalityConfig, lb_policy, listed_policy};
use crate::config::error::ConfigError;
use crate::config::reader::{EnumTable, FromMessage, MessageReader};
use crate::upstream::load_balancer::{LoadBalancerConfig, LoadBalancerFactory};
use crate::{enum_fields, message};

/// Subsets among the extensions.
pub static SUBSET: LoadBalancerFactory = LoadBalancerFactory::new(
    "envoy.load_balancing_policies.subset",
    &["envoy.extensions.load_balancing_policies.subset.v3.Subset"],
    of_policy,
)
.or_around(of_cluster);

/// Which hosts are for requests that no subset is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FallbackPolicy {
    /// None.
    #[default]
    NoFallback,
    /// All.
    AnyEndpoint,
    /// Those of a subset.
    DefaultSubset,
}

impl FallbackPolicy {
    /// API names.
    const TABLE: &EnumTable<Self> = &[
        ("NO_FALLBACK", Self::NoFallback),
        ("ANY_ENDPOINT", Self::AnyEndpoint),
        ("DEFAULT_SUBSET", Self::DefaultSubset),
    ];
}

/// The same for requests whose criteria have the keys of a selector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SelectorFallback {
    /// As for all others.
    #[default]
    NotDefined,
    /// None.
    NoFallback,
    /// All.
    AnyEndpoint,
    /// Those of a subset.
    DefaultSubset,
    /// Those of the subset that fewer keys name.
    KeysSubset,
}

impl SelectorFallback {
    /// API names.
    const TABLE: &EnumTable<Self> = &[
        ("NOT_DEFINED", Self::NotDefined),
        ("NO_FALLBACK", Self::NoFallback),
        ("ANY_ENDPOINT", Self::AnyEndpoint),
        ("DEFAULT_SUBSET", Self::DefaultSubset),
        ("KEYS_SUBSET", Self::KeysSubset),
    ];
}

/// Whether criteria may say what to try one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MetadataFallback {
    /// They may not.
    #[default]
    NoFallback,
    /// They may, under `fallback_list`.
    List,
}

impl MetadataFallback {
    /// API names.
    const TABLE: &EnumTable<Self> =
        &[("METADATA_NO_FALLBACK", Self::NoFallback), ("FALLBACK_LIST", Self::List)];
}

enum_fields! { FallbackPolicy, SelectorFallback, MetadataFallback }

message! {
    /// `LbSubsetConfig` of a cluster, or the extension.
    pub struct Subset = "envoy.config.cluster.v3.Cluster.LbSubsetConfig"
        or "envoy.extensions.load_balancing_policies.subset.v3.Subset" {
        /// Which hosts are for requests that no subset is for.
        pub fallback_policy: FallbackPolicy,
        /// What the hosts of the default subset have.
        pub default_subset: Map<String, Value> => read_struct,
        /// By what hosts are told apart.
        pub subset_selectors: Vec<SubsetSelector>,
        /// Whether localities keep their weights.
        pub locality_weight_aware: bool,
        /// Whether they weigh less where the subset has fewer hosts.
        pub scale_locality_weight: bool,
        /// All hosts, where the fallback has none.
        pub panic_mode_any: bool,
        /// A host is in a subset if one of the values in its list is.
        pub list_as_any: bool,
        /// Whether criteria may say what to try one after the other.
        pub metadata_fallback_policy: MetadataFallback,
    }
}

message! {
    /// Keys by which hosts are told apart.
    pub struct SubsetSelector = "envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector"
        or "envoy.extensions.load_balancing_policies.subset.v3.Subset.LbSubsetSelector", checked by check_selector {
        /// The keys.
        pub keys: Vec<String>,
        /// There is no more than one host with the same values.
        pub single_host_per_subset: bool,
        /// Which hosts are for requests that have other values.
        pub fallback_policy: SelectorFallback,
        /// Some of the keys.
        pub fallback_keys_subset: Vec<String>,
    }
}

fn read_struct(r: &mut MessageReader<'_>, name: &str) -> Result<Map<String, Value>, ConfigError> {
    match r.value(name)? {
        Some(Value::Object(map)) => Ok(map.clone()),
        Some(Value::Null) | None => Ok(Map::new()),
        Some(_) => {
            r.refuse(name, "expected an object");
            Ok(Map::new())
        }
    }
}

fn check_selector(r: &mut MessageReader<'_>, selector: &SubsetSelector) {
    let SubsetSelector { keys, fallback_policy, fallback_keys_subset: fewer, .. } = selector;
    let message = match (fallback_policy, fewer.is_empty()) {
        (SelectorFallback::KeysSubset, true) => "fallback_keys_subset cannot be empty",
        (SelectorFallback::KeysSubset, false) if !fewer.iter().all(|key| keys.contains(key)) => {
            "fallback_keys_subset must be a subset of selector keys"
        }
        (SelectorFallback::KeysSubset, false) if sorted(fewer).len() == sorted(keys).len() => {
            "fallback_keys_subset cannot be equal to keys"
        }
        (SelectorFallback::KeysSubset, _) | (_, true) => return,
        (_, false) => "fallback_keys_subset can be set only for KEYS_SUBSET fallback_policy",
    };
    r.refuse("fallback_keys_subset", message);
}

fn sorted(keys: &[String]) -> Vec<String> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn config(message: Subset, allow_redundant_keys: bool, inner: Arc<dyn LoadBalancerConfig>) -> SubsetConfig {
    let selector = |selector: &SubsetSelector| Selector {
        keys: sorted(&selector.keys),
        single_host_per_subset: selector.single_host_per_subset,
        fallback_policy: selector.fallback_policy,
        fallback_keys_subset: sorted(&selector.fallback_keys_subset).into(),
    };
    SubsetConfig {
        fallback_policy: message.fallback_policy,
        selectors: message.subset_selectors.iter().map(selector).filter(|s| !s.keys.is_empty()).collect(),
        default_subset: message.default_subset,
        allow_redundant_keys,
        locality_weight_aware: message.locality_weight_aware,
        scale_locality_weight: message.scale_locality_weight,
        panic_mode_any: message.panic_mode_any,
        list_as_any: message.list_as_any,
        falls_back_by_list: message.metadata_fallback_policy == MetadataFallback::List,
        inner,
    }
}

fn of_policy(r: &mut MessageReader<'_>) -> Result<Arc<dyn LoadBalancerConfig>, ConfigError> {
    let allow_redundant_keys = r.bool("allow_redundant_keys")?;
    let inner = listed_policy(r, "subset_lb_policy", "subset lb")?;
    let message = Subset::read(r)?;
    let inner = inner.ok_or_else(|| r.error("subset_lb_policy", "value is required"))?;
    let inner = inner.get::<dyn LoadBalancerConfig>()?.clone();
    if inner.is_cluster_provided() {
        r.refuse(
            "subset_lb_policy",
            "subset lb: what a cluster provides chooses of all its hosts, and of no subset",
        );
    }
    Ok(Arc::new(SubsetPolicy(Arc::new(config(message, allow_redundant_keys, inner)))))
}

fn of_cluster(r: &mut MessageReader<'_>) -> Result<Arc<dyn LoadBalancerConfig>, ConfigError> {
    let inner = lb_policy(r)?.get::<dyn LoadBalancerConfig>()?.clone();
    let message: Subset = r.message("lb_subset_config")?.unwrap_or_default();
    let common: CommonLbConfig = r.message("common_lb_config")?.unwrap_or_default();
    if message.locality_weight_aware && common.locality != LocalityConfig::Weighted {
        let message = format!(
            "Locality weight aware subset LB requires that a locality_weighted_lb_config be set in {}",
            r.string("name")?
        );
        r.refuse("lb_subset_config.locality_weight_aware", message);
    }
    Ok(Arc::new(SubsetPolicy(Arc::new(config(message, false, inner)))))
}
