//! What both say of a configuration that they are to validate.

use super::config::minimal;
use super::proxy::{Kind, new_directory};
use super::runner::proxies;
use serde_json::Value;

/// `--mode validate` with this merged over the connection manager: whether it loads, and what is said.
pub fn validated(kind: Kind, hcm: &Value) -> (bool, String) {
    let directory = new_directory(kind);
    let mut bootstrap = minimal(&directory);
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let manager =
        bootstrap.pointer_mut(manager).and_then(Value::as_object_mut).expect("a connection manager");
    manager.extend(hcm.as_object().cloned().unwrap_or_default());
    let output = kind.run(&["--mode", "validate", "--config-yaml", &bootstrap.to_string()]);
    let _ = std::fs::remove_dir_all(directory);
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Both take it, or both refuse it, with these words.
#[track_caller]
pub fn agree(hcm: &Value, refused: Option<&str>) {
    for kind in proxies() {
        let (loads, said) = validated(kind, hcm);
        let fits = refused.map_or(loads, |words| !loads && said.contains(words));
        assert!(
            fits,
            "{kind:?} is to say {refused:?} of {hcm}: {}",
            said.chars().take(2000).collect::<String>()
        );
    }
}
