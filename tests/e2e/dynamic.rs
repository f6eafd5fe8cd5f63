//! An Envoy that gets its listener or its WeChat cluster from a file, as from a control plane, and takes a new one when the file is replaced.

use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::{json, Value};
use support::envoy::{Builder, Config, Envoy};
use support::wechat::FakeWeChat;
use tempfile::TempDir;

use crate::settings::{Placement, Setting};
use crate::world::{Plan, MANAGER, SOON};

/// The part of the configuration that comes from a file: the one with the injector in it.
pub(crate) struct Dynamic {
    folder: TempDir,
    kind: Kind,
    resource: Config,
    pub(crate) document: Value,
    version: u64,
}

/// What Envoy calls it.
struct Kind {
    path: &'static str,
    source: &'static str,
    type_url: &'static str,
    /// Counts the files that were taken.
    taken: &'static str,
}

const LISTENER: Kind = Kind {
    path: "static_resources.listeners",
    source: "lds_config",
    type_url: "type.googleapis.com/envoy.config.listener.v3.Listener",
    taken: "listener_manager.lds.update_success",
};

const CLUSTER: Kind = Kind {
    path: "static_resources.clusters",
    source: "cds_config",
    type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    taken: "cluster_manager.cds.update_success",
};

impl Dynamic {
    /// Moves the injector's place into a file; the plan's Envoy will read it there.
    pub(crate) fn of(mut plan: Plan, fake: &FakeWeChat) -> (Dynamic, Setting, Config) {
        for cluster in ["wechat_api", "wechat_token"] {
            plan.config.cluster_to(cluster, fake.address(), true);
        }
        let document = plan.document;
        plan.config
            .each_plugin(|_, place| *place = document.clone());
        let (kind, name) = match plan.setting.placement {
            Placement::Downstream => (LISTENER, "wechat"),
            Placement::Upstream => (CLUSTER, "wechat_api"),
        };
        let named = format!("{}[name={name}]", kind.path);
        let mut resource = Config::parse("{}");
        let found = plan
            .config
            .find(&named)
            .expect("the injector's place")
            .clone();
        resource.set("resource", found);
        resource.set("resource.@type", kind.type_url);
        if plan.setting.placement == Placement::Downstream {
            // A listener takes over the address of the one that it replaces, so it must have one of its own.
            resource.set("resource.address.socket_address.port_value", free_port());
        }
        let others = plan.config.at(kind.path).as_sequence_mut().expect("a list");
        others.retain(|item| item["name"].as_str() != Some(name));
        if plan.setting.placement == Placement::Upstream {
            let routes = format!("{MANAGER}.route_config.validate_clusters");
            plan.config.set(&routes, false);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mut dynamic = Dynamic {
            folder,
            kind,
            resource,
            document,
            version: 0,
        };
        let source =
            json!({"path_config_source": {"path": dynamic.file()}, "resource_api_version": "V3"});
        plan.config
            .set("node", json!({"id": "one", "cluster": "tests"}))
            .set("dynamic_resources", json!({dynamic.kind.source: source}));
        dynamic.put();
        (dynamic, plan.setting, plan.config)
    }

    /// Writes the file, with the document as it is now.
    fn put(&mut self) {
        self.version += 1;
        let document = &self.document;
        self.resource
            .each_plugin(|_, place| *place = document.clone());
        let resource = self.resource.find("resource").expect("the resource");
        let mut discovery = Config::parse("{}");
        discovery
            .set("version_info", self.version.to_string())
            .set("resources", [resource]);
        // Envoy is told of files that are moved into place.
        let new = self.folder.path().join("new");
        std::fs::write(&new, discovery.to_text()).expect("a file");
        std::fs::rename(new, self.file()).expect("a file in its place");
    }

    /// Replaces the file and waits until Envoy has it. What did not change Envoy leaves as it is.
    pub(crate) async fn update(&mut self, envoy: &Envoy) {
        self.put();
        envoy
            .wait_for_stat(self.kind.taken, self.version, SOON)
            .await;
    }

    /// Changes what comes from the file, besides the document.
    pub(crate) fn resource(&mut self) -> &mut Config {
        &mut self.resource
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("xds.yaml")
    }
}

/// A port of the loopback that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("its address").port()
}

/// Updates are over soon.
pub(crate) fn draining_fast(builder: Builder) -> Builder {
    let builder = builder.arg("--drain-time-s").arg("1");
    builder.arg("--drain-strategy").arg("immediate")
}
