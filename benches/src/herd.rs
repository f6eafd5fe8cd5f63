//! The cold herd: many requests wait for the first token; how long after it does each of them go on?
//!
//! A fresh Envoy with two workers and an empty plugin, a fake WeChat that holds the token call, and an upstream of the
//! benchmark's own. Time counts from the moment the fake is told to send the token, so its reply, the refresher, the
//! push to the workers and Envoy's own sending are all in it, and ends with the kernel's stamp on a request's first
//! byte at the upstream. The upstream reads and answers nothing until Envoy has come to rest: a real one has cores of
//! its own, this one would take them from the release.

mod arrivals;

use std::time::{Duration, SystemTime};

use anyhow::{ensure, Context as _, Result};
use serde::{Deserialize, Serialize};
use support::client::{concurrent, Client};
use support::envoy::Envoy;
use support::wait;

use self::arrivals::Arrivals;
use crate::bed::{Bed, Plugin, LISTENER};
use crate::cpu::Cpu;
use crate::load::HOST;
use crate::row::Row;
use crate::stats::{quantile, Spread};
use crate::{progress, Options};

/// Envoy's workers.
const WORKERS: u32 = 2;
/// The small herd, beside the one of the options.
const SMALL: usize = 100;
/// How long a step may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long requests wait at most, in seconds: longer than a slow machine needs to send them all.
const PATIENCE: u64 = 30;
/// CPU that an Envoy at rest may use between two looks, 5 ms apart: a tick of the plugin, not a request.
const AT_REST: Duration = Duration::from_micros(500);
/// Looks in a row that must find it at rest.
const QUIET_LOOKS: u32 = 30;

/// The section's results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Herd {
    /// Envoy's workers.
    pub workers: u32,
    /// By size.
    pub sizes: Vec<HerdSize>,
}

/// One size of herd; times in milliseconds from the token's sending to a request's arrival at the upstream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HerdSize {
    /// Requests that waited.
    pub requests: usize,
    /// The first arrival, over the repetitions.
    pub first_ms: Spread,
    /// The median arrival.
    pub p50_ms: Spread,
    /// The 99th percentile.
    pub p99_ms: Spread,
    /// The last arrival.
    pub last_ms: Spread,
    /// Time from one arrival to the next on average, in microseconds: what sending one parked request costs.
    pub each_us: Spread,
}

/// Measures both sizes.
pub async fn measure(bed: &Bed, options: &Options) -> Result<Herd> {
    let mut sizes = Vec::new();
    for requests in [SMALL, options.herd] {
        let mut herds = Vec::new();
        for repetition in 0..options.repetitions {
            progress(&format!(
                "herd of {requests}: {} of {}",
                repetition + 1,
                options.repetitions
            ));
            herds.push(herd(bed, requests).await?);
        }
        sizes.push(evaluate(requests, &herds));
    }
    Ok(Herd {
        workers: WORKERS,
        sizes,
    })
}

/// One herd: the arrivals, sorted, in milliseconds.
async fn herd(bed: &Bed, requests: usize) -> Result<Vec<f64>> {
    let fake = bed.fake(1).await;
    let upstream = Arrivals::start()?;
    fake.hold_token_calls();
    let plugin = Plugin {
        patience: Some(PATIENCE),
        ..Plugin::SHIPPED
    };
    let config = bed.upstream(Row::Plugin, upstream.address(), fake.address(), plugin)?;
    let envoy = bed.start(config, WORKERS, None).await?;
    fake.wait_for_held(1, DEADLINE).await;

    let client = Client::with_timeout(DEADLINE * 2);
    let url = envoy.url(
        LISTENER,
        "/cgi-bin/user/get?next_openid=oFakeOpenId0001&lang=zh_CN",
    );
    let callers = tokio::spawn(concurrent(requests, move |_| {
        let (client, url) = (client.clone(), url.clone());
        async move { client.get_with(&url, &[("host", HOST)]).await }
    }));
    let active = "cluster.wechat_api.upstream_rq_active";
    envoy.wait_for_stat(active, requests as u64, DEADLINE).await;
    at_rest(&envoy).await?;
    ensure!(
        upstream.connections() == requests,
        "{} connections to the upstream in place of {requests}",
        upstream.connections()
    );
    ensure!(
        upstream.came() == 0,
        "a request left before the token was there"
    );

    let released = SystemTime::now();
    fake.release();
    at_rest(&envoy).await?;
    // On a busy machine Envoy may have stood still for want of a core.
    wait::until(DEADLINE, "every request at the upstream", || {
        upstream.came() == requests
    })
    .await;
    let token = fake.tokens().pop().context("no token was made")?;
    let mut arrivals = Vec::new();
    for (at, head) in upstream.read_and_answer()? {
        ensure!(head.contains(&token), "a request without the token: {head}");
        arrivals.push(at.duration_since(released)?.as_secs_f64() * 1e3);
    }
    for answer in callers.await? {
        let answer = answer?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    }
    let token_calls = fake.report().token_calls;
    ensure!(token_calls == 1, "{token_calls} token calls in place of 1");
    arrivals.sort_by(f64::total_cmp);
    Ok(arrivals)
}

/// Waits until Envoy's workers have nothing more to do.
async fn at_rest(envoy: &Envoy) -> Result<()> {
    let pid = envoy.pid();
    let (mut last, mut quiet) = (Duration::ZERO, 0);
    let quiet = wait::within(DEADLINE, || {
        let now = Cpu::of(pid).map_or(last, |cpu| cpu.all);
        quiet = if now - last < AT_REST { quiet + 1 } else { 0 };
        last = now;
        std::future::ready((quiet > QUIET_LOOKS).then_some(()))
    });
    ensure!(quiet.await.is_some(), "Envoy does not come to rest");
    Ok(())
}

fn evaluate(requests: usize, herds: &[Vec<f64>]) -> HerdSize {
    let over = |value: &dyn Fn(&[f64]) -> f64| {
        let values: Vec<f64> = herds.iter().map(|herd| value(herd)).collect();
        Spread::of(&values)
    };
    let between =
        |herd: &[f64]| (quantile(herd, 1.0) - quantile(herd, 0.0)) * 1e3 / requests.max(1) as f64;
    HerdSize {
        requests,
        first_ms: over(&|herd| quantile(herd, 0.0)),
        p50_ms: over(&|herd| quantile(herd, 0.5)),
        p99_ms: over(&|herd| quantile(herd, 0.99)),
        last_ms: over(&|herd| quantile(herd, 1.0)),
        each_us: over(&between),
    }
}
