//! Envoy configurations for tests: a shipped YAML file, patched where a test needs it (ports, upstreams, the .wasm,
//! the plugin's own document), so that tests run on what users deploy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use serde_norway::{Mapping, Value};

const STRING_VALUE: &str = "type.googleapis.com/google.protobuf.StringValue";

/// A patched Envoy configuration. Its methods panic with the path in question: a patch that finds nothing is a bug.
#[derive(Clone, Debug)]
pub struct Config {
    root: Value,
}

/// Which of the plugin's places a document belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRoot {
    /// `root_id`: `refresher` or `injector`.
    pub root_id: String,
    /// `name` of the plugin configuration, where it has one.
    pub name: Option<String>,
}

impl Config {
    /// Loads a file, named from the workspace's root.
    pub fn load(file: impl AsRef<Path>) -> Self {
        let path = workspace().join(file);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(&text)
    }

    /// Reads YAML; anchors and merge keys are resolved.
    pub fn parse(text: &str) -> Self {
        let mut root: Value =
            serde_norway::from_str(text).unwrap_or_else(|error| panic!("not YAML: {error}"));
        root.apply_merge()
            .unwrap_or_else(|error| panic!("merge keys: {error}"));
        Self { root }
    }

    /// The shipped fragment for a Redis at this address, without TLS.
    pub fn redis_at(redis: SocketAddr) -> Self {
        let mut fragment = Self::load("envoy/redis.yaml");
        fragment.cluster_to("redis", redis, true);
        fragment
    }

    /// The YAML text.
    pub fn to_text(&self) -> String {
        serde_norway::to_string(&self.root).expect("a value that was read")
    }

    /// The value at a path such as `static_resources.clusters[name=wechat_api].connect_timeout` or `…listeners[0]`.
    pub fn find(&self, path: &str) -> Option<&Value> {
        steps(path)
            .into_iter()
            .try_fold(&self.root, |value, step| match step {
                Step::Key(key) => value.get(key),
                Step::Index(index) => value.get(index),
                Step::Item(key, wanted) => value
                    .as_sequence()?
                    .iter()
                    .find(|item| is_item(item, key, wanted)),
            })
    }

    /// As [`Self::find`], to change; panics where nothing is there.
    pub fn at(&mut self, path: &str) -> &mut Value {
        find_mut(&mut self.root, path).unwrap_or_else(|| panic!("nothing at {path}"))
    }

    /// Puts a value (anything that serialises; `serde_json::json!` mostly) at a path whose parent is there.
    pub fn set(&mut self, path: &str, value: impl serde::Serialize) -> &mut Self {
        let value = serde_norway::to_value(value).expect("a value that serialises");
        match find_mut(&mut self.root, path) {
            Some(place) => *place = value,
            None => {
                let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
                let parent = if parent.is_empty() {
                    &mut self.root
                } else {
                    self.at(parent)
                };
                let parent = parent
                    .as_mapping_mut()
                    .unwrap_or_else(|| panic!("no mapping around {path}"));
                parent.insert(key.into(), value);
            }
        }
        self
    }

    /// Adds a value to the end of the sequence at a path.
    pub fn push(&mut self, path: &str, value: impl serde::Serialize) -> &mut Self {
        let value = serde_norway::to_value(value).expect("a value that serialises");
        let sequence = self
            .at(path)
            .as_sequence_mut()
            .unwrap_or_else(|| panic!("no sequence at {path}"));
        sequence.push(value);
        self
    }

    /// Adds the listeners and clusters of a fragment, as Envoy's `--config-yaml` does.
    pub fn add(&mut self, fragment: &Config) -> &mut Self {
        for list in ["static_resources.listeners", "static_resources.clusters"] {
            let items = fragment.find(list).and_then(Value::as_sequence);
            for item in items.into_iter().flatten() {
                self.push(list, item);
            }
        }
        self
    }

    /// Adds such a fragment that speaks to Redis (`envoy/redis.yaml`), with its own socket in this file.
    pub fn add_redis(&mut self, mut fragment: Config, socket: &Path) -> &mut Self {
        let socket = socket.to_str().expect("a path in UTF-8");
        for place in [
            "static_resources.listeners[name=wechat_redis].address.pipe.path",
            "static_resources.clusters[name=wechat_redis].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path",
        ] {
            fragment.set(place, socket);
        }
        self.add(&fragment)
    }

