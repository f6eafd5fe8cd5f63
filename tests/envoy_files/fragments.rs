//! The files of the deployments' folders that are parts of `envoy.yaml`: they are made from it, and real Envoys take them the
//! way their READMEs say.

use support::envoy::{Config, Envoy};

use super::{block, keep_made, path, read, Edits, VERSIONS};

const SOURCE: &str = "envoy/envoy.yaml";
pub(super) const PLAIN: &str = "envoy/plain/fragment.yaml";
pub(super) const HTTPS: &str = "envoy/transparent-https/listener.yaml";
/// Where the certificate is to be, and the file that names it.
const PLACE: &str = "/etc/envoy/wechat-https";
const OPERATORS: &str = "  # For operators: ";
/// What of the listener for operators leads to the admin API, which an Envoy that is there has in its own way.
const METRICS: &str =
    "  # And the metrics, the one harmless page of the admin API, which itself stays on the loopback.\n";
const METRICS_ROUTE: &str = r#"              routes:
              - match: {path: /stats/prometheus, headers: [{name: ":method", string_match: {exact: GET}}]}
                route: {cluster: admin}
"#;

const PLAIN_TITLE: &str = "\
# What an Envoy that you have needs to give every outbound WeChat call a live access_token. Beside your bootstrap:
#
#   WECHAT_SECRET=... envoy -c yours.yaml --config-yaml \"$(cat fragment.yaml)\"
#
# What you change: the appid below. README.md says what each part is for, and how to do without the port of its own.
# Made from envoy.yaml by tests/envoy_files.rs, do not edit: UPDATE_ENVOY=1 cargo test --test envoy_files";

/// All of `envoy.yaml` but what an Envoy that is there has already.
fn plain_edits(production: &str) -> Edits {
    let title = production.split("\n\n").next().expect("a title");
    let none = |text: String| (text, String::new());
    vec![
        (title.to_owned(), PLAIN_TITLE.to_owned()),
        none(METRICS.to_owned()),
        (
            METRICS_ROUTE.to_owned(),
            "              routes: []\n".to_owned(),
        ),
        none(block(production, "  - name: admin\n")),
        none(block(production, "admin:\n")),
    ]
}

const HTTPS_TITLE: &str = "\
# A listener that ends the TLS of services whose library calls https://api.weixin.qq.com and cannot be told otherwise. Beside envoy.yaml:
#
#   envoy -c envoy.yaml --config-yaml \"$(cat listener.yaml)\"
#
# and in the plugin's configuration: caller_token: replace. README.md has the rest: certificate, name, what each language needs.
# Made from envoy.yaml by tests/envoy_files.rs, do not edit: UPDATE_ENVOY=1 cargo test --test envoy_files";

const NODE: &str = "\
# Envoy reads no certificate by way of a file without a name of its own. Leave this out where your bootstrap has a node.
node: {id: wechat, cluster: wechat}
";

/// Before the other filters, for the route below.
const TOKEN_FILTERS: &str = r#"          # For the first route below: a secret in the query of a token call must not be in the access log, and an answer that comes
          # before the request's body would end the connection.
          - name: envoy.filters.http.header_mutation
            disabled: true
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
          - name: wechat_token_call
            disabled: true
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer
              max_request_bytes: 65536
"#;

const TOKEN_ROUTE: &str = r#"              # A library wants a token before it calls anything. It gets this one from here, whatever appid and secret it sends: no
              # service has a secret or a token, and none ends the mesh's token by a call of its own. The plugin puts the real one in its
              # place (caller_token: replace).
              - match: {safe_regex: {regex: "/cgi-bin/(stable_)?token"}}
                direct_response:
                  status: 200
                  body: {inline_string: '{"access_token":"placeholder-Envoy-puts-the-real-one-in-its-place","expires_in":7200}'}
                response_headers_to_add:
                - header: {key: content-type, value: application/json}
                  append_action: OVERWRITE_IF_EXISTS_OR_ADD
                typed_per_filter_config:
                  wechat_token_call: {"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, config: {}}
                  envoy.filters.http.header_mutation:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute
                    mutations:
                      request_mutations:
                      - append: {header: {key: x-envoy-original-path, value: /cgi-bin/token}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
"#;

const TLS: &str = r#"      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            # By way of a file that names the certificate, for only then is a new certificate taken up without a restart.
            tls_certificate_sds_secret_configs:
            - name: wechat_https
              sds_config:
                resource_api_version: V3
                path_config_source: {path: /etc/envoy/wechat-https/sds.yaml}
"#;

/// The listener of `envoy.yaml`, with TLS.
fn https(production: &str) -> (String, Edits) {
    let (_, rest) = production.split_once("  listeners:\n").expect("listeners");
    let (listener, _) = rest
        .split_once(OPERATORS)
        .expect("the listener for operators");
    let edit = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let before = |text: &str, new: &str| (text.to_owned(), format!("{new}{text}"));
    let after = |text: &str, new: &str| (text.to_owned(), format!("{text}{new}"));
    let edits = vec![
        before(
            "static_resources:\n",
            &format!("{HTTPS_TITLE}\n\n{NODE}\n"),
        ),
        edit(
            "  - name: wechat\n    address: {socket_address: {address: 0.0.0.0, port_value: 10000}}\n",
            "  - name: wechat_https\n    address: {socket_address: {address: 0.0.0.0, port_value: 443}}\n",
        ),
        edit("stat_prefix: wechat\n", "stat_prefix: wechat_https\n"),
        after("          http_filters:\n", TOKEN_FILTERS),
        edit("              # WeChat's name, and the names under which services reach this Envoy itself: add yours.\n", ""),
        edit("domains: [api.weixin.qq.com, localhost, 127.0.0.1]", "domains: [api.weixin.qq.com]"),
        before("              - match: {prefix: /}\n                # What an answer", TOKEN_ROUTE),
        after("this Envoy serves api.weixin.qq.com only\"}'}\n", TLS),
    ];
    (
        format!("static_resources:\n  listeners:\n{listener}"),
        edits,
    )
}

#[test]
fn the_fragment_for_an_envoy_that_is_there_is_the_whole_file_without_what_that_has() {
    let production = read(SOURCE);
    keep_made(PLAIN, &production, plain_edits(&production));
}

#[test]
fn the_listener_for_https_is_the_other_one_with_tls_and_an_answer_for_token_calls() {
    let (listener, edits) = https(&read(SOURCE));
    keep_made(HTTPS, &listener, edits);
}

#[test]
fn the_listener_for_https_goes_with_the_file_that_it_is_for() {
    let folder = path("envoy/transparent-https");
    let folder = folder.to_str().expect("UTF-8");
    for version in VERSIONS {
        let mut config = Config::load(SOURCE);
        config.wasm_file(&path("dist/wechat-token.wasm"));
        config.each_plugin(|_, document| document["caller_token"] = "replace".into());
        let ended = Envoy::builder(version)
            .config(config)
            .arg("--config-yaml")
            .arg(&read(HTTPS).replace(PLACE, folder))
            .env("WECHAT_SECRET", "a-secret")
            .validate();
        let log = &ended.log;
        assert!(ended.status.success(), "{version}:\n{log}");
        assert!(!log.contains("eprecat"), "{version}:\n{log}");
    }
}
