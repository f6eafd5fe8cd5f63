//! The YAML files under `envoy/` are right: `envoy.demo.yaml` and the fragments are `envoy.yaml` but for a short list of edits,
//! every plugin configuration in them is one that the plugin takes and the schema allows, the real Envoys take them, and the
//! compose file starts what they name. `UPDATE_ENVOY=1 cargo test --test envoy_files` writes the files that are made anew.

// Helpers may panic like the tests that they serve; clippy excuses only functions with `#[test]`.
#![allow(clippy::panic, clippy::expect_used)]

#[path = "envoy_files/fragments.rs"]
mod fragments;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use support::envoy::{workspace, Config, Envoy};
use wechat_token::config::{Config as PluginConfig, Role};

const FILES: [&str; 4] = [
    "envoy/envoy.yaml",
    "envoy/envoy.demo.yaml",
    "envoy/envoy.demo.redis.yaml",
    fragments::PLAIN,
];
const VERSIONS: [&str; 2] = ["1.37.0", "1.40.0"];

/// What is replaced, by what. Each text stands in the file exactly once.
type Edits = Vec<(String, String)>;

/// All that the demo changes in `envoy.yaml`.
fn edits(production: &str) -> Edits {
    let tls = block(production, "    transport_socket: &tls\n");
    let title = production
        .split("\n\n")
        .next()
        .expect("a file begins with its title");
    let edit = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    vec![
        edit(title, DEMO_TITLE),
        edit(
            "socket_address: {address: api.weixin.qq.com, port_value: 443}",
            "socket_address: {address: fake-wechat, port_value: 8080}",
        ),
        (tls, String::new()),
        edit("    transport_socket: *tls\n", ""),
    ]
}

const DEMO_TITLE: &str = "\
# envoy.yaml with the fake WeChat in place of the real one: plain HTTP to fake-wechat:8080, nothing else differs.
# Made from envoy.yaml by tests/envoy_files.rs, do not edit: UPDATE_ENVOY=1 cargo test --test envoy_files";

/// All that the demo with Redis changes in the demo: the parts of the fragment, where they go, and the plugin's configuration.
fn redis_edits(demo: &str, fragment: &str) -> Edits {
    let title = demo.split("\n\n").next().expect("a title");
    let edit = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let (_, lists) = fragment.split_once("  listeners:\n").expect("listeners");
    let (listeners, clusters) = lists.split_once("\n  clusters:\n").expect("clusters");
    let tls = block(fragment, "    transport_socket:\n");
    let replica = block(fragment, "      - priority: 1\n");
    let clusters = clusters
        .replace("    # Without TLS to Redis: leave these lines out.\n", "")
        .replace(&tls, "")
        .replace("      # The second is used while the first is not healthy: a replica that was promoted.\n", "")
        .replace(&replica, "")
        .replace("redis.example.com", "redis");
    let app = "            secret: {env: WECHAT_SECRET}\n";
    vec![
        edit(title, DEMO_REDIS_TITLE),
        edit("host_env_keys: [WECHAT_SECRET]", "host_env_keys: [WECHAT_SECRET, REDIS_PASSWORD]"),
        edit(
            app,
            &format!(
                "{app}            token_api: classic\n          redis:\n            username: {{value: wechat-token}}\n            password: {{env: REDIS_PASSWORD}}\n"
            ),
        ),
        edit("  listeners:\n", &format!("  listeners:\n{listeners}")),
        edit("  clusters:\n", &format!("  clusters:\n{clusters}")),
    ]
}

const DEMO_REDIS_TITLE: &str = "\
# envoy.demo.yaml with Redis as the shared store: the parts of redis.yaml without TLS, and the classic endpoint.
# Made by tests/envoy_files.rs, do not edit: UPDATE_ENVOY=1 cargo test --test envoy_files";

#[test]
fn the_demo_file_is_the_production_file_but_for_the_list_of_edits() {
    let production = read("envoy/envoy.yaml");
    keep_made("envoy/envoy.demo.yaml", &production, edits(&production));
}

#[test]
fn the_demo_with_redis_is_the_demo_and_the_fragment() {
    let demo = read("envoy/envoy.demo.yaml");
    let edits = redis_edits(&demo, &read("envoy/redis.yaml"));
    keep_made("envoy/envoy.demo.redis.yaml", &demo, edits);
}

/// Holds a file to what edits make of another one, or writes it.
fn keep_made(file: &str, source: &str, edits: Edits) {
    let mut text = source.to_owned();
    for (from, to) in edits {
        assert_eq!(text.matches(&from).count(), 1, "for {file}: {from:?}");
        text = text.replacen(&from, &to, 1);
    }
    if std::env::var_os("UPDATE_ENVOY").is_some() {
        fs::write(path(file), &text).expect("the file can be written");
    }
    assert!(
        text == read(file),
        "{file} is out of date: UPDATE_ENVOY=1 cargo test --test envoy_files"
    );
}

#[test]
fn every_plugin_configuration_is_taken_by_the_plugin_and_by_the_schema() {
    let schema: Value = serde_json::from_str(&read("envoy/config.schema.json")).expect("a schema");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    for file in FILES {
        let mut roots = Vec::new();
        Config::load(file).each_plugin(|root, document| {
            let role = Role::of(&root.root_id);
            let role = role.unwrap_or_else(|| panic!("{file}: root_id {}", root.root_id));
            let known = ["WECHAT_SECRET", "REDIS_PASSWORD"];
            let is_given = |name: &str| known.contains(&name) && role != Role::Status;
            let env = |name: &str| is_given(name).then(|| "a-secret".to_owned());
            PluginConfig::parse(document.to_string().as_bytes(), &env, role)
                .unwrap_or_else(|error| panic!("{file}, {}: {error}", root.root_id));
            let errors: Vec<_> = schema
                .iter_errors(document)
                .map(|error| error.to_string())
                .collect();
            assert!(errors.is_empty(), "{file}, {}: {errors:?}", root.root_id);
            roots.push(root.root_id.clone());
        });
        roots.sort();
        assert_eq!(roots, ["injector", "refresher", "status"], "{file}");
    }
}

