//! The [`stats_struct!`](crate::stats_struct) and [`stats_block!`](crate::stats_block) macros (Envoy `stats_macros.h`).

/// Defines a struct with a public field per metric, named as the metric is, and `new(&Scope)` that makes
/// them all. Histograms are in milliseconds, unless `name: Unit` says otherwise. All three lists must be there, in this
/// order; they may be empty.
///
/// ```
/// legate::stats_struct! {
///     /// Statistics of a listener.
///     pub struct ListenerStats {
///         counters: [downstream_cx_total, downstream_cx_destroy],
///         gauges: [downstream_cx_active],
///         histograms: [downstream_cx_length_ms],
///     }
/// }
/// let store = legate::stats::Store::new(1);
/// let stats = ListenerStats::new(&store.root_scope().create_scope("listener.a."));
/// stats.downstream_cx_total.inc();
/// assert_eq!(stats.downstream_cx_total.name(), "listener.a.downstream_cx_total");
/// ```
#[macro_export]
macro_rules! stats_struct {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            counters: [$($counter:ident),* $(,)?],
            gauges: [$($gauge:ident),* $(,)?],
            histograms: [$($histogram:ident $(: $unit:ident)?),* $(,)?] $(,)?
        }
    ) => {
        $(#[$attribute])*
        // A statistic stands in the list under its name whether or not anything counts it yet.
        #[allow(dead_code)]
        #[derive(Clone, Debug)]
        $visibility struct $name {
            $(#[doc = concat!("The counter `", stringify!($counter), "`.")]
            pub $counter: $crate::stats::Counter,)*
            $(#[doc = concat!("The gauge `", stringify!($gauge), "`.")]
            pub $gauge: $crate::stats::Gauge,)*
            $(#[doc = concat!("The histogram `", stringify!($histogram), "`.")]
            pub $histogram: $crate::stats::Histogram,)*
        }

        impl $name {
            /// Makes the metrics in `scope`, or finds those already there.
            $visibility fn new(scope: &$crate::stats::Scope) -> Self {
                static SCHEMA: $crate::stats::Schema = $crate::stats::Schema {
                    counters: &[$(stringify!($counter)),*],
                    gauges: &[$(stringify!($gauge)),*],
                    histograms: &[$((
                        stringify!($histogram),
                        $crate::stats_struct!(@unit $($unit)?),
                    )),*],
                };
                #[allow(unused_mut, unused_variables)]
                let mut metrics = scope.metrics(&SCHEMA);
                Self {
                    $($counter: metrics.counter(),)*
                    $($gauge: metrics.gauge(),)*
                    $($histogram: metrics.histogram(),)*
                }
            }
        }
    };
    (@name $name:ident) => { stringify!($name) };
    (@name $name:ident $text:literal) => { $text };
    (@unit) => { $crate::stats::Unit::Milliseconds };
    (@unit $unit:ident) => { $crate::stats::Unit::$unit };
}

