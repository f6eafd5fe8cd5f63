//! The demo's steps. Each one does something as a service would, shows it, and checks what WeChat saw of it.

use std::time::{Duration, Instant};

use support::client::{concurrent, Answer, ClientError};
use support::wait;
use support::wechat::{Call, Outcome, Report, Rule};

use super::load;
use super::stage::{Stage, WECHAT};
use super::tell::Teller;

/// A harmless call that wants the app's token.
pub(crate) const PATH: &str = "/cgi-bin/get_api_domain_ip";
/// A call with a body.
const SEND: &str = "/cgi-bin/message/custom/send";
/// How long Envoy may take until all calls of a herd wait in it. The plugin's token call ends after 5 s.
const GATHERED: Duration = Duration::from_secs(3);
/// How long metrics may take to be flushed.
const FLUSHED: Duration = Duration::from_secs(5);

/// Metrics that are above zero after the steps.
const SHOWN: [&str; 4] = [
    "wechat_token_injected_total",
    "wechat_token_rejected_total",
    "wechat_token_resent_total",
    "wechat_token_remaining_seconds",
];

/// What the steps are played with.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The app's id.
    pub(crate) appid: String,
    /// First calls at once.
    pub(crate) calls: usize,
    /// Rotations to see.
    pub(crate) rotations: u64,
}

/// All steps, in their order.
pub(crate) async fn play(stage: &mut Stage, plan: &Plan, tell: &mut Teller) -> Result<(), String> {
    one_call(stage, plan, tell).await?;
    first_calls(stage, plan, tell).await?;
    rotation(stage, plan, tell).await?;
    rejected_token(stage, plan, tell).await?;
    metrics(stage, plan, tell).await
}

/// One call, as the service sent it and as WeChat got it.
async fn one_call(stage: &Stage, plan: &Plan, tell: &mut Teller) -> Result<(), String> {
    tell.step("A service calls WeChat and knows nothing of tokens");
    let answer = get(stage).await.map_err(|error| error.to_string())?;
    tell.fact("the service sent", format!("GET http://{WECHAT}{PATH}"));
    let call = last_call(stage, PATH).await?;
    tell.fact(
        "WeChat got",
        format!("{} http://{WECHAT}{}", call.method, call.target),
    );
    tell.fact(
        "the service got",
        format!("{} {}", answer.status, shortened(&answer.text())),
    );
    tell.check(
        succeeded(&answer),
        "the call succeeded",
        format!("{:.1?}", answer.elapsed),
    );
    let carried = call.target.matches("access_token=").count();
    let ours = call.appid.as_deref() == Some(plan.appid.as_str());
    let seen = format!(
        "{carried}, of {}",
        call.appid.as_deref().unwrap_or("nobody")
    );
    tell.check(
        carried == 1 && ours,
        "it carried one live access_token of the app",
        seen,
    );
    Ok(())
}

/// Many calls meet an Envoy that has no token yet.
async fn first_calls(stage: &mut Stage, plan: &Plan, tell: &mut Teller) -> Result<(), String> {
    let calls = plan.calls;
    tell.step(&format!(
        "{calls} first calls at once, and Envoy has no token yet"
    ));
    if !stage.can_restart() {
        tell.fact(
            "left out",
            "this Envoy has a token already; --restart COMMAND gives a new one",
        );
        return Ok(());
    }
    stage.reset(true).await?;
    stage.hold_token_calls(true).await?;
    stage.restart().await?;
    tell.fact(
        "prepared",
        "a new Envoy; WeChat forgot all tokens and takes its time for the next one",
    );
    let herd = tokio::spawn(herd(stage, calls));
    let gathered = wait::within(GATHERED, || async {
        let waiting = active_requests(&stage.metrics().await.ok()?);
        (waiting >= calls as u64).then_some(())
    });
    let gathered = gathered.await.is_some();
    let before = stage.report().await?;
    stage.hold_token_calls(false).await?;
    let released = Instant::now();
    let answers = herd.await.map_err(|error| error.to_string())?;
    let took = released.elapsed();
    let after = stage.report().await?;

    let waited = format!("{} of them had reached WeChat", before.business_calls);
    tell.check(
        gathered && before.business_calls == 0,
        "all calls waited in Envoy",
        waited,
    );
    let token_calls = after.app(&plan.appid).token_calls;
    tell.check(token_calls == 1, "token calls that WeChat saw", token_calls);
    let good = answers
        .iter()
        .flatten()
        .filter(|answer| succeeded(answer))
        .count();
    let seen = format!("{good} of {calls}, {took:.0?} after WeChat gave the token");
    tell.check(good == calls, "good answers", seen);
    first_failure(&answers, tell);
    no_violations(&after, tell);
    Ok(())
}

