//! Makes snapshots, and tells who goes by them. Mirrors `LoaderImpl` of Envoy's
//! `source/common/runtime/runtime_impl.cc`.
//!
//! Differs in that no thread has a snapshot of its own, and in what makes it look at the disk: the admin's changes do, and the start; no file is watched.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use super::layers::OverrideLayer;
use super::snapshot::SnapshotImpl;
use crate::config::runtime::{DiskLayer, LayerSpecifier, LayeredRuntime};
use crate::envoy_log;
use crate::stats::Store;
use crate::stats_struct;

stats_struct! {
    /// `runtime.`
    struct RuntimeStats {
        counters: [
            deprecated_feature_use,
            load_error,
            load_success,
            override_dir_exists,
            override_dir_not_exists,
        ],
        gauges: [
            admin_overrides_active,
            deprecated_feature_seen_since_process_start,
            num_keys,
            num_layers,
        ],
        histograms: [],
    }
}

/// Something that goes by keys, and wants to know when they change.
pub trait RuntimeUser: Send + Sync {
    /// There is a new snapshot, or the first one. Main thread.
    fn on_new_snapshot(&self, snapshot: &SnapshotImpl);
}

/// No layer takes what the admin says.
#[derive(Debug, PartialEq, Eq)]
pub struct NoAdminLayer;

/// The settings on the main thread.
pub struct LoaderImpl {
    config: LayeredRuntime,
    service_cluster: String,
    /// What the admin has said.
    admin_values: RefCell<BTreeMap<String, String>>,
    stats: RuntimeStats,
    current: RefCell<Arc<SnapshotImpl>>,
    users: RefCell<Vec<Weak<dyn RuntimeUser>>>,
}

impl LoaderImpl {
    /// With the layers of the configuration; `service_cluster` names a folder of its own for this node.
    pub fn new(config: LayeredRuntime, service_cluster: &str, stats: &Arc<Store>) -> Rc<Self> {
        let stats = RuntimeStats::new(&stats.root_scope().create_scope("runtime."));
        stats.admin_overrides_active.set(0);
        stats.deprecated_feature_seen_since_process_start.set(0);
        let loader = LoaderImpl {
            config,
            service_cluster: service_cluster.to_string(),
            admin_values: RefCell::default(),
            stats,
            current: RefCell::default(),
            users: RefCell::default(),
        };
        loader.load_new_snapshot();
        Rc::new(loader)
    }

    /// Without layers.
    pub fn empty(stats: &Arc<Store>) -> Rc<Self> {
        LoaderImpl::new(LayeredRuntime::default(), "", stats)
    }

    /// The settings of now.
    pub fn snapshot(&self) -> Arc<SnapshotImpl> {
        self.current.borrow().clone()
    }

    /// Tells `user` of the settings now, and whenever they change for as long as it lives.
    pub fn add_user(&self, user: &Arc<impl RuntimeUser + 'static>) {
        user.on_new_snapshot(&self.snapshot());
        if self.may_change() {
            let mut users = self.users.borrow_mut();
            if users.len() == users.capacity() {
                users.retain(|user| user.strong_count() > 0);
            }
            let user: Weak<dyn RuntimeUser> = Arc::downgrade(user) as _;
            users.push(user);
        }
    }

    /// Changes the admin's layer; an empty value takes a key out.
    ///
    /// # Errors
    /// There is no such layer.
    pub fn merge_values(&self, values: &[(String, String)]) -> Result<(), NoAdminLayer> {
        if !self.may_change() {
            return Err(NoAdminLayer);
        }
        let mut admin_values = self.admin_values.borrow_mut();
        for (key, value) in values {
            admin_values.remove(key);
            if !value.is_empty() {
                admin_values.insert(key.clone(), value.clone());
            }
        }
        self.stats.admin_overrides_active.set(u64::from(!admin_values.is_empty()));
        drop(admin_values);
        self.load_new_snapshot();
        Ok(())
    }

    fn may_change(&self) -> bool {
        self.config.layers.iter().any(|layer| layer.specifier == LayerSpecifier::Admin)
    }

    /// Reads all layers anew.
    pub fn load_new_snapshot(&self) {
        let snapshot = self.create_new_snapshot();
        self.stats.num_keys.set(snapshot.num_keys() as u64);
        *self.current.borrow_mut() = snapshot.clone();
        let users: Vec<_> = self.users.borrow().iter().filter_map(Weak::upgrade).collect();
        users.iter().for_each(|user| user.on_new_snapshot(&snapshot));
    }

    fn create_new_snapshot(&self) -> Arc<SnapshotImpl> {
        let mut layers = Vec::new();
        let (mut on_disk, mut failed) = (0, false);
        for layer in &self.config.layers {
            let name = &layer.name;
            match &layer.specifier {
                LayerSpecifier::Static(values) => layers.push(OverrideLayer::of_static(name, values)),
                LayerSpecifier::Admin => {
                    layers.push(OverrideLayer::of_texts(name, &self.admin_values.borrow()));
                }
                LayerSpecifier::Disk(disk) => {
                    let path = self.folder(disk);
                    if !path.is_dir() {
                        continue;
                    }
                    match OverrideLayer::of_disk(name, &path) {
                        Ok(layer) => {
                            layers.push(layer);
                            on_disk += 1;
                        }
                        Err(error) => {
                            failed = true;
                            envoy_log!(
                                Runtime,
                                debug,
                                "error loading runtime values for layer {} from disk: {}",
                                name,
                                error
                            );
                        }
                    }
                }
            }
        }
        let stats = &self.stats;
        stats.num_layers.set(layers.len() as u64);
        if failed {
            stats.load_error.inc()
        } else {
            stats.load_success.inc()
        }
        if on_disk > 1 {
            stats.override_dir_exists.inc()
        } else {
            stats.override_dir_not_exists.inc()
        }
        SnapshotImpl::new(layers)
    }

