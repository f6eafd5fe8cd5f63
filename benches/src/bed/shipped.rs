//! The plugin as users deploy it: filter, refresher and document out of `envoy/envoy.yaml`.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{json, Value as Json};
use serde_norway::Value;
use support::envoy::Config;

use crate::load::HOST;

/// The environment variable of the shipped configuration that holds the secret.
pub const SECRET_NAME: &str = "WECHAT_SECRET";
/// The fake WeChat's secret, of every app.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Where the shipped configuration expects the .wasm.
const WASM: &str = "/etc/envoy/wechat-token.wasm";

/// What the plugin is told beyond the shipped document.
#[derive(Clone, Copy, Debug)]
pub struct Plugin {
    /// Number of apps; the first is the default.
    pub apps: usize,
    /// Longest wait of a request and of a token call, in seconds; `None`: as shipped.
    pub patience: Option<u64>,
    /// Whether it looks at answers.
    pub watch: bool,
    /// Whether it shares its tokens through a Redis.
    pub redis: bool,
}

/// The shipped configuration's parts.
#[derive(Debug)]
pub struct Shipped {
    injector: Value,
    refresher: Value,
    document: Json,
}

impl Plugin {
    /// One app, and nothing else changed.
    pub const SHIPPED: Self = Self {
        apps: 1,
        patience: None,
        watch: true,
        redis: false,
    };

    fn document(self, shipped: &Json) -> Result<Json> {
        let apps: Vec<Json> = (0..self.apps)
            .map(|number| json!({"appid": appid(number), "secret": {"env": SECRET_NAME}}))
            .collect();
        let mut document = shipped.clone();
        let fields = document.as_object_mut().context("no document")?;
        fields.insert("apps".to_owned(), json!(apps));
        fields.insert("default_app".to_owned(), json!(appid(0)));
        fields.insert("watch".to_owned(), json!(self.watch));
        if self.redis {
            fields.insert("redis".to_owned(), json!({}));
        }
        if let Some(seconds) = self.patience {
            let patience = format!("{seconds}s");
            fields.insert("wait".to_owned(), json!({"timeout": patience}));
            let upstream = json!({"cluster": "wechat_token", "authority": HOST});
            let weixin = json!({"upstreams": [upstream], "timeout": patience});
            fields.insert("weixin".to_owned(), weixin);
        }
        Ok(document)
    }
}

impl Shipped {
    /// Reads `envoy/envoy.yaml` and points it at this .wasm.
    pub fn load(wasm: &Path) -> Result<Self> {
        let config = Config::load("envoy/envoy.yaml");
        let find = |path: &str| {
            let found = config.find(path);
            found.with_context(|| format!("envoy/envoy.yaml has no {path}"))
        };
        let upstream =
            find("static_resources.clusters[name=wechat_api].typed_extension_protocol_options")?;
        let mut injector = upstream
            .get("envoy.extensions.upstreams.http.v3.HttpProtocolOptions")
            .and_then(|options| options.get("http_filters")?.get(0))
            .context("envoy/envoy.yaml has no upstream filter")?
            .clone();
        let mut refresher = find("bootstrap_extensions[0]")?.clone();
        let document = refresher
            .get("typed_config")
            .and_then(|config| config.get("config")?.get("configuration")?.get("value"))
            .context("envoy/envoy.yaml has no document in its refresher")?
            .clone();
        for part in [&mut injector, &mut refresher] {
            fill(part, WASM, utf8(wasm)?);
        }
        Ok(Self {
            injector,
            refresher,
            document: serde_norway::from_value(document)?,
        })
    }

    /// The filter.
    pub fn injector(&self, plugin: Plugin) -> Result<Value> {
        self.with_document(&self.injector, plugin)
    }

    /// The bootstrap extension.
    pub fn refresher(&self, plugin: Plugin) -> Result<Value> {
        self.with_document(&self.refresher, plugin)
    }

    fn with_document(&self, part: &Value, plugin: Plugin) -> Result<Value> {
        let mut part = part.clone();
        let document = serde_norway::to_value(plugin.document(&self.document)?)?;
        put_document(&mut part, &document);
        Ok(part)
    }
}

/// The appid of a number.
pub fn appid(number: usize) -> String {
    format!("wx{number:016x}")
}

/// A path as text.
pub fn utf8(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Gives the plugins below `value` this document, which is a `Struct` as shipped.
fn put_document(value: &mut Value, document: &Value) {
    match value {
        Value::Sequence(items) => items
            .iter_mut()
            .for_each(|item| put_document(item, document)),
        Value::Mapping(mapping) if mapping.contains_key("vm_config") => {
            if let Some(configuration) = mapping.get_mut("configuration") {
                configuration["value"] = document.clone();
            }
        }
        Value::Mapping(mapping) => mapping
            .iter_mut()
            .for_each(|(_, value)| put_document(value, document)),
        _ => {}
    }
}

/// Replaces a mark in every text below `value`.
pub fn fill(value: &mut Value, mark: &str, text: &str) {
    match value {
        Value::String(place) if place.contains(mark) => *place = place.replace(mark, text),
        Value::Sequence(items) => items.iter_mut().for_each(|item| fill(item, mark, text)),
        Value::Mapping(mapping) => mapping
            .iter_mut()
            .for_each(|(_, value)| fill(value, mark, text)),
        _ => {}
    }
}
