//! Where an Envoy tells about a request: access logs as text and as JSON, the router's log of each attempt, spans by
//! OpenTelemetry or Zipkin. And a plain Envoy as a hop before or behind the plugin's one, which tells as much.

use std::net::SocketAddr;

use serde_json::{json, Value};
use support::envoy::{Config, Envoy};
use support::wait::until;
use tempfile::TempDir;

use super::collector::Collector;
use crate::settings::Setting;
use crate::world::SOON;

/// The ways to log a path, `docs/operations.md`.
pub(crate) const CAREFUL: &str =
    "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PATH()% %PATH(WQ:ORIG_OR_PATH)% %PATH(NQ:ORIG_OR_PATH)%";
/// How it must not be.
pub(crate) const RAW: &str = "%REQ(:PATH)%";

pub(crate) const ZIPKIN_PATH: &str = "/api/v2/spans";
const OTLP_PATH: &str = "/v1/traces";

/// What else of a request is worth a place in a log.
const OTHERS: [&str; 16] = [
    "%REQ(:METHOD)%",
    "%PROTOCOL%",
    "%RESPONSE_CODE%",
    "%RESPONSE_FLAGS%",
    "%RESPONSE_CODE_DETAILS%",
    "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "%UPSTREAM_HOST%",
    "%UPSTREAM_CLUSTER%",
    "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "%ROUTE_NAME%",
    "%LOCAL_REPLY_BODY%",
    "%DYNAMIC_METADATA(envoy.filters.http.wasm)%",
    "%REQ(:AUTHORITY)%",
    "%REQ(X-WECHAT-APPID)%",
    "%RESP(X-WECHAT-TOKEN-ERROR)%",
    "%RESP(X-WECHAT-TOKEN-RETRY)%",
];

/// Which tracer an Envoy's connection manager has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracer {
    OpenTelemetry,
    Zipkin,
}

/// What one connection manager tells.
pub(crate) struct Sinks {
    listener: String,
    path: &'static str,
    tracer: Tracer,
    files: TempDir,
    traces: Collector,
    /// Envoy's own protocol for access logs, of which only the address can be chosen: it has the path as it is.
    service: Option<Collector>,
}

/// The path of the connection manager of a listener.
pub(crate) fn manager(listener: &str) -> String {
    format!("static_resources.listeners[name={listener}].filter_chains[0].filters[0].typed_config")
}

impl Sinks {
    /// Lets this listener of the configuration tell all; the access log that it has stays.
    pub(crate) async fn of(
        config: &mut Config,
        listener: &str,
        path: &'static str,
        tracer: Tracer,
    ) -> Self {
        let mut sinks = Sinks {
            listener: listener.to_owned(),
            path,
            tracer,
            files: tempfile::tempdir().expect("a folder for logs"),
            traces: Collector::http().await,
            service: None,
        };
        if path == RAW {
            sinks.service = Some(Collector::grpc().await);
        }
        sinks.attach(config);
        sinks
    }

    /// All that was told, by the sink's name.
    pub(crate) fn told(&self) -> Vec<(String, String)> {
        let file = |name: &str| std::fs::read_to_string(self.file(name)).unwrap_or_default();
        let mut told: Vec<_> = ["text", "json", "attempts"]
            .map(|name| (name, file(name)))
            .into();
        told.push(("spans", self.traces.text()));
        if let Some(service) = &self.service {
            told.push(("log service", service.text()));
        }
        let named = |(name, text)| (format!("{} of {}", name, self.listener), text);
        told.into_iter().map(named).collect()
    }

    /// Waits until each sink has told of a request by this word in its path; of one that was not sent on, there are no attempts.
    pub(crate) async fn wait_for(&self, word: &str, was_sent: bool) {
        let what = format!("{word} in every sink of {}", self.listener);
        let is_told = |(name, text): &(String, String)| {
            text.contains(word) || (name.starts_with("attempts") && !was_sent)
        };
        until(SOON, &what, || self.told().iter().all(is_told)).await;
    }

