//! The fake WeChat of a case, behind TLS as the real one is: a certificate for WeChat's name by a CA of the test's own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{ensure, Result};
use support::tls::{Authority, TlsServer};
use support::wechat::{FakeWeChat, Settings};
use tempfile::TempDir;

/// The app in the shipped files.
pub(crate) const APPID: &str = "wx0123456789abcdef";
/// Its secret, in Envoy's environment as `WECHAT_SECRET`.
pub(crate) const SECRET: &str = "5ec2e7a0b1c2d3e4f5061728394a5b6c";
/// WeChat's name.
pub(crate) const HOST: &str = "api.weixin.qq.com";

/// A fake WeChat and the TLS before it.
pub(crate) struct WeChat {
    pub(crate) fake: FakeWeChat,
    /// Where Envoy finds it, by TLS.
    pub(crate) tls: TlsServer,
    authority: Authority,
    files: TempDir,
}

impl WeChat {
    /// One that has the app; its tokens live for seconds. A token is renewed after half of its life at the latest, and then both work for
    /// as long as the other half lasts.
    pub(crate) async fn start(lifetime: Duration) -> Result<Self> {
        let mut settings = Settings::default()
            .with_app(APPID, SECRET)
            .with_token_lifetime(lifetime)
            .with_overlap(lifetime / 2);
        settings.hosts = vec![HOST.to_owned()];
        let fake = FakeWeChat::start(settings).await;
        let authority = Authority::new();
        let tls = TlsServer::start(&authority, HOST, fake.address()).await;
        let files = tempfile::tempdir()?;
        std::fs::write(files.path().join("ca.pem"), authority.pem())?;
        Ok(Self {
            fake,
            tls,
            authority,
            files,
        })
    }

    /// The file of the CA that Envoy is to trust.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    /// A certificate for another name by the same CA, and its key.
    pub(crate) fn certify(&self, name: &str) -> (String, String) {
        let (certificate, key) = self.authority.certify(name);
        (certificate.pem(), key.serialize_pem())
    }

    /// How many tokens it made.
    pub(crate) fn tokens_made(&self) -> u64 {
        self.fake.report().app(APPID).tokens_made
    }

    /// Nothing was seen that must never be, and whoever came by TLS asked for WeChat's name.
    pub(crate) fn check(&self) -> Result<()> {
        let report = self.fake.report();
        ensure!(
            report.violations.is_empty(),
            "WeChat saw what must never be: {:#?}",
            report.violations
        );
        ensure!(
            report.app(APPID).in_flight_max <= 1,
            "{} token calls at once",
            report.app(APPID).in_flight_max
        );
        let names = self.tls.met().names;
        ensure!(
            !names.is_empty() && names.iter().all(|name| name.as_deref() == Some(HOST)),
            "connections with another name than WeChat's: {names:?}"
        );
        Ok(())
    }
}