/// As [`stats_struct!`], for what there are many of: the struct is as large as two pointers, and has a method per metric.
/// `name = "text"` is a metric whose name is no Rust name.
///
/// ```
/// legate::stats_block! {
///     /// Statistics of a cluster.
///     pub struct ClusterStats {
///         counters: [upstream_cx_total],
///         gauges: [upstream_cx_active],
///         histograms: [upstream_cx_length_ms],
///     }
/// }
/// let store = legate::stats::Store::new(1);
/// let stats = ClusterStats::new(&store.root_scope().create_scope("cluster.a."));
/// stats.upstream_cx_active().inc();
/// assert_eq!(stats.upstream_cx_active().name(), "cluster.a.upstream_cx_active");
/// ```
#[macro_export]
macro_rules! stats_block {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            counters: [$($counter:ident $(= $counter_name:literal)?),* $(,)?],
            gauges: [$($gauge:ident $(= $gauge_name:literal)?),* $(,)?],
            histograms: [$($histogram:ident $(: $unit:ident)?),* $(,)?] $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone)]
        $visibility struct $name($crate::stats::MetricBlock);

        const _: () = {
            static SCHEMA: $crate::stats::Schema = $crate::stats::Schema {
                counters: &[$($crate::stats_struct!(@name $counter $($counter_name)?)),*],
                gauges: &[$($crate::stats_struct!(@name $gauge $($gauge_name)?)),*],
                histograms: &[$((
                    stringify!($histogram),
                    $crate::stats_struct!(@unit $($unit)?),
                )),*],
            };

            /// The places of the metrics.
            #[allow(non_camel_case_types)]
            enum Place { $($counter,)* $($gauge,)* $($histogram,)* }

            // A statistic stands in the list under its name whether or not anything counts it yet.
            #[allow(dead_code)]
            impl $name {
                /// Makes the metrics in `scope`, or finds those already there.
                $visibility fn new(scope: &$crate::stats::Scope) -> Self {
                    $name(scope.block(&SCHEMA))
                }

                $(#[doc = concat!("The counter `", $crate::stats_struct!(@name $counter $($counter_name)?), "`.")]
                #[inline]
                $visibility fn $counter(&self) -> $crate::stats::CounterRef<'_> {
                    self.0.counter(Place::$counter as usize)
                })*
                $(#[doc = concat!("The gauge `", $crate::stats_struct!(@name $gauge $($gauge_name)?), "`.")]
                #[inline]
                $visibility fn $gauge(&self) -> $crate::stats::GaugeRef<'_> {
                    self.0.gauge(Place::$gauge as usize, SCHEMA.counters.len())
                })*
                $(#[doc = concat!("The histogram `", stringify!($histogram), "`.")]
                #[inline]
                $visibility fn $histogram(&self) -> &$crate::stats::Histogram {
                    self.0.histogram(Place::$histogram as usize)
                })*
            }
        };
    };
}

#[cfg(test)]
mod tests {
    use super::super::{Store, Unit};

    crate::stats_struct! {
        struct TestStats {
            counters: [one, two],
            gauges: [three],
            histograms: [four_ms],
        }
    }

    crate::stats_struct! {
        struct OnlyGauges {
            counters: [],
            gauges: [three,],
            histograms: []
        }
    }

    crate::stats_block! {
        struct TestBlock {
            counters: [one, two = "of.two"],
            gauges: [three, five],
            histograms: [four_ms, six: Bytes],
        }
    }

    #[test]
    fn methods_are_metrics_of_the_scope() {
        let store = Store::new(1);
        let scope = store.root_scope().create_scope("s.");
        // Found in another block.
        let (two, five) = (scope.counter("of.two"), scope.gauge("five"));
        let stats = TestBlock::new(&scope);
        stats.one().inc();
        stats.two().add(2);
        stats.three().set(3);
        stats.five().inc();
        assert_eq!(store.histograms().len(), 2);
        stats.six().record(4);
        store.merge_histograms();
        assert_eq!((two.value(), five.value(), stats.three().handle().value()), (2, 1, 3));
        let names =
            [stats.one().name(), stats.two().handle().name(), stats.three().name(), stats.five().name()];
        assert_eq!(names, ["s.one", "s.of.two", "s.three", "s.five"]);
        let again = TestBlock::new(&scope);
        assert_eq!((again.one().value(), again.six().cumulative().count), (1, 1));
        assert_eq!((again.six().name(), again.six().unit()), ("s.six", Unit::Bytes));
        let counts: Vec<u64> = store.histograms().iter().map(|h| h.cumulative().count).collect();
        assert_eq!(counts, [0, 1]);
        assert_eq!((store.counters().len(), store.gauges().len()), (2, 2));
        assert_eq!(size_of::<TestBlock>(), 24);
    }

    #[test]
    fn fields_are_metrics_of_the_scope() {
        let store = Store::new(1);
        let scope = store.root_scope().create_scope("s.");
        let stats = TestStats::new(&scope);
        stats.one.inc();
        stats.two.add(2);
        stats.three.set(3);
        stats.four_ms.record(4);
        store.merge_histograms();
        let three = OnlyGauges::new(&scope).three;
        assert_eq!((three.name(), three.value()), ("s.three".to_string(), 3));
        let again = TestStats::new(&scope);
        assert_eq!((again.one.value(), again.two.value(), again.four_ms.cumulative().count), (1, 2, 1));
        assert_eq!(again.four_ms.name(), "s.four_ms");
    }
}