    /// Removes the key at a path, where it is.
    pub fn remove(&mut self, path: &str) -> &mut Self {
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
        let parent = if parent.is_empty() {
            Some(&mut self.root)
        } else {
            find_mut(&mut self.root, parent)
        };
        if let Some(parent) = parent.and_then(Value::as_mapping_mut) {
            parent.remove(key);
        }
        self
    }

    /// Free ports on the loopback for the admin API and every TCP listener, so that Envoys do not meet.
    pub fn free_ports(&mut self) -> &mut Self {
        let free = serde_json::json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        if self.find("admin").is_none() {
            self.set("admin", serde_json::json!({}));
        }
        self.set("admin.address", &free);
        let listeners =
            find_mut(&mut self.root, "static_resources.listeners").and_then(Value::as_sequence_mut);
        for listener in listeners.into_iter().flatten() {
            if listener
                .get("address")
                .and_then(|address| address.get("socket_address"))
                .is_some()
            {
                listener["address"] = serde_norway::to_value(&free).expect("a literal");
            }
        }
        self
    }

    /// Sends the cluster of this name to `address`, without DNS; `plain` also takes its TLS away.
    pub fn cluster_to(&mut self, cluster: &str, address: SocketAddr, plain: bool) -> &mut Self {
        let path = format!("static_resources.clusters[name={cluster}]");
        let socket =
            serde_json::json!({"address": address.ip().to_string(), "port_value": address.port()});
        let endpoint = serde_json::json!({"endpoint": {"address": {"socket_address": socket}}});
        let endpoints = serde_json::json!([{"lb_endpoints": [endpoint]}]);
        let assignment = serde_json::json!({"cluster_name": cluster, "endpoints": endpoints});
        let mapping = self
            .at(&path)
            .as_mapping_mut()
            .unwrap_or_else(|| panic!("no mapping at {path}"));
        let dns = |key: &Value| key.as_str().is_some_and(|key| key.contains("dns_"));
        mapping.retain(|key, _| !dns(key));
        mapping.remove("cluster_type");
        if plain {
            mapping.remove("transport_socket");
        }
        mapping.insert("type".into(), "STATIC".into());
        mapping.insert(
            "load_assignment".into(),
            serde_norway::to_value(assignment).expect("a literal"),
        );
        self
    }

    /// Lets every Wasm plugin load this file. Panics where none does.
    pub fn wasm_file(&mut self, file: &Path) -> &mut Self {
        let file = file
            .to_str()
            .unwrap_or_else(|| panic!("not UTF-8: {}", file.display()));
        let mut places = 0;
        each_mapping(&mut self.root, &mut |mapping| {
            if let Some(code) = mapping
                .get_mut("code")
                .filter(|code| code.get("local").is_some())
            {
                code["local"] = serde_norway::to_value(serde_json::json!({"filename": file}))
                    .expect("a literal");
                places += 1;
            }
        });
        assert!(places > 0, "no plugin loads a local file");
        self
    }

    /// Hands one more environment variable to every plugin.
    pub fn let_env(&mut self, name: &str) -> &mut Self {
        each_mapping(&mut self.root, &mut |mapping| {
            let keys = mapping
                .get_mut("host_env_keys")
                .and_then(Value::as_sequence_mut);
            if let Some(keys) = keys {
                keys.push(name.into());
            }
        });
        self
    }

    /// Lets the caller change every plugin's own document, as JSON, whether it is a `Struct` or a `StringValue`.
    pub fn each_plugin(&mut self, mut change: impl FnMut(&PluginRoot, &mut Json)) -> &mut Self {
        self.each_configuration(|root, configuration| {
            if let Some(value) = configuration.get_mut("value") {
                change_document(value, |document| change(root, document));
            }
        })
    }

