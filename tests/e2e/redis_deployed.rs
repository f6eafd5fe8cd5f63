//! The shipped `envoy/redis.yaml` before real Redis servers with TLS, a master and its replica: with nothing changed but
//! addresses, ports, the socket's path and the file of the trusted CA.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use support::envoy::Config;
use support::redis::Redis;
use support::tls::Authority;
use support::wait::until;
use tempfile::TempDir;

use crate::mesh::{busy, mesh, LONG, PASSWORD, RECORD};
use crate::settings::in_settings_at_once;
use crate::tls::compare;

const FILE: &str = "envoy/redis.yaml";
/// The name in it.
const NAME: &str = "redis.example.com";
/// What may differ from the shipped file; the socket's path is the mesh's matter.
const CHANGED: [&str; 3] = [
    "address.socket_address.address",
    "address.socket_address.port_value",
    "trusted_ca.filename",
];

/// Certificates as files.
struct Certificates {
    authority: Authority,
    files: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let certificates = Self {
            authority: Authority::new(),
            files: tempfile::tempdir().unwrap(),
        };
        certificates.write("ca.pem", &certificates.authority.pem());
        certificates
    }

    /// A server with a certificate for this name.
    fn server(&self, name: &str, args: &[&str]) -> Redis {
        let (certificate, key) = self.authority.certify(name);
        let certificate = self.write(&format!("{name}.pem"), &certificate.pem());
        let key = self.write(&format!("{name}.key"), &key.serialize_pem());
        let ca = self.ca();
        let tls = [
            ["--requirepass", PASSWORD],
            ["--tls-auth-clients", "no"],
            ["--tls-cert-file", certificate.to_str().unwrap()],
            ["--tls-key-file", key.to_str().unwrap()],
            ["--tls-ca-cert-file", ca.to_str().unwrap()],
        ];
        Redis::start(&[tls.as_flattened(), args].concat())
    }

    fn ca(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    fn write(&self, name: &str, pem: &str) -> PathBuf {
        let file = self.files.path().join(name);
        std::fs::write(&file, pem).unwrap();
        file
    }

    /// The shipped file for these two servers.
    fn shipped(&self, master: SocketAddr, replica: SocketAddr) -> Config {
        let mut config = Config::load(FILE);
        let cluster = "static_resources.clusters[name=redis]";
        for (priority, address) in [master, replica].into_iter().enumerate() {
            let endpoint = "lb_endpoints[0].endpoint.address.socket_address";
            let socket = json!({"address": address.ip(), "port_value": address.port()});
            let endpoints = format!("{cluster}.load_assignment.endpoints[{priority}]");
            config.set(&format!("{endpoints}.{endpoint}"), socket);
        }
        let tls = "transport_socket.typed_config.common_tls_context.validation_context";
        config.set(&format!("{cluster}.{tls}.trusted_ca.filename"), self.ca());
        let parsed = |config: &Config| serde_norway::from_str(&config.to_text()).unwrap();
        let mut changed = Vec::new();
        let shipped = parsed(&Config::load(FILE));
        compare("", &shipped, &parsed(&config), &mut changed);
        for place in &changed {
            assert!(CHANGED.iter().any(|end| place.ends_with(end)), "{place}");
        }
        config
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_fragment_follows_to_a_promoted_replica_that_lacks_the_last_write() {
    in_settings_at_once(4, |setting| async move {
        let certificates = Certificates::new();
        let master = certificates.server(NAME, &["--repl-diskless-sync-delay", "0"]);
        let port = master.address().port().to_string();
        let replicates = ["--masterauth", PASSWORD, "--replicaof", "127.0.0.1", &port];
        let mut replica = certificates.server(NAME, &replicates);
        until(LONG, "the replica is up to date", || {
            let state: String = replica.run(&["INFO", "replication"]);
            state.contains("master_link_status:up")
        })
        .await;
        let mut plan = mesh(setting, 2).with_tokens(16, 12);
        plan.settings.parallel_token_calls = 2;
        plan.document["refresh"] = json!({"lead": "8s", "jitter": "1s"});
        let fragment = certificates.shipped(master.tls_address(), replica.tls_address());
        let mut mesh = plan
            .start_on(master, vec![fragment.clone(), fragment])
            .await;
        mesh.agree(Duration::from_secs(20)).await;
        let of_replica =
            |replica: &Redis| replica.run::<Option<String>>(&["HGET", RECORD, "token"]);
        until(LONG, "the replica has the token", || {
            let token = of_replica(&replica);
            token.is_some() && token == mesh.stored()
        })
        .await;
        replica.run::<()>(&["CONFIG", "SET", "masterauth", "another"]);
        replica.run::<()>(&["CLIENT", "KILL", "TYPE", "master"]);
        let old = of_replica(&replica);
        mesh.serve_until("the next token", |mesh| {
            mesh.stored() != old && mesh.has_newest()
        })
        .await;
        let version = mesh.version();
        assert_eq!(of_replica(&replica), old);
        mesh.redis.kill();
        replica.run::<()>(&["REPLICAOF", "NO", "ONE"]);
        std::mem::swap(&mut mesh.redis, &mut replica);
        mesh.serve_until("a newer version", |mesh| mesh.version() > version)
            .await;
        mesh.recover().await;
        for envoy in &mesh.envoys {
            assert!(envoy.stat("cluster.redis.ssl.handshake").await > 0);
            assert_eq!(envoy.stat("cluster.redis.membership_healthy").await, 1);
        }
        mesh.finish_unnoticed().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_whose_certificate_is_for_another_name_is_sent_nothing_and_the_log_says_why() {
    in_settings_at_once(4, |setting| async move {
        let certificates = Certificates::new();
        let redis = certificates.server("redis.example.com.evil.example", &[]);
        let address = redis.tls_address();
        let fragment = certificates.shipped(address, address);
        let mesh = busy(setting).start_on(redis, vec![fragment; 2]).await;
        mesh.serve_until("the reason", |mesh| {
            let says_why = |log: String| {
                log.contains(
                    "event=redis_failed app=wx0123456789abcdef unreachable=\"no connection\"",
                ) && log.contains(&format!("no connection to Redis at {address}: TLS_error"))
                    && log.contains("CERTIFICATE_VERIFY_FAILED")
            };
            mesh.envoys.iter().all(|envoy| says_why(envoy.logs()))
        })
        .await;
        assert_eq!(mesh.stored(), None);
        mesh.finish_unnoticed().await;
    })
    .await;
}