    fn file(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    fn attach(&self, config: &mut Config) {
        let manager = manager(&self.listener);
        let line = format!("{} {}\n", self.path, OTHERS.join(" "));
        let text = json!({"text_format_source": {"inline_string": line}});
        let mut fields = json!({"path": self.path});
        for operator in OTHERS {
            let name = operator.trim_matches('%').to_lowercase();
            fields["others"][name] = operator.into();
        }
        let fields = json!({"json_format": fields});
        if config.find(&format!("{manager}.access_log")).is_none() {
            config.set(&format!("{manager}.access_log"), json!([]));
        }
        for (name, format) in [("text", &text), ("json", &fields)] {
            config.push(&format!("{manager}.access_log"), self.log(name, format));
        }
        let router = format!("{manager}.http_filters[name=envoy.filters.http.router].typed_config");
        config.set(
            &format!("{router}.upstream_log"),
            json!([self.log("attempts", &text)]),
        );
        if let Some(service) = &self.service {
            let name = format!("log_service_of_{}", self.listener);
            config.push(&format!("{manager}.access_log"), log_service(&name));
            let mut cluster = cluster(&name, service.address);
            cluster["typed_extension_protocol_options"] = http2();
            config.push("static_resources.clusters", cluster);
        }
        config.set(&format!("{manager}.tracing"), self.tracing());
        config.push("static_resources.clusters", self.collector());
        config.set("layered_runtime", at_once());
    }

    fn log(&self, name: &str, format: &Value) -> Value {
        json!({
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": self.file(name),
                "log_format": format,
            }
        })
    }

    fn tracing(&self) -> Value {
        let cluster = self.cluster();
        let provider = match self.tracer {
            Tracer::OpenTelemetry => json!({
                "name": "envoy.tracers.opentelemetry",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                    "service_name": self.listener,
                    "http_service": {"http_uri": {
                        "uri": format!("http://collector{OTLP_PATH}"), "cluster": cluster, "timeout": "5s",
                    }},
                }
            }),
            Tracer::Zipkin => json!({
                "name": "envoy.tracers.zipkin",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
                    "collector_cluster": cluster,
                    "collector_endpoint": ZIPKIN_PATH,
                    "collector_endpoint_version": "HTTP_JSON",
                }
            }),
        };
        let mut tracing = json!({
            "provider": provider,
            "spawn_upstream_span": true,
            "verbose": true,
            // The default cuts paths at 256 characters, a token sits at their end.
            "max_path_tag_length": 4096,
            "custom_tags": [{"tag": "appid", "request_header": {"name": "x-wechat-appid"}}],
        });
        if self.path == RAW {
            let tags = tracing["custom_tags"].as_array_mut().expect("a list");
            tags.push(json!({"tag": "path", "request_header": {"name": ":path"}}));
        }
        tracing
    }

    fn cluster(&self) -> String {
        format!("collector_of_{}", self.listener)
    }

    fn collector(&self) -> Value {
        cluster(&self.cluster(), self.traces.address)
    }
}

/// A cluster of one address.
pub(crate) fn cluster(name: &str, address: SocketAddr) -> Value {
    let socket = json!({"address": address.ip().to_string(), "port_value": address.port()});
    let endpoint = json!({"endpoint": {"address": {"socket_address": socket}}});
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    })
}

fn log_service(cluster: &str) -> Value {
    json!({
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": {
                "log_name": "log",
                "transport_api_version": "V3",
                "buffer_flush_interval": "0.05s",
                "grpc_service": {"envoy_grpc": {"cluster_name": cluster}},
            },
        }
    })
}

fn http2() -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }})
}

/// Spans are sent one by one, instead of five at once or after five seconds.
fn at_once() -> Value {
    json!({"layers": [{"name": "static", "static_layer": {
        "tracing.opentelemetry.min_flush_spans": 1,
        "tracing.zipkin.min_flush_spans": 1,
    }}]})
}

/// Logs are written soon, instead of after ten seconds.
pub(crate) const SOON_WRITTEN: [&str; 2] = ["--file-flush-interval-msec", "50"];
/// The plugin says all that it can, Envoy what it says by default.
pub(crate) const TALKATIVE: [&str; 2] = ["--component-log-level", "wasm:trace"];

/// An Envoy without the plugin that sends all to the next address.
pub(crate) struct Hop {
    pub(crate) envoy: Envoy,
    pub(crate) sinks: Sinks,
}

impl Hop {
    pub(crate) async fn start(
        setting: Setting,
        name: &str,
        next: SocketAddr,
        tracer: Tracer,
    ) -> Self {
        let mut config = Config::parse(HOP);
        config.free_ports();
        config.set("static_resources.listeners[0].name", name);
        config.set("static_resources.clusters[0]", cluster("next", next));
        let sinks = Sinks::of(&mut config, name, CAREFUL, tracer).await;
        let mut builder = Envoy::builder(setting.version).config(config);
        for arg in SOON_WRITTEN {
            builder = builder.arg(arg);
        }
        Hop {
            envoy: builder.start().await,
            sinks,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.envoy.listeners()[0].1
    }
}

const HOP: &str = r#"
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 0}}
static_resources:
  listeners:
  - name: hop
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: hop
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: /}, route: {cluster: next}}]
  clusters:
  - name: next
"#;
