//! The [`stats_struct!`](crate::stats_struct) macro (Envoy `stats_macros.h`).

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
    (@unit) => { $crate::stats::Unit::Milliseconds };
    (@unit $unit:ident) => { $crate::stats::Unit::$unit };
}

#[cfg(test)]
mod tests {
    use super::super::Store;

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
