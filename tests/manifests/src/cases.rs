//! The main end-to-end cases, written once against an address that leads through the plugin to the fake WeChat.
//!
//! They run in this order on one Envoy, which begins without a token: *status* before one, *herd*, *injection*, *bodies*, *status*, *rotation*, *rejected*; at the end nothing
//! may have leaked. *Takeover* has an Envoy of its own, with the plugin whose virtual machines trap on command.

mod bodies;
mod load;
mod status;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use support::client::{concurrent, Answer};
use support::envoy::workspace;
use support::wait::within;
use support::wechat::{crc32, Call, Outcome};

pub(crate) use self::bodies::in_chunks;
use self::load::Load;
use crate::deployment::{Deployment, OnRejected, Running};
use crate::wechat::{WeChat, APPID, HOST};

/// How long a token lives here.
const LIFETIME: Duration = Duration::from_secs(8);
/// First calls at once.
const HERD: usize = 200;
/// Callers without a pause, while tokens come and go.
const CALLERS: usize = 2;
/// Rotations to see.
const ROTATIONS: u64 = 3;
/// For what takes no time of its own, on a machine that is busy.
const SOON: Duration = Duration::from_secs(30);
/// How long the herd may take to stand in Envoy: the token call for which it waits is given up after 5 s.
const GATHERED: Duration = Duration::from_secs(4);

/// What WeChat answers to any call with a token.
const ECHO: &str = "/cgi-bin/echo";
/// Names a call, so that it is found again among those that WeChat got.
pub(crate) const MARK: &str = "x-test-call";
/// Which virtual machine is to trap; see `src/host/trap.rs`.
const TRAP: &str = "x-wechat-token-trap";

/// Runs all cases through a deployment.
pub(crate) async fn run(deployment: &dyn Deployment) -> Result<()> {
    for line in deployment.read().await.context("read")? {
        tell("read", &line);
    }
    let wechat = WeChat::start(LIFETIME).await?;
    wechat.fake.hold_token_calls();
    let plugin = workspace().join("dist/wechat-token.wasm");
    let running = deployment.start(&wechat, &plugin).await.context("start")?;
    let seen = status::without_token(&running).await;
    shown(&running, seen.context("status"))?;
    let seen = herd(&running, &wechat).await;
    tell("herd", &shown(&running, seen.context("herd"))?);
    let seen = injection(deployment, &running, &wechat).await;
    tell("injection", &shown(&running, seen.context("injection"))?);
    let seen = bodies::lengths(&running, &wechat, deployment.bodies()).await;
    tell("bodies", &shown(&running, seen.context("bodies"))?);
    let seen = status::with_token(&running).await;
    tell("status", &shown(&running, seen.context("status"))?);
    let seen = rotation(&running, &wechat).await;
    tell("rotation", &shown(&running, seen.context("rotation"))?);
    let seen = rejected(&running, &wechat, deployment.on_rejected()).await;
    tell("rejected", &shown(&running, seen.context("rejected"))?);
    let seen = deployment.beside(&running, &wechat).await.context("beside");
    for seen in shown(&running, seen)? {
        tell("beside", &seen);
    }
    wechat.check()?;
    tell("leaks", &leaks(&running, &wechat).await.context("leaks")?);
    if deployment.has_refresher() {
        drop(running);
        let wechat = WeChat::start(LIFETIME).await?;
        let plugin = workspace().join("target/variants/wechat-token-trap.wasm");
        let seen = takeover(deployment, &wechat, &plugin).await;
        tell("takeover", &seen.context("takeover")?);
        wechat.check()
    } else {
        let seen = alone(&running, &wechat).context("takeover");
        tell("takeover", &shown(&running, seen)?);
        Ok(())
    }
}

/// Many calls meet an Envoy that has no token yet: they wait, and one token call serves them all.
async fn herd(running: &Running, wechat: &WeChat) -> Result<String> {
    let held = within(SOON, || {
        std::future::ready((wechat.fake.held() > 0).then_some(()))
    });
    held.await.context("no token call came")?;
    let (client, url) = (running.client.clone(), running.url(ECHO));
    let herd = concurrent(HERD, move |_| {
        let (client, url) = (client.clone(), url.clone());
        async move { client.get_with(&url, &[("host", HOST)]).await }
    });
    let gather = async {
        let gathered = within(GATHERED, || async {
            let parked = running.counted("wechat_token_parked_total").await.ok()?;
            (parked >= HERD as u64).then_some(())
        });
        let gathered = gathered.await.is_some();
        let arrived = wechat.fake.report().business_calls;
        wechat.fake.release();
        (gathered, arrived)
    };
    let (answers, (gathered, arrived)) = tokio::join!(herd, gather);
    ensure!(gathered, "not all of {HERD} calls waited in Envoy");
    ensure!(arrived == 0, "{arrived} calls went on without a token");
    for answer in answers {
        good(&answer?)?;
    }
    let report = wechat.fake.report();
    let granted = |outcome: &Outcome| matches!(outcome, Outcome::Made | Outcome::Same);
    let calls = report.token_log.iter();
    let granted = calls.filter(|call| granted(&call.outcome)).count();
    ensure!(
        granted == 1,
        "{granted} token calls were answered: {:?}",
        report.token_log
    );
    Ok(format!(
        "{HERD} first calls waited, 1 token call served them all"
    ))
}

