//! Settings that may change while the server runs, in layers of which a later one wins.
//!
//! Envoy's namespace `Runtime`, as of 1.40: `layered_runtime` with layers from the configuration, from files
//! and from the admin. Envoy's code looks a key up whenever it wants to know. Here what is asked per request is a
//! [`RuntimeUser`]: it looks its keys up when there is a new snapshot, and reads a number of its own per request. Where
//! no layer can change, nobody is told of anything.

mod entry;
mod flag;
mod layers;
mod loader;
mod overrides;
mod share;
mod snapshot;
#[cfg(test)]
mod test_folder;

pub use entry::{Denominator, Entry, FractionalPercent};
pub use flag::FeatureFlag;
pub use layers::OverrideLayer;
pub use loader::{LoaderImpl, NoAdminLayer, RuntimeUser};
pub use overrides::{IntegerOverride, PercentOverride};
pub use share::RuntimeShare;
pub use snapshot::SnapshotImpl;