/// Load, while tokens come and go.
async fn rotation(stage: &Stage, plan: &Plan, tell: &mut Teller) -> Result<(), String> {
    stage.reset(false).await?;
    tell.step(&format!(
        "Load across at least {} rotations of the token",
        plan.rotations
    ));
    let load = load::Load::start(&stage.client, &stage.url(PATH));
    let seen = load::wait_for_rotations(stage, &plan.appid, plan.rotations).await;
    let result = load.stop().await;
    let report = stage.report().await?;

    let made: Vec<_> = report
        .token_log
        .iter()
        .filter(|call| call.outcome == Outcome::Made)
        .collect();
    if let Some(life) = made.first().and_then(|call| call.expires_in) {
        tell.fact(
            "prepared",
            format!("WeChat's tokens live {life} s here, not 2 hours"),
        );
    }
    tell.check(seen, "tokens that were replaced under load", made.len());
    let calls = result.good + result.failed;
    tell.check(
        result.failed == 0 && calls > 0,
        "failed calls",
        format!("{} of {calls}", result.failed),
    );
    if let Some(why) = &result.first_failure {
        tell.quote(why);
    }
    let expired = report
        .violations
        .iter()
        .filter(|violation| violation.rule == Rule::ExpiredToken)
        .count();
    let refused = [40001, 40014, 42001]
        .iter()
        .map(|code| report.errcode(*code))
        .sum::<u64>();
    tell.check(
        expired == 0 && refused == 0,
        "calls that reached WeChat with an expired or unknown token",
        expired as u64 + refused,
    );
    no_violations(&report, tell);
    Ok(())
}

/// WeChat refuses a token before its time.
async fn rejected_token(stage: &Stage, plan: &Plan, tell: &mut Teller) -> Result<(), String> {
    tell.step("WeChat refuses a token before its time");
    stage.reset(false).await?;
    stage.revoke(&plan.appid, 40001).await?;
    tell.fact(
        "prepared",
        "somebody else asked WeChat for a token: ours is invalid from now on (errcode 40001)",
    );
    let body = br#"{"touser":"OPENID","msgtype":"text","text":{"content":"hello"}}"#;
    let headers = [("host", WECHAT), ("content-type", "application/json")];
    let answer = stage
        .client
        .post(&stage.url(SEND), &headers, body.as_slice())
        .await;
    let answer = answer.map_err(|error| error.to_string())?;
    let calls = stage.calls(100).await?;
    let tries: Vec<_> = calls
        .iter()
        .filter(|call| call.target.starts_with(SEND))
        .collect();
    tell.fact(
        "the service sent",
        format!("POST http://{WECHAT}{SEND}   ({} bytes)", body.len()),
    );
    for call in &tries {
        tell.fact(
            "WeChat got",
            format!("{} http://{WECHAT}{}", call.method, call.target),
        );
        tell.fact("  and answered", format!("errcode {}", call.result));
    }
    tell.fact(
        "the service got",
        format!("{} {}", answer.status, shortened(&answer.text())),
    );
    let results: Vec<_> = tries.iter().map(|call| call.result.as_str()).collect();
    tell.check(
        results == ["40001", "0"],
        "Envoy sent it again with a new token",
        format!("{results:?}"),
    );
    tell.check(
        succeeded(&answer),
        "the service saw nothing of it",
        format!("{:.0?}", answer.elapsed),
    );
    let whole = tries
        .iter()
        .all(|call| call.body_bytes == body.len() as u64);
    tell.check(
        whole,
        "the body arrived whole each time",
        format!("{} bytes", body.len()),
    );
    Ok(())
}

