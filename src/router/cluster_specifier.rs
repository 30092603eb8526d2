//! Which cluster a route leads to.
//!
//! Mirrors `RouteEntryImplBase::clusterEntry` and `WeightedClusterEntry` of Envoy's `source/common/router/config_impl.cc`.

use std::sync::Arc;

use super::RouteRequest;
use super::config::Level;
use super::hash_policy::HashPolicyImpl;
use super::header_parser::HeaderParser;
use super::per_filter_config::PerFilterConfigs;
use crate::config::ConfigError;
use crate::config::route;
use crate::http::{HeaderMap, HeaderName};
use crate::runtime::IntegerOverride;
use crate::upstream::ClusterName;
use crate::upstream::load_balancer::MetadataMatchCriterion;

/// Which cluster a route leads to.
#[derive(Debug)]
pub(super) enum ClusterSpecifier {
    /// This.
    Cluster(ClusterName),
    /// The one that a header of the request names.
    Header(HeaderName),
    /// One of several, each with what it says itself.
    Weighted(WeightedClusters),
}

#[derive(Debug)]
pub(super) struct WeightedClusters {
    clusters: Box<[WeightedCluster]>,
    /// Unless the runtime may change it.
    total: Option<u64>,
    /// Where the number comes from instead of chance.
    random_value: RandomValue,
}

#[derive(Debug)]
enum RandomValue {
    Random,
    Header(HeaderName),
    /// That of requests that belong together.
    Hash,
}

/// One of several clusters.
#[derive(Debug)]
pub(super) struct WeightedCluster {
    weight: u64,
    /// The runtime's, where that may have another.
    other_weight: Option<Arc<IntegerOverride>>,
    cluster: WeightedClusterName,
    pub(super) request_headers: Option<Arc<HeaderParser>>,
    pub(super) response_headers: Option<Arc<HeaderParser>>,
    pub(super) per_filter_configs: PerFilterConfigs,
    /// Empty for what the route says.
    pub(super) host_rewrite: String,
    /// Which hosts may be chosen, the route's criteria among them.
    pub(super) metadata_match: Option<Arc<[MetadataMatchCriterion]>>,
}

#[derive(Debug)]
enum WeightedClusterName {
    Cluster(ClusterName),
    Header(HeaderName),
}

impl ClusterSpecifier {
    /// `criteria` are what the route says of hosts.
    pub(super) fn new(
        config: &route::ClusterSpecifier,
        route: &Level<'_>,
        criteria: Option<&Arc<[MetadataMatchCriterion]>>,
    ) -> Result<Self, ConfigError> {
        Ok(match config {
            route::ClusterSpecifier::Cluster(name) => ClusterSpecifier::Cluster(ClusterName::of(name)),
            route::ClusterSpecifier::Header(name) => ClusterSpecifier::Header(HeaderName::new(name)),
            route::ClusterSpecifier::Weighted(weighted) => {
                ClusterSpecifier::Weighted(WeightedClusters::new(weighted, route, criteria)?)
            }
        })
    }

    /// The one of several that a request goes to.
    pub(super) fn pick(&self, request: &RouteRequest<'_>, hash: Option<&HashPolicyImpl>) -> Option<usize> {
        match self {
            ClusterSpecifier::Weighted(weighted) => Some(weighted.pick(request, hash)),
            _ => None,
        }
    }

    pub(super) fn weighted(&self, index: usize) -> Option<&WeightedCluster> {
        match self {
            ClusterSpecifier::Weighted(weighted) => weighted.clusters.get(index),
            _ => None,
        }
    }

    /// Whether streams to one of several clusters are made without some filters.
    pub(super) fn disables_filters(&self) -> bool {
        match self {
            ClusterSpecifier::Weighted(weighted) => {
                weighted.clusters.iter().any(|cluster| cluster.per_filter_configs.disables_any())
            }
            _ => false,
        }
    }

    /// How many there are to pick one of.
    pub(super) fn num_weighted(&self) -> usize {
        match self {
            ClusterSpecifier::Weighted(weighted) => weighted.clusters.len(),
            _ => 0,
        }
    }

    /// The cluster's name, unless the request has it.
    pub(super) fn cluster_name(&self, weighted: Option<usize>) -> Option<&ClusterName> {
        match (self, weighted.and_then(|index| self.weighted(index))) {
            (ClusterSpecifier::Cluster(name), _) => Some(name),
            (_, Some(WeightedCluster { cluster: WeightedClusterName::Cluster(name), .. })) => Some(name),
            _ => None,
        }
    }

