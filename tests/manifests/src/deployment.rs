//! What the cases know of a deployment: what it can, how it is started, and the address that leads through it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{ensure, Context as _, Result};
use support::client::{Answer, Client};
use support::wait::within;

use crate::wechat::{WeChat, HOST};

/// One of the shipped deployments.
pub(crate) trait Deployment {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// What is read and by whom, in one line.
    fn about(&self) -> &'static str;

    /// What becomes of a call whose token WeChat rejects.
    fn on_rejected(&self) -> OnRejected;

    /// What becomes of bodies on their way to WeChat.
    fn bodies(&self) -> Bodies;

    /// Whether the bootstrap has a refresher. Where it has none, a worker's root keeps the tokens from the start.
    fn has_refresher(&self) -> bool;

    /// Whether it runs in namespaces of its own, made around a second run of this program.
    fn wants_a_world(&self) -> bool {
        false
    }

    /// What is seen of this deployment alone, beside the cases that all have; while it runs.
    fn beside<'a>(&'a self, _: &'a Running, _: &'a WeChat) -> Pending<'a, Vec<String>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// What the control plane makes of the files, looked at without an Envoy: that it takes them, and that it refuses them with a
    /// planted fault. Returns a line for each thing seen.
    fn read(&self) -> Pending<'_, Vec<String>>;

    /// Starts an Envoy on what the control plane makes of the files, with two workers, and returns once it is live. The plugin is `plugin`, and everything
    /// for WeChat goes to `wechat`.
    fn start<'a>(&'a self, wechat: &'a WeChat, plugin: &'a Path) -> Pending<'a, Running>;
}

/// What becomes of a call whose token WeChat rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnRejected {
    /// The token is renewed and Envoy sends the call again.
    Resent,
    /// The service gets WeChat's error until the token is renewed by its time: the plugin cannot look at answers there.
    Unnoticed,
}

/// What becomes of bodies on their way to WeChat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bodies {
    /// One without Content-Length is collected and gets it; all others stream past.
    Collected,
    /// Every one is collected.
    AllCollected,
    /// None is collected: WeChat refuses those without Content-Length.
    AsTheyCome,
}

/// Something that is awaited.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// A deployment at work; dropping it ends its processes.
pub(crate) struct Running {
    /// Where a service's calls come in: `http://127.0.0.1:PORT`.
    pub(crate) service: String,
    /// Its Envoy's admin API: `http://127.0.0.1:PORT`.
    pub(crate) admin: String,
    /// The plugin's status page, where the deployment has one: `http://127.0.0.1:PORT`.
    pub(crate) status: Option<String>,
    /// What its Envoy logged so far. It owns what must live as long as the deployment runs.
    pub(crate) log: Box<dyn Fn() -> String>,
    /// For the calls of a case.
    pub(crate) client: Client,
}

impl Running {
    /// The URL of a path (beginning with `/`), as a service calls it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.service)
    }

    /// Where a service's calls come in, for a connection driven by hand.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        let address = self.service.strip_prefix("http://");
        Ok(address.context("an http:// address")?.parse()?)
    }

    /// `GET` to WeChat's own name.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let headers = [&[("host", HOST)], headers].concat();
        Ok(self.client.get_with(&self.url(path), &headers).await?)
    }

    /// `GET` on the admin API.
    pub(crate) async fn admin_get(&self, path: &str) -> Result<String> {
        let answer = self.client.get(&format!("{}{path}", self.admin)).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        Ok(answer.text())
    }

    /// One of the plugin's counters, whatever its labels and wherever Envoy puts it; written every 250 ms.
    pub(crate) async fn counted(&self, name: &str) -> Result<u64> {
        let stats = self.admin_get(&format!("/stats?filter={name}")).await?;
        let values = stats.lines().filter_map(|line| line.rsplit(": ").next());
        Ok(values.filter_map(|value| value.parse::<u64>().ok()).sum())
    }

    /// Waits until `text` stands in Envoy's log so many times.
    pub(crate) async fn wait_for_log(&self, text: &str, times: usize, by: Duration) -> Result<()> {
        let seen = || self.log_has(text) >= times;
        let waited = within(by, || std::future::ready(seen().then_some(()))).await;
        ensure!(
            waited.is_some(),
            "not {times} times in the log within {by:?}: {text}\n{}",
            (self.log)()
        );
        Ok(())
    }

    /// How often `text` stands in Envoy's log.
    pub(crate) fn log_has(&self, text: &str) -> usize {
        (self.log)().matches(text).count()
    }
}