/// What an operator sees.
async fn metrics(stage: &Stage, plan: &Plan, tell: &mut Teller) -> Result<(), String> {
    tell.step("What an operator sees: /stats/prometheus, and the logs");
    let page = wait::within(FLUSHED, || async {
        let page = stage.metrics().await.ok()?;
        let counted = |name| sum(&page, name, &plan.appid) > 0.0;
        let all = SHOWN.iter().all(|name| counted(name));
        all.then_some(page)
    });
    let seen = page.await;
    let page = match &seen {
        Some(page) => page.clone(),
        None => stage.metrics().await?,
    };
    for line in page
        .lines()
        .filter(|line| line.starts_with("wechat_token_"))
    {
        tell.quote(line);
    }
    let shown = format!("{} and their like", SHOWN[0]);
    tell.check(seen.is_some(), "what happened is counted", shown);
    let leaks = stage.secrets().await?;
    let clean = |text: &str| !leaks.iter().any(|leak| text.contains(leak.as_str()));
    tell.check(clean(&page), "tokens and secrets in the metrics", "none");
    if let Some(log) = stage.logs() {
        let lines = log.lines().filter(|line| line.contains(PATH)).count();
        let seen = format!(
            "none in {} lines, {lines} of them access log",
            log.lines().count()
        );
        tell.check(
            clean(&log) && lines > 0,
            "tokens and secrets in Envoy's log",
            seen,
        );
    }
    Ok(())
}

async fn get(stage: &Stage) -> Result<Answer, ClientError> {
    stage
        .client
        .get_with(&stage.url(PATH), &[("host", WECHAT)])
        .await
}

/// The herd's calls, as a task of their own.
fn herd(
    stage: &Stage,
    calls: usize,
) -> impl std::future::Future<Output = Vec<Result<Answer, ClientError>>> {
    let (client, url) = (stage.client.clone(), stage.url(PATH));
    concurrent(calls, move |_| {
        let (client, url) = (client.clone(), url.clone());
        async move { client.get_with(&url, &[("host", WECHAT)]).await }
    })
}

async fn last_call(stage: &Stage, path: &str) -> Result<Call, String> {
    let calls = stage.calls(100).await?;
    let call = calls
        .into_iter()
        .rev()
        .find(|call| call.target.starts_with(path));
    call.ok_or_else(|| format!("WeChat saw no call of {path}"))
}

/// Whether WeChat did it: many of its successes carry no errcode.
pub(crate) fn succeeded(answer: &Answer) -> bool {
    answer.status == 200 && answer.errcode().unwrap_or_default() == 0
}

fn first_failure(answers: &[Result<Answer, ClientError>], tell: &Teller) {
    let failed = answers
        .iter()
        .find(|answer| !answer.as_ref().is_ok_and(succeeded));
    match failed {
        Some(Ok(answer)) => tell.quote(&format!("{} {}", answer.status, shortened(&answer.text()))),
        Some(Err(error)) => tell.quote(&error.to_string()),
        None => {}
    }
}

fn no_violations(report: &Report, tell: &mut Teller) {
    tell.check(
        report.violations_total == 0,
        "rules of WeChat that were broken",
        report.violations_total,
    );
    for violation in report.violations.iter().take(3) {
        tell.quote(&format!(
            "{:?} {}: {}",
            violation.rule, violation.path, violation.detail
        ));
    }
}

/// Requests that Envoy has in hand on the services' listener.
fn active_requests(page: &str) -> u64 {
    sum(page, "envoy_http_downstream_rq_active", "\"wechat\"") as u64
}

/// The sum of a metric's values over all label sets that contain `label`.
fn sum(page: &str, name: &str, label: &str) -> f64 {
    let lines = page
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.contains(label));
    lines
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// The beginning of a text, for one line on a terminal.
fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}