    /// The cluster's name, as the request has it; what it does not have is the empty name.
    pub(super) fn named_by(&self, weighted: Option<usize>, headers: &HeaderMap) -> ClusterName {
        let header = match (self, weighted.and_then(|index| self.weighted(index))) {
            (ClusterSpecifier::Header(name), _) => Some(name),
            (_, Some(WeightedCluster { cluster: WeightedClusterName::Header(name), .. })) => Some(name),
            _ => None,
        };
        let value = header.and_then(|name| name.find(headers)).unwrap_or_default();
        ClusterName::of(&String::from_utf8_lossy(value))
    }
}

impl WeightedClusters {
    fn new(
        config: &route::WeightedCluster,
        route: &Level<'_>,
        criteria: Option<&Arc<[MetadataMatchCriterion]>>,
    ) -> Result<Self, ConfigError> {
        let prefix = &config.runtime_key_prefix;
        let one = |(i, cluster): (usize, &route::ClusterWeight)| {
            WeightedCluster::new(cluster, prefix, route, criteria)
                .map_err(|error| error.within(&format!("weighted_clusters.clusters[{i}]")))
        };
        let clusters: Box<[_]> = config.clusters.iter().enumerate().map(one).collect::<Result<_, _>>()?;
        let total = clusters.iter().map(WeightedCluster::weight).sum();
        if total == 0 {
            let message = "Sum of weights in the weighted_cluster must be greater than 0.";
            return Err(ConfigError::new("weighted_clusters.clusters", message));
        }
        Ok(WeightedClusters {
            clusters,
            total: prefix.is_empty().then_some(total),
            random_value: match &config.random_value {
                route::RandomValue::Random => RandomValue::Random,
                route::RandomValue::Header(name) => RandomValue::Header(HeaderName::new(name)),
                route::RandomValue::Hash => RandomValue::Hash,
            },
        })
    }

    /// The first whose share the number is in; without one of the request it is the stream's own.
    fn pick(&self, request: &RouteRequest<'_>, hash: Option<&HashPolicyImpl>) -> usize {
        let given = match &self.random_value {
            RandomValue::Random => None,
            RandomValue::Header(name) => name
                .find(request.headers)
                .and_then(|value| std::str::from_utf8(value).ok()?.parse::<u64>().ok()),
            RandomValue::Hash => {
                hash.and_then(|hash| hash.generate_hash(request.headers, request.info, None))
            }
        };
        let total = self.total.unwrap_or_else(|| self.clusters.iter().map(WeightedCluster::weight).sum());
        let mut left = given.unwrap_or(request.random) % total.max(1);
        for (i, cluster) in self.clusters.iter().enumerate() {
            match left.checked_sub(cluster.weight()) {
                Some(rest) => left = rest,
                None => return i,
            }
        }
        0
    }
}

impl WeightedCluster {
    fn weight(&self) -> u64 {
        self.other_weight.as_ref().map_or(self.weight, |other| other.get(self.weight))
    }

    fn new(
        config: &route::ClusterWeight,
        key_prefix: &str,
        route: &Level<'_>,
        criteria: Option<&Arc<[MetadataMatchCriterion]>>,
    ) -> Result<Self, ConfigError> {
        let key = format!("{key_prefix}.{}", config.name);
        Ok(WeightedCluster {
            weight: config.weight.unwrap_or(0).into(),
            other_weight: (!key_prefix.is_empty()).then(|| IntegerOverride::new(&key, route.runtime())),
            cluster: match config.name.is_empty() {
                true => WeightedClusterName::Header(HeaderName::new(&config.cluster_header)),
                false => WeightedClusterName::Cluster(ClusterName::of(&config.name)),
            },
            request_headers: HeaderParser::configure(&config.headers.request, "request_headers_to_add")?,
            response_headers: HeaderParser::configure(&config.headers.response, "response_headers_to_add")?,
            per_filter_configs: (route.per_filter_configs)
                .with(&config.typed_per_filter_config, route.context)?,
            host_rewrite: config.host_rewrite_literal.clone(),
            metadata_match: MetadataMatchCriterion::of(config.metadata_match.as_ref(), criteria),
        })
    }
}
