//! The status page, where a deployment has one: what it says while token calls are held, and once there is a token.

use anyhow::{ensure, Context as _, Result};
use serde_json::{json, Value};
use support::client::Answer;
use support::wait::within;

use super::SOON;
use crate::deployment::Running;
use crate::wechat::APPID;

/// Before the first token.
pub(super) async fn without_token(running: &Running) -> Result<()> {
    let Some(page) = &running.status else {
        return Ok(());
    };
    // A listener may come after the Envoy is live.
    let ready = within(SOON, || async { get(running, page, "/ready").await.ok() });
    let ready = ready.await.context("no answer to /ready")?;
    let expected = json!({"ready": false, "without_token": [APPID]});
    ensure!(
        ready.status == 503 && ready.json() == expected,
        "/ready without a token: {} {}",
        ready.status,
        ready.text()
    );
    Ok(())
}

/// With a token.
pub(super) async fn with_token(running: &Running) -> Result<String> {
    let Some(page) = &running.status else {
        return Ok("no status page here".to_owned());
    };
    // An answer may be a second old.
    let ready = within(SOON, || async {
        let ready = get(running, page, "/ready").await.ok()?;
        (ready.status == 200).then_some(())
    });
    ready.await.context("/ready does not become 200")?;
    let status: Value = get(running, page, "/status.json").await?.json();
    let app = &status["apps"][0];
    ensure!(
        app["appid"] == APPID && app["state"] == "ok" && app["lease"]["alive"] == true,
        "/status.json: {status}"
    );
    let people = get(running, page, "/").await?;
    ensure!(
        people.status == 200 && people.text().contains("<html"),
        "/: {} {}",
        people.status,
        people.text()
    );
    Ok(format!(
        "/ready 503 without a token, then 200; /status.json: ok, kept by {}",
        app["lease"]["holder"]
    ))
}

async fn get(running: &Running, page: &str, path: &str) -> Result<Answer> {
    Ok(running.client.get(&format!("{page}{path}")).await?)
}