/// A call gets the token and nothing else of it changes; one that takes no token gets none.
async fn injection(
    deployment: &dyn Deployment,
    running: &Running,
    wechat: &WeChat,
) -> Result<String> {
    let (path, body) = ("/cgi-bin/echo?a=1&b=%20x", r#"{"text":"你好"}"#);
    let headers = [
        ("host", HOST),
        (MARK, "injection"),
        ("x-own", "kept"),
        ("x-expect-appid", APPID),
        ("content-type", "application/json"),
    ];
    let url = running.url(path);
    good(&running.client.post(&url, &headers, body).await?)?;
    let call = marked(wechat, "injection")?;
    let token = call
        .target
        .strip_prefix("/cgi-bin/echo?a=1&b=%20x&access_token=")
        .context("the call has another target")?;
    let is_ours = wechat.fake.tokens().iter().any(|ours| ours == token);
    ensure!(is_ours, "the call carried no token of this WeChat");
    ensure!(
        call.body_crc32 == crc32(body.as_bytes()) && call.header("host") == Some(HOST),
        "the call came with another body or host"
    );
    ensure!(call.header("x-own") == Some("kept"), "a header was lost");

    let free = "/sns/jscode2session?js_code=1";
    running.get(free, &[(MARK, "free")]).await?;
    let call = marked(wechat, "free")?;
    ensure!(call.target == free, "a call that takes no token got one");

    let elsewhere = [("host", "elsewhere.example.com"), (MARK, "elsewhere")];
    let url = running.url(ECHO);
    let status = running.client.get_with(&url, &elsewhere).await?.status;
    ensure!(
        marked(wechat, "elsewhere").is_err(),
        "a call to another host got {status} and came to WeChat"
    );
    // In a world of its own that host has a server; else nothing is known of it.
    ensure!(
        status == 404 || deployment.wants_a_world(),
        "a call to another host got {status}"
    );
    Ok(format!(
        "POST {path} -> {path}&access_token=…, body and headers kept; GET {free} as it is; another host {status}"
    ))
}

/// Tokens come and go, and no caller notices.
async fn rotation(running: &Running, wechat: &WeChat) -> Result<String> {
    let (made, begun) = (wechat.tokens_made(), Instant::now());
    let load = Load::start(running);
    let rotated = || wechat.tokens_made() >= made + ROTATIONS;
    let waited = within(LIFETIME * 8, || {
        std::future::ready((rotated() || load.is_over()).then_some(()))
    });
    let waited = waited.await.is_some();
    let calls = load.stop().await?;
    ensure!(waited, "no {ROTATIONS} rotations within {:?}", LIFETIME * 8);
    let errcodes = wechat.fake.report().business_errcodes;
    ensure!(errcodes.is_empty(), "errors from WeChat: {errcodes:?}");
    Ok(format!(
        "{ROTATIONS} rotations in {:.0?}, {calls} calls, all good",
        begun.elapsed()
    ))
}

/// WeChat rejects a token before its time.
async fn rejected(running: &Running, wechat: &WeChat, kind: OnRejected) -> Result<String> {
    // Just after a rotation, so that none comes between.
    let made = wechat.tokens_made();
    let renewed = within(LIFETIME * 2, || {
        std::future::ready((wechat.tokens_made() > made).then_some(()))
    });
    renewed.await.context("the token is not renewed")?;
    uses_newest(running, wechat).await?;
    wechat.fake.revoke(APPID, 40001);
    let body = vec![b'x'; 300_000];
    let headers = [("host", HOST), ("x-expect-appid", APPID)];
    let url = running.url(ECHO);
    let answer = running.client.post(&url, &headers, body).await?;
    ensure!(
        wechat.fake.report().errcode(40001) > 0,
        "WeChat rejected nothing"
    );
    if kind == OnRejected::Resent {
        good(&answer)?;
        ensure!(
            answer.json()["body_bytes"] == 300_000,
            "the body was not sent again: {}",
            answer.text()
        );
        return Ok(
            "40001 -> renewed, POST of 300,000 bytes sent again, the caller sees 200 and errcode 0"
                .to_owned(),
        );
    }
    ensure!(
        answer.errcode() == Some(40001),
        "the caller did not get WeChat's error: {} {}",
        answer.status,
        answer.text()
    );
    let until_good = within(SOON, || async {
        let answer = running.get(ECHO, &[]).await.ok()?;
        (answer.errcode() == Some(0)).then_some(())
    });
    until_good
        .await
        .context("no good call after the rejection")?;
    let noticed = running.log_has("event=token_rejected");
    ensure!(noticed == 0, "the rejection was noticed after all");
    Ok("40001 passed on to the caller until the token was renewed by its time (the plugin cannot see answers here)".to_owned())
}

/// The refresher dies. A worker's root takes over: it renews, and no caller notices.
async fn takeover(deployment: &dyn Deployment, wechat: &WeChat, plugin: &Path) -> Result<String> {
    ensure!(
        plugin.is_file(),
        "no {}: tools/build-variants.sh",
        plugin.display()
    );
    let running = deployment.start(wechat, plugin).await.context("start")?;
    let seen = after_trap(&running, wechat).await;
    shown(&running, seen)
}

async fn after_trap(running: &Running, wechat: &WeChat) -> Result<String> {
    good(&running.get(ECHO, &[]).await?)?;
    let load = Load::start(running);
    let begun = Instant::now();
    // A call that takes no token, and so waits for none.
    let headers = [(TRAP, "refresher")];
    running
        .get("/sns/jscode2session?js_code=1", &headers)
        .await?;
    let taken = format!("event=lease_taken app={APPID}");
    running.wait_for_log(&taken, 1, SOON).await?;
    let took = begun.elapsed();
    let made = wechat.tokens_made();
    let renewed = || wechat.tokens_made() >= made + 2;
    let waited = within(LIFETIME * 8, || {
        std::future::ready((renewed() || load.is_over()).then_some(()))
    });
    let waited = waited.await.is_some();
    let calls = load.stop().await?;
    ensure!(waited, "whoever took over does not renew");
    Ok(format!(
        "refresher trapped, a worker's root had the lease after {took:.1?} and renewed twice, {calls} calls, all good"
    ))
}

/// There is no refresher. One worker's root has kept the tokens since the start: each generation was fetched once.
fn alone(running: &Running, wechat: &WeChat) -> Result<String> {
    let renewed = |generation: u64| {
        running.log_has(&format!(
            "event=token_renewed app={APPID} generation={generation} "
        ))
    };
    let made = wechat.tokens_made();
    for generation in 1..=made.min(ROTATIONS) {
        let times = renewed(generation);
        ensure!(times == 1, "generation {generation} was made {times} times");
    }
    Ok(format!(
        "no refresher here: one worker's root made all of {made} tokens, each once"
    ))
}

/// Waits until a call carries the newest token.
async fn uses_newest(running: &Running, wechat: &WeChat) -> Result<()> {
    let carried = within(SOON, || async {
        running.get(ECHO, &[(MARK, "newest")]).await.ok()?;
        let newest = wechat.fake.tokens().pop()?;
        let call = marked(wechat, "newest").ok()?;
        call.target.ends_with(&newest).then_some(())
    });
    carried.await.context("calls do not get the newest token")
}

/// No token and no secret that ever was stands in Envoy's log, its access log, or on its admin pages.
async fn leaks(running: &Running, wechat: &WeChat) -> Result<String> {
    let pages = [
        "/config_dump?include_eds",
        "/clusters",
        "/listeners",
        "/stats",
        "/stats/prometheus",
    ];
    let mut texts = vec![("the log", (running.log)())];
    for page in pages {
        texts.push((page, running.admin_get(page).await?));
    }
    let words = wechat.fake.leaks();
    for (place, text) in &texts {
        ensure!(!text.is_empty(), "{place} is empty");
        let found = words.iter().find(|word| text.contains(word.as_str()));
        let line = found.and_then(|word| text.lines().find(|line| line.contains(word.as_str())));
        ensure!(line.is_none(), "{place}: {}", line.unwrap_or_default());
    }
    Ok(format!(
        "none of {} tokens and secrets in the log and {} admin pages",
        words.len(),
        pages.len()
    ))
}

fn good(answer: &Answer) -> Result<()> {
    ensure!(
        answer.status == 200 && answer.errcode() == Some(0),
        "the caller got {} {}",
        answer.status,
        answer.text()
    );
    Ok(())
}

/// The last call with this mark that WeChat got, as it came.
fn marked(wechat: &WeChat, mark: &str) -> Result<Call> {
    let calls = wechat.fake.raw_calls(4_096);
    let mut calls = calls.into_iter().rev();
    calls
        .find(|call| call.header(MARK) == Some(mark))
        .with_context(|| format!("WeChat did not get the call {mark:?}"))
}

/// With a failure the end of Envoy's log is shown, without the access log.
fn shown<T>(running: &Running, result: Result<T>) -> Result<T> {
    if result.is_err() {
        let log = (running.log)();
        let is_access = |line: &&str| line.starts_with('{') || line.contains("Z] \"");
        let lines: Vec<_> = log.lines().filter(|line| !is_access(line)).collect();
        let last = lines.len().saturating_sub(40);
        let end = lines.get(last..).unwrap_or_default().join("\n");
        eprintln!("--- Envoy's log ends ---\n{end}\n---");
    }
    result
}

fn tell(what: &str, seen: &str) {
    println!("  {what:<10} {seen}");
}
