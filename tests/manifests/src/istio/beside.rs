//! What is seen of Istio's deployments alone, beside the cases that all have.

use std::time::Duration;

use anyhow::{ensure, Context as _, Result};
use serde_json::Value;
use support::wait::within;
use support::wechat::{FakeWeChat, Outcome};
use tokio::net::TcpStream;

use super::cluster::Cluster;
use super::pod::{exec, Place, Pod, STATUS_PAGE};
use crate::cases::{in_chunks, MARK};
use crate::deployment::Running;
use crate::wechat::{WeChat, APPID, HOST};

/// How long Istio's agent may take to say that it is ready.
const READY: Duration = Duration::from_secs(30);
/// How many tokens two pods share before that is believed.
const SHARED: u64 = 3;
/// A host that is not WeChat's, at the same port: what its server says to a body without length is what WeChat's would.
const ELSEWHERE: &str = "elsewhere.example.com";

/// A program that knows nothing of all this calls WeChat by its name.
pub(super) async fn unmodified(place: Place) -> Result<String> {
    let url = format!("http://{HOST}/cgi-bin/echo");
    let answer = exec(place, "curl", &["-sS", "--max-time", "20", &url]).await?;
    let answer: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    ensure!(answer["errcode"] == 0, "curl {url}: {answer}");
    Ok(format!(
        "curl {url} in the pod, captured by Istio's rules: errcode 0"
    ))
}

/// What Istio's proxies tell each other of pods does not come to WeChat.
pub(super) fn private(wechat: &WeChat) -> Result<String> {
    let calls = wechat.fake.calls(4_096);
    for call in &calls {
        for (name, value) in &call.headers {
            let ours = [
                "x-forwarded-client-cert",
                "x-forwarded-for",
                "x-envoy-external-address",
            ];
            let is_private = ours.contains(&name.as_str()) || name.starts_with("x-envoy-peer");
            ensure!(!is_private, "WeChat got {name}: {value}");
        }
    }
    Ok(format!(
        "no header of the mesh in the last {} calls that WeChat got",
        calls.len()
    ))
}

/// The AuthorizationPolicy names the namespaces that may call.
pub(super) async fn denied(place: Place) -> Result<String> {
    let url = format!("http://{HOST}/cgi-bin/echo");
    let args = ["-sS", "-o", "/dev/null", "-w", "%{http_code}", &url];
    let status = exec(place, "curl", &args).await?;
    ensure!(status == "403", "a stranger got {status}");
    Ok("a call from a namespace that is not named: 403".to_owned())
}

/// The bootstrap's `stats_tags` are beside Istio's own.
pub(super) async fn labels(running: &Running) -> Result<String> {
    let metrics = running.admin_get("/stats/prometheus").await?;
    let name = "wechat_token_injected_total";
    let app = format!("app=\"{APPID}\"");
    let mut lines = metrics.lines().filter(|line| line.starts_with(name));
    let line = lines.find(|line| line.contains(&app));
    let line = line.with_context(|| format!("no {name} with {app}"))?;
    Ok(format!("/stats/prometheus has {line}"))
}

/// What a pod sends to others at the same port is theirs: it goes on as it came, and without a token.
pub(super) async fn untouched(running: &Running, elsewhere: &FakeWeChat) -> Result<String> {
    let answer = in_chunks(running, ELSEWHERE, "chunked-elsewhere", b"a body").await?;
    let calls = elsewhere.raw_calls(1);
    let call = calls.first();
    let call = call.filter(|call| call.header(MARK) == Some("chunked-elsewhere"));
    let call = call.context("it did not come there")?;
    ensure!(
        answer.status == 412 && call.header("content-length").is_none(),
        "a body in chunks for another host was collected: {} {call:?}",
        answer.status
    );
    ensure!(
        !call.target.contains("access_token"),
        "another host got a token"
    );
    Ok(
        "a body in chunks for another host at port 80 goes on in chunks, without a token"
            .to_owned(),
    )
}

/// A pod that lacks plugin and secret becomes ready beside those that have them, and calls WeChat as if there were no plugin.
pub(super) async fn left_alone(place: Place) -> Result<String> {
    let ready = "http://127.0.0.1:15020/healthz/ready";
    let args = ["-s", "-o", "/dev/null", "-w", "%{http_code}", ready];
    let is_ready = within(READY, || async {
        let status = exec(place, "curl", &args).await.ok()?;
        (status == "200").then_some(())
    });
    is_ready
        .await
        .context("a pod without plugin and secret does not become ready")?;
    let url = format!("http://{HOST}/cgi-bin/echo");
    let answer = exec(place, "curl", &["-sS", "--max-time", "20", &url]).await?;
    let answer: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    ensure!(answer["errcode"] == 41001, "without the plugin: {answer}");
    Ok(
        "a pod without plugin and secret is ready, and its call comes to WeChat without a token"
            .to_owned(),
    )
}

/// A second pod of the gateway starts. It may still ask WeChat itself, as the way to Redis comes to it after the refresher; from the next
/// token on both have each by one token call.
pub(super) async fn shared(gateway: &Value, cluster: &Cluster, wechat: &WeChat) -> Result<String> {
    let sibling = Pod::start(gateway, Place::new(), cluster).await?;
    let page = format!("http://127.0.0.1:{STATUS_PAGE}/ready");
    let args = ["-s", "-o", "/dev/null", "-w", "%{http_code}", &page];
    let ready = within(READY, || async {
        let status = exec(sibling.place(), "curl", &args).await.ok()?;
        (status == "200").then_some(())
    });
    ready.await.context("the second pod has no token")?;
    let first = wechat.tokens_made() + 1;
    let made = within(READY, || {
        std::future::ready((wechat.tokens_made() >= first + SHARED).then_some(()))
    });
    made.await.context("no further tokens")?;
    let log = wechat.fake.report().token_log;
    let asked = log.iter().filter(|call| {
        call.token
            .is_some_and(|number| (first..first + SHARED).contains(&number))
    });
    let again = asked.filter(|call| call.outcome == Outcome::Same).count();
    ensure!(again == 0, "{again} tokens were asked for twice: {log:?}");
    ensure!(
        sibling.log().contains("event=token_adopted"),
        "the second pod took no token from Redis:\n{}",
        sibling.log()
    );
    Ok(format!(
        "a second pod of the gateway on the same Redis: {SHARED} tokens, each by one token call for both"
    ))
}

/// Nobody outside of the pod reads the status page.
pub(super) async fn kept_in(place: Place) -> Result<String> {
    let outside = TcpStream::connect((place.address(), STATUS_PAGE)).await;
    ensure!(
        outside.is_err(),
        "the status page is open at the pod's address"
    );
    Ok(format!(
        "port {STATUS_PAGE} of the pod's address is closed: the page is on its loopback alone"
    ))
}