    /// Gives the documents of all plugins with this `root_id` as JSON text in a `StringValue`, instead of as a `Struct`.
    pub fn as_text(&mut self, root_id: &str) -> &mut Self {
        self.each_configuration(|root, configuration| {
            let document = configuration
                .get("value")
                .filter(|value| !value.is_string());
            if let (Some(document), true) = (document, root.root_id == root_id) {
                let document: Json =
                    serde_norway::from_value(document.clone()).expect("a Struct is JSON");
                let text =
                    serde_json::json!({"@type": STRING_VALUE, "value": document.to_string()});
                *configuration = serde_norway::to_value(text).expect("a literal");
            }
        })
    }

    fn each_configuration(&mut self, mut visit: impl FnMut(&PluginRoot, &mut Value)) -> &mut Self {
        let mut places = 0;
        each_mapping(&mut self.root, &mut |mapping| {
            if !mapping.contains_key("vm_config") {
                return;
            }
            let text = |key: &str| mapping.get(key).and_then(Value::as_str).map(str::to_owned);
            let root = PluginRoot {
                root_id: text("root_id").unwrap_or_default(),
                name: text("name"),
            };
            if let Some(configuration) = mapping.get_mut("configuration") {
                visit(&root, configuration);
                places += 1;
            }
        });
        assert!(places > 0, "no plugin has a configuration");
        self
    }

    /// Lets the host's environment variable be seen by every plugin's VM.
    pub fn host_env(&mut self, name: &str) -> &mut Self {
        each_mapping(&mut self.root, &mut |mapping| {
            if let Some(vm) = mapping.get_mut("vm_config").and_then(Value::as_mapping_mut) {
                let environment = vm
                    .entry("environment_variables".into())
                    .or_insert_with(|| Mapping::new().into());
                let environment = environment
                    .as_mapping_mut()
                    .expect("environment_variables is a mapping");
                let keys = environment
                    .entry("host_env_keys".into())
                    .or_insert_with(|| Value::Sequence(Vec::new()));
                let keys = keys.as_sequence_mut().expect("host_env_keys is a sequence");
                if !keys.iter().any(|key| key.as_str() == Some(name)) {
                    keys.push(name.into());
                }
            }
        });
        self
    }
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .map_or_else(|| here.to_owned(), Path::to_owned)
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
    Item(&'a str, &'a str),
}

/// Splits `a.b[0].c[name=x.y]`; a dot within brackets belongs to the name.
fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (inner, tail) = inner
                .split_once(']')
                .unwrap_or_else(|| panic!("no ] in {path}"));
            steps.push(match inner.split_once('=') {
                Some((key, value)) => Step::Item(key, value),
                None => Step::Index(
                    inner
                        .parse()
                        .unwrap_or_else(|error| panic!("[{inner}] in {path}: {error}")),
                ),
            });
            rest = tail;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            steps.push(Step::Key(&rest[..end]));
            rest = &rest[end..];
        }
    }
    steps
}

fn find_mut<'a>(root: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    steps(path)
        .into_iter()
        .try_fold(root, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
            Step::Item(key, wanted) => value
                .as_sequence_mut()?
                .iter_mut()
                .find(|item| is_item(item, key, wanted)),
        })
}

fn is_item(item: &Value, key: &str, wanted: &str) -> bool {
    item.get(key).and_then(Value::as_str) == Some(wanted)
}

fn each_mapping(value: &mut Value, visit: &mut dyn FnMut(&mut Mapping)) {
    match value {
        Value::Mapping(mapping) => {
            visit(mapping);
            mapping
                .iter_mut()
                .for_each(|(_, value)| each_mapping(value, visit));
        }
        Value::Sequence(items) => items.iter_mut().for_each(|item| each_mapping(item, visit)),
        _ => {}
    }
}

fn change_document(value: &mut Value, change: impl FnOnce(&mut Json)) {
    if let Some(text) = value.as_str() {
        let mut document = serde_json::from_str(text)
            .unwrap_or_else(|error| panic!("a plugin's document: {error}"));
        change(&mut document);
        *value = document.to_string().into();
    } else {
        let mut document: Json = serde_norway::from_value(value.clone()).expect("a Struct is JSON");
        change(&mut document);
        *value = serde_norway::to_value(document).expect("JSON is YAML");
    }
}
