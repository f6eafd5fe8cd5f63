//! Which deployments of Istio there are, and what tells them apart.

use super::{Around, Istio};
use crate::deployment::{Deployment, OnRejected};

/// Where the plugin is, and how it gets there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In the service's own sidecar.
    Sidecar,
    /// There, without the line that names the refresher.
    WithoutBootstrap,
    /// There, by `injection-values.yaml` and for the whole mesh.
    MeshWide,
    /// In a gateway, to which the service's sidecar sends what is for WeChat.
    Egress,
    /// In two pods of that gateway, which share their tokens by Redis.
    EgressWithRedis,
    /// In that gateway, without the line that names the refresher.
    EgressWithoutBootstrap,
    /// In the sidecar's listeners, fetched by the agent.
    WasmPlugin,
}

impl Kind {
    pub(super) fn is_gateway(self) -> bool {
        matches!(
            self,
            Kind::Egress | Kind::EgressWithRedis | Kind::EgressWithoutBootstrap
        )
    }
}

/// All of Istio's, in the order in which they run.
pub(crate) fn deployments() -> Vec<Box<dyn Deployment>> {
    let sidecar = &[
        "sidecar/wechat.yaml",
        "sidecar/injector.yaml",
        "sidecar/status.yaml",
        "sidecar/refresher.yaml",
        "sidecar/deployment.yaml",
    ];
    let egress = &[
        "egress-gateway/wechat.yaml",
        "egress-gateway/injector.yaml",
        "egress-gateway/status.yaml",
        "egress-gateway/refresher.yaml",
        "egress-gateway/deployment.yaml",
    ];
    let all = [
        Istio {
            name: "istio-sidecar",
            about: "envoy/istio/sidecar, by injection, discovery and agent of Istio",
            files: sidecar,
            on_rejected: OnRejected::Resent,
            has_refresher: true,
            kind: Kind::Sidecar,
            around: Around::default(),
        },
        Istio {
            name: "istio-sidecar-without-bootstrap",
            about: "envoy/istio/sidecar without refresher.yaml: the EnvoyFilter alone",
            files: sidecar,
            on_rejected: OnRejected::Resent,
            has_refresher: false,
            kind: Kind::WithoutBootstrap,
            around: Around::default(),
        },
        Istio {
            name: "istio-mesh-wide",
            about: "envoy/istio/sidecar in Istio's root namespace, by injection-values.yaml",
            files: &[
                "sidecar/wechat.yaml",
                "sidecar/injector.yaml",
                "sidecar/status.yaml",
                "sidecar/refresher.yaml",
                "sidecar/deployment-by-template.yaml",
            ],
            on_rejected: OnRejected::Resent,
            has_refresher: true,
            kind: Kind::MeshWide,
            around: Around::default(),
        },
        Istio {
            name: "istio-egress-gateway",
            about: "envoy/istio/egress-gateway, behind a service's sidecar by mutual TLS",
            files: egress,
            on_rejected: OnRejected::Resent,
            has_refresher: true,
            kind: Kind::Egress,
            around: Around::default(),
        },
        Istio {
            name: "istio-egress-gateway-with-redis",
            about:
                "envoy/istio/egress-gateway with redis.yaml: two pods of the gateway on one Redis",
            files: &[
                "egress-gateway/wechat.yaml",
                "egress-gateway/injector.yaml",
                "egress-gateway/status.yaml",
                "egress-gateway/refresher.yaml",
                "egress-gateway/redis.yaml",
                "egress-gateway/deployment.yaml",
            ],
            on_rejected: OnRejected::Resent,
            has_refresher: true,
            kind: Kind::EgressWithRedis,
            around: Around::default(),
        },
        Istio {
            name: "istio-egress-gateway-without-bootstrap",
            about: "envoy/istio/egress-gateway without refresher.yaml: the EnvoyFilters alone",
            files: egress,
            on_rejected: OnRejected::Resent,
            has_refresher: false,
            kind: Kind::EgressWithoutBootstrap,
            around: Around::default(),
        },
        Istio {
            name: "istio-wasm-plugin",
            about: "envoy/istio/wasm-plugin, the .wasm fetched by Istio's agent over HTTP",
            files: &[
                "wasm-plugin/wechat.yaml",
                "wasm-plugin/wasm-plugin.yaml",
                "wasm-plugin/deployment.yaml",
            ],
            on_rejected: OnRejected::Unnoticed,
            has_refresher: false,
            kind: Kind::WasmPlugin,
            around: Around::default(),
        },
    ];
    let boxed = |istio| Box::new(istio) as Box<dyn Deployment>;
    all.into_iter().map(boxed).collect()
}
