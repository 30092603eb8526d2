//! Counters, gauges and histograms (Envoy `source/common/stats`).
//!
//! A [`Store`] owns the metrics; a [`Scope`] names them with a prefix. Handles are cheap to clone and
//! are kept by whoever updates them. Names are as in Envoy: `:` and NUL become `_`.
//!
//! ```text
//! worker 1 ──inc──> row 1 ─┐
//! worker 2 ──inc──> row 2 ─┼─ value() adds the rows
//! others   ──add──> row 0 ─┘
//! ```
//!
//! Deliberately different from Envoy, where one atomic is shared by all threads: every metric has a
//! cell of its own per thread ([`shard`]), so that a worker counts with a plain load and store; and the metrics of an object
//! are one allocation ([`block`]), whose names are put together when somebody asks. Tags are taken out of names when Prometheus asks
//! for them. Left out: configured tags, symbol tables and text readouts.

mod bins;
mod block;
mod histogram;
mod metric;
mod primitive;
mod render;
mod scope;
pub mod shard;
mod statistics;
mod stats_struct;
mod store;
mod tags;

pub use block::Schema;
pub use histogram::{Histogram, HistogramBucket, Unit};
pub use metric::{Counter, CounterRef, Gauge, GaugeRef};
pub use primitive::PrimitiveCells;
pub use render::{format_double, format_g, format_shortest};
pub use scope::{MetricBlock, Metrics, Scope};
pub use shard::{current_shard, is_shared_shard, register_thread};
pub use statistics::{HistogramStatistics, SUPPORTED_BUCKETS, SUPPORTED_QUANTILES};
pub use store::Store;
pub use tags::{Tag, extract_tags};
