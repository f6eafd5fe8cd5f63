//! From one app to a thousand: what a request costs more, and how long it takes until every app has its token.
//!
//! Both Envoys get the same thousand calls, each naming its app in the query; with one app all name that one, so that
//! only the number of apps differs. The method is that of [`crate::ratios`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{ensure, Result};
use serde::{Deserialize, Serialize};
use support::envoy::Envoy;
use support::wait;
use support::wechat::{FakeWeChat, Outcome};

use crate::bed::{appid, ready, Bed, Plugin};
use crate::ratios::{rounds, Subject};
use crate::row::Row;
use crate::stats::Spread;
use crate::{progress, Options};

/// The many.
const MANY: usize = 1_000;
/// How long the first tokens may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// The section's results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Apps {
    /// By number of apps.
    pub rows: Vec<AppsRow>,
}

/// What so many apps cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppsRow {
    /// How many.
    pub apps: usize,
    /// User CPU a request in microseconds.
    pub user_us: Spread,
    /// From the start of Envoy's process until the last app's token was handed out, in milliseconds.
    pub tokens_ms: f64,
    /// From the first token call to the last reply, in milliseconds.
    pub calls_ms: u64,
    /// What the Envoy (one worker) uses in bytes after the load, as in [`crate::memory`].
    pub memory: u64,
}

struct Fetched {
    tokens_ms: f64,
    calls_ms: u64,
}

/// Measures one app and many.
pub async fn measure(bed: &Bed, options: &Options) -> Result<Apps> {
    let mut subjects = Vec::new();
    let mut started = Vec::new();
    for apps in [1, MANY] {
        progress(&format!("apps: fetching {apps} token(s)"));
        let fake = bed.fake(apps).await;
        let plugin = Plugin {
            apps,
            ..Plugin::SHIPPED
        };
        let config = bed.direct(Row::Plugin, fake.address(), plugin)?;
        let start = Instant::now();
        let envoy = bed.start(config, 1, Some(options.envoy_core)).await?;
        let fetched = fetch(&fake, &envoy, apps, start).await?;
        let last = format!("/cgi-bin/seen?from_appid={}", appid(apps - 1));
        ready(&envoy, Row::Plugin, &last).await?;
        let paths = (0..MANY)
            .map(|number| {
                let appid = appid(number % apps);
                format!("/cgi-bin/json/user/get?next_openid=oFakeOpenId0001&from_appid={appid}")
            })
            .collect();
        subjects.push(Subject::new(apps, &envoy, paths, options));
        started.push((envoy, fetched, fake));
    }
    rounds(&mut subjects, options, "apps").await?;
    let mut rows = Vec::new();
    for (subject, (envoy, fetched, _)) in subjects.iter().zip(&started) {
        rows.push(AppsRow {
            apps: subject.key,
            user_us: Spread::of(&subject.user),
            tokens_ms: fetched.tokens_ms,
            calls_ms: fetched.calls_ms,
            memory: envoy.used_memory().await,
        });
    }
    Ok(Apps { rows })
}

async fn fetch(fake: &FakeWeChat, envoy: &Envoy, apps: usize, start: Instant) -> Result<Fetched> {
    let attempt = || {
        let report = fake.report();
        let granted = report
            .token_log
            .iter()
            .filter(|call| matches!(call.outcome, Outcome::Made | Outcome::Same));
        let done = granted
            .map(|call| &call.appid)
            .collect::<BTreeSet<_>>()
            .len()
            == apps;
        std::future::ready(done.then(|| start.elapsed()))
    };
    let all = wait::within(DEADLINE, attempt).await;
    ensure!(
        all.is_some(),
        "not every app has a token after {DEADLINE:?}\n{}",
        envoy.logs()
    );
    let log = fake.report().token_log;
    let first = log.iter().map(|call| call.at_ms).min().unwrap_or_default();
    let last = log.iter().filter_map(|call| call.ended_ms).max();
    Ok(Fetched {
        tokens_ms: all.unwrap_or_default().as_secs_f64() * 1e3,
        calls_ms: last.unwrap_or_default().saturating_sub(first),
    })
}