#[test]
fn every_file_is_taken_by_the_real_envoys() {
    for file in FILES {
        for version in VERSIONS {
            let mut config = Config::load(file);
            config.wasm_file(&path("dist/wechat-token.wasm"));
            let ended = Envoy::builder(version)
                .config(config)
                .env("WECHAT_SECRET", "a-secret")
                .env("REDIS_PASSWORD", "a-password")
                .validate();
            let log = &ended.log;
            assert!(ended.status.success(), "{file} on {version}:\n{log}");
            assert!(!log.contains("eprecat"), "{file} on {version}:\n{log}");
        }
    }
}

#[test]
fn the_fragment_for_redis_goes_with_the_file_that_it_is_for() {
    for version in VERSIONS {
        let mut config = Config::load("envoy/envoy.yaml");
        config.wasm_file(&path("dist/wechat-token.wasm"));
        config.let_env("REDIS_PASSWORD");
        // As the head of the fragment says.
        let redis = serde_json::json!({"password": {"env": "REDIS_PASSWORD"}});
        config.each_plugin(|_, document| document["redis"] = redis.clone());
        let fragment = read("envoy/redis.yaml");
        let ended = Envoy::builder(version)
            .config(config)
            .arg("--config-yaml")
            .arg(&fragment)
            .env("WECHAT_SECRET", "a-secret")
            .env("REDIS_PASSWORD", "a-password")
            .validate();
        let log = &ended.log;
        assert!(ended.status.success(), "{version}:\n{log}");
        assert!(!log.contains("eprecat"), "{version}:\n{log}");
    }
}

#[test]
fn the_compose_files_start_what_the_demo_files_name() {
    for (compose_file, demo_file, envoys) in [
        (
            "envoy/docker-compose.yaml",
            "envoy.demo.yaml",
            &["envoy"][..],
        ),
        (
            "envoy/docker-compose.redis.yaml",
            "envoy.demo.redis.yaml",
            &["envoy", "second-envoy"],
        ),
    ] {
        let compose = Config::parse(&read(compose_file)).to_text();
        let compose: Value = serde_norway::from_str(&compose).expect("YAML that is also JSON");
        let demo_path = format!("envoy/{demo_file}");
        for envoy in envoys {
            check_envoy(&compose["services"][envoy], demo_file, &read(&demo_path));
        }
        let secret = compose["services"]["envoy"]["environment"]["WECHAT_SECRET"].clone();
        let secret = secret.as_str().expect("the demo's secret");
        let mut appid = String::new();
        Config::load(&demo_path).each_plugin(|_, document| {
            appid = document["apps"][0]["appid"]
                .as_str()
                .expect("an appid")
                .to_owned();
        });
        let command = texts(&compose["services"]["fake-wechat"]["command"]);
        assert!(
            command.contains(&format!("--app={appid}:{secret}")),
            "{command:?} does not know {appid} with {secret}"
        );
    }
    // Redis knows the user that the plugin is.
    let acl = read("envoy/redis.acl");
    let compose = read("envoy/docker-compose.redis.yaml");
    let password = compose
        .lines()
        .find_map(|line| line.trim().strip_prefix("REDIS_PASSWORD: "))
        .expect("a password");
    assert!(
        acl.contains(&format!("user wechat-token on >{password} ")),
        "{acl}"
    );
    // And may do what the documentation gives it.
    let document = read("docs/redis.md");
    let (_, rights) = acl.split_once(password).expect("a password");
    assert!(document.contains(rights.trim()), "{rights}");
}

/// An Envoy's service starts with this file, mounts what is named in it, and is open to this machine only.
fn check_envoy(envoy: &Value, demo_file: &str, demo: &str) {
    let mounts: Vec<_> = texts(&envoy["volumes"]);
    let own = format!("./{demo_file}:/etc/envoy/envoy.yaml:ro");
    assert!(mounts.contains(&own), "{mounts:?}");
    for mount in &mounts {
        let target = mount.split(':').nth(1).expect("FROM:TO:ro");
        assert!(
            target.ends_with("envoy.yaml") || demo.contains(target),
            "{mount} is not named in {demo_file}"
        );
    }
    for port in texts(&envoy["ports"]) {
        assert!(
            port.starts_with("127.0.0.1:"),
            "{port} is open to everybody"
        );
    }
}

/// The line `first` with all that is indented below it.
fn block(text: &str, first: &str) -> String {
    let indent = first.len() - first.trim_start().len();
    let from = text
        .find(first)
        .unwrap_or_else(|| panic!("not in envoy.yaml: {first:?}"));
    let below = text[from + first.len()..]
        .split_inclusive('\n')
        .take_while(|line| line.len() - line.trim_start().len() > indent);
    first.to_owned() + &below.collect::<String>()
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().expect("a list").iter();
    items
        .map(|item| item.as_str().expect("a list of texts").to_owned())
        .collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn path(file: &str) -> PathBuf {
    workspace().join(file)
}
