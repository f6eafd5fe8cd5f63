//! The Redis of a gateway, by TLS under the name in the shipped file. Its replica's name leads to it as well.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use support::redis::Redis;
use tempfile::TempDir;

use super::cluster::Cluster;
use super::relay::Relay;
use super::world::OUTSIDE;
use crate::wechat::WeChat;

/// The name in the shipped file.
pub(super) const NAME: &str = "redis.example.com";
const PORT: u16 = 6_379;
const PASSWORD: &str = "0a1b2c3d4e5f-of-redis";

/// Ends with its drop.
pub(super) struct Store {
    _redis: Redis,
    _relay: Relay,
    _files: TempDir,
}

impl Store {
    /// Starts it, empty, and puts its password into the Secret.
    pub(super) async fn start(wechat: &WeChat, cluster: &mut Cluster) -> Result<Store> {
        let files = tempfile::tempdir()?;
        let (certificate, key) = wechat.certify(NAME);
        let path = |name: &str| {
            let path = files.path().join(name);
            Ok::<_, anyhow::Error>(path.to_str().context("a path that is text")?.to_owned())
        };
        let (certificate_file, key_file) = (path("redis.pem")?, path("redis.key")?);
        std::fs::write(&certificate_file, certificate)?;
        std::fs::write(&key_file, key)?;
        let ca_file = wechat.ca_file();
        let redis = Redis::start(&[
            "--requirepass",
            PASSWORD,
            "--tls-auth-clients",
            "no",
            "--tls-cert-file",
            &certificate_file,
            "--tls-key-file",
            &key_file,
            "--tls-ca-cert-file",
            ca_file.to_str().context("a path that is text")?,
        ]);
        let listen = SocketAddr::from((OUTSIDE, PORT));
        let relay = Relay::start(None, listen, redis.tls_address()).await?;
        let key = ("wechat-token".to_owned(), "REDIS_PASSWORD".to_owned());
        cluster.secrets.insert(key, PASSWORD.to_owned());
        Ok(Store {
            _redis: redis,
            _relay: relay,
            _files: files,
        })
    }
}
