//! When connections are drained. Mirrors Envoy's `include/envoy/network/drain_decision.h`.

/// Whether responses should close their connection because the server drains.
pub trait DrainDecision: Send + Sync {
    /// Asked for each response.
    fn drain_close(&self) -> bool;
}