    fn folder(&self, disk: &DiskLayer) -> PathBuf {
        let mut folder = format!("{}/{}", disk.symlink_root, disk.subdirectory);
        if disk.append_service_cluster {
            folder += "/";
            folder += &self.service_cluster;
        }
        folder.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::runtime::RuntimeLayer;
    use crate::runtime::test_folder::Folder;
    use serde_json::json;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    fn layer(name: &str, specifier: LayerSpecifier) -> RuntimeLayer {
        RuntimeLayer { name: name.into(), specifier }
    }

    fn loader(layers: Vec<RuntimeLayer>) -> (Rc<LoaderImpl>, Arc<Store>) {
        loader_of("mine", layers)
    }

    fn loader_of(service_cluster: &str, layers: Vec<RuntimeLayer>) -> (Rc<LoaderImpl>, Arc<Store>) {
        let store = Store::new(1);
        (LoaderImpl::new(LayeredRuntime { layers }, service_cluster, &store), store)
    }

    fn value(store: &Arc<Store>, name: &str) -> u64 {
        let counter = store.find_counter(&format!("runtime.{name}")).map(|c| c.value());
        counter.unwrap_or_else(|| store.find_gauge(&format!("runtime.{name}")).unwrap().value())
    }

    #[derive(Default)]
    struct User(AtomicU64);

    impl RuntimeUser for User {
        fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
            self.0.store(snapshot.get_integer("a", 9), Relaxed);
        }
    }

    #[test]
    fn the_admin_changes_what_users_go_by() {
        let values = json!({ "a": 1 }).as_object().unwrap().clone();
        let of_config = layer("static", LayerSpecifier::Static(values));
        let (loader, store) = loader(vec![of_config, layer("admin", LayerSpecifier::Admin)]);
        let (user, gone) = (Arc::new(User::default()), Arc::new(User::default()));
        loader.add_user(&user);
        loader.add_user(&gone);
        drop(gone);
        assert_eq!(user.0.load(Relaxed), 1);
        let merge = |key: &str, value: &str| loader.merge_values(&[(key.into(), value.into())]).unwrap();
        merge("a", "5");
        assert_eq!((user.0.load(Relaxed), loader.snapshot().get_integer("a", 9)), (5, 5));
        merge("b", "1");
        let names = ["admin_overrides_active", "num_keys", "num_layers", "load_success"];
        assert_eq!(names.map(|name| value(&store, name)), [1, 2, 2, 3]);
        merge("b", "");
        merge("a", "");
        assert_eq!((user.0.load(Relaxed), value(&store, "admin_overrides_active")), (1, 0));
    }

    #[test]
    fn without_an_admin_layer_nothing_changes_and_nobody_is_kept() {
        let (loader, store) = loader(Vec::new());
        let user = Arc::new(User::default());
        loader.add_user(&user);
        assert_eq!(loader.merge_values(&[("a".into(), "5".into())]), Err(NoAdminLayer));
        assert_eq!((user.0.load(Relaxed), value(&store, "num_layers")), (9, 0));
        assert_eq!(Arc::weak_count(&user), 0);
    }

    #[test]
    fn the_folder_of_a_service_cluster_is_below_the_root() {
        let folder = Folder::new();
        std::fs::create_dir_all(folder.path().join("over/mine")).unwrap();
        std::fs::write(folder.path().join("over/mine/a"), "1").unwrap();
        let symlink_root = folder.path().display().to_string();
        let disk = DiskLayer { symlink_root, subdirectory: "over".into(), append_service_cluster: true };
        let of_disk = vec![layer("disk", LayerSpecifier::Disk(disk))];
        let (loader, _) = loader_of("/mine", of_disk);
        assert_eq!(loader.snapshot().get("a"), Some("1"));
    }

    #[test]
    fn folders_are_read_anew_and_a_missing_one_is_no_layer() {
        let folder = Folder::new();
        let disk = |subdirectory: &str, append_service_cluster| {
            let symlink_root = folder.path().display().to_string();
            let disk = DiskLayer { symlink_root, subdirectory: subdirectory.into(), append_service_cluster };
            layer(subdirectory, LayerSpecifier::Disk(disk))
        };
        std::fs::create_dir_all(folder.path().join("over/mine")).unwrap();
        std::fs::create_dir(folder.path().join("base")).unwrap();
        std::fs::write(folder.path().join("base/a"), "1").unwrap();
        let layers = vec![disk("base", false), disk("over", true), disk("none", false)];
        let (loader, store) = loader(layers);
        let counts = || ["num_layers", "override_dir_exists", "load_error"].map(|n| value(&store, n));
        assert_eq!((loader.snapshot().get("a"), counts()), (Some("1"), [2, 1, 0]));
        std::fs::write(folder.path().join("over/mine/a"), "2").unwrap();
        loader.load_new_snapshot();
        assert_eq!((loader.snapshot().get("a"), counts()), (Some("2"), [2, 2, 0]));
    }
}
