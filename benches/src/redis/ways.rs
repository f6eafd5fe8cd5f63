//! Ways to a token, call by call: a constant one (what a call costs by itself), a GET at Redis before each call, and the plugin.
//!
//! All calls come from this process, over connections that are kept: one to Redis for each caller, as many to the upstream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{ensure, Context as _, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use support::client::Client;
use support::envoy::Envoy;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{url, Store};
use crate::bed::{ready, Bed, Plugin, LISTENER};
use crate::cpu::Cpu;
use crate::load::HOST;
use crate::row::Row;
use crate::stats::Spread;
use crate::{progress, Options};

/// The key of the seed's token service.
const KEY: &str = "wechat:access_token";
/// Callers when everything is busy.
const CALLERS: u64 = 16;
/// Of so many requests of a round one is made here: each is looked at by this process.
const FEWER: u64 = 4;

/// How a call gets its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// It has one, and goes straight to WeChat.
    Straight,
    /// It asks Redis, and goes straight to WeChat: what the seed's token service does.
    Get,
    /// It has one, and goes through an Envoy without a filter.
    Envoy,
    /// It asks Redis, and goes through an Envoy without a filter: the same in a mesh.
    EnvoyGet,
    /// It goes through an Envoy with the plugin and Redis.
    Plugin,
}

/// What a call costs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WayRow {
    /// On which way.
    pub way: Way,
    /// User and kernel CPU in microseconds: of the caller, of Redis and of the Envoy on the way, together.
    pub all_us: Spread,
    /// Of it Redis's.
    pub redis_us: Spread,
    /// The median latency in microseconds of one call at a time.
    pub p50_us: Spread,
    /// Its 99th percentile.
    pub p99_us: Spread,
}

impl Way {
    const ALL: [Self; 5] = [
        Self::Straight,
        Self::Get,
        Self::Envoy,
        Self::EnvoyGet,
        Self::Plugin,
    ];

    /// How tables call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Straight => "token at hand, no Envoy",
            Self::Get => "Redis GET per call, no Envoy",
            Self::Envoy => "token at hand, plain Envoy",
            Self::EnvoyGet => "Redis GET per call, plain Envoy",
            Self::Plugin => "this plugin with Redis",
        }
    }

    fn asks(self) -> bool {
        matches!(self, Self::Get | Self::EnvoyGet)
    }
}

struct Subject<'a> {
    way: Way,
    envoy: Option<&'a Envoy>,
    url: String,
    all: Vec<f64>,
    redis: Vec<f64>,
    single: Vec<Histogram<u64>>,
}

/// Measures every way.
pub(super) async fn measure(bed: &Bed, options: &Options, store: &Store) -> Result<Vec<WayRow>> {
    let token = "7".repeat(136);
    store.server.run::<()>(&["SET", KEY, &token]);
    let fake = bed.fake(1).await;
    let answers = bed.start_answers(Some(options.load_core)).await?;
    let api = answers.address(LISTENER);
    let plain = bed.upstream(Row::Plain, api, fake.address(), Plugin::SHIPPED)?;
    let plain = bed.start(plain, 1, Some(options.envoy_core)).await?;
    let shared = Plugin {
        redis: true,
        ..Plugin::SHIPPED
    };
    let mut plugin = bed.upstream(Row::Plugin, api, fake.address(), shared)?;
    store.lead(&mut plugin, "ways");
    let plugin = bed.start(plugin, 1, Some(options.envoy_core)).await?;
    ready(&plugin, Row::Plugin, "/cgi-bin/seen?a=1").await?;

    let carried = format!("&access_token={token}");
    let mut subjects = Way::ALL.map(|way| {
        let (envoy, url) = match way {
            Way::Straight => (None, url(&answers, &carried)),
            Way::Get => (None, url(&answers, "&access_token=")),
            Way::Envoy => (Some(&plain), url(&plain, &carried)),
            Way::EnvoyGet => (Some(&plain), url(&plain, "&access_token=")),
            Way::Plugin => (Some(&plugin), url(&plugin, "")),
        };
        Subject {
            way,
            envoy,
            url,
            all: Vec::new(),
            redis: Vec::new(),
            single: Vec::new(),
        }
    });
    let rounds = options.rounds.div_ceil(2);
    for round in 0..rounds {
        progress(&format!("ways to a token: round {} of {rounds}", round + 1));
        for subject in &mut subjects {
            subject.round(options, store).await?;
        }
    }
    Ok(subjects.iter().map(Subject::row).collect())
}

impl Subject<'_> {
    async fn round(&mut self, options: &Options, store: &Store) -> Result<()> {
        let requests = (options.requests / FEWER).max(CALLERS);
        let before = self.cpu(store)?;
        self.calls(requests, CALLERS, store).await?;
        let after = self.cpu(store)?;
        let shares: Vec<f64> = before
            .iter()
            .zip(&after)
            .map(|(before, after)| after.per_request(*before, requests).1)
            .collect();
        self.all.push(shares.iter().sum());
        self.redis.push(shares.get(1).copied().unwrap_or_default());
        let single = self.calls(requests / 4, 1, store).await?;
        self.single.push(single);
        Ok(())
    }

    /// The CPU of this process, of Redis and of the Envoy on the way.
    fn cpu(&self, store: &Store) -> Result<Vec<Cpu>> {
        let processes = [std::process::id(), store.server.pid()];
        let envoy = self.envoy.map(Envoy::pid);
        processes.into_iter().chain(envoy).map(Cpu::of).collect()
    }

    /// So many calls by so many callers; their latencies in microseconds.
    async fn calls(&self, requests: u64, callers: u64, store: &Store) -> Result<Histogram<u64>> {
        let mut running = JoinSet::new();
        let client = Client::new();
        let base: Arc<str> = self.url.as_str().into();
        for _ in 0..callers {
            let address = store.server.address();
            let keys = match self.way.asks() {
                true => Some(Keys::connect(address).await?),
                false => None,
            };
            let calls = requests / callers;
            running.spawn(call(client.clone(), Arc::clone(&base), keys, calls));
        }
        let mut latencies = Histogram::new(3)?;
        while let Some(ended) = running.join_next().await {
            latencies.add(ended??)?;
        }
        Ok(latencies)
    }

    fn row(&self) -> WayRow {
        let over = |share| {
            let of = |round: &Histogram<u64>| round.value_at_quantile(share) as f64;
            Spread::of(&self.single.iter().map(of).collect::<Vec<f64>>())
        };
        WayRow {
            way: self.way,
            all_us: Spread::of(&self.all),
            redis_us: Spread::of(&self.redis),
            p50_us: over(0.5),
            p99_us: over(0.99),
        }
    }
}

async fn call(
    client: Client,
    base: Arc<str>,
    mut keys: Option<Keys>,
    calls: u64,
) -> Result<Histogram<u64>> {
    let mut latencies = Histogram::new(3)?;
    for _ in 0..calls {
        let begin = Instant::now();
        let answer = match &mut keys {
            Some(keys) => {
                let url = format!("{base}{}", keys.token().await?);
                client.get_with(&url, &[("host", HOST)]).await?
            }
            None => client.get_with(&base, &[("host", HOST)]).await?,
        };
        ensure!(answer.status == 200, "status {}", answer.status);
        latencies.record((begin.elapsed().as_micros() as u64).max(1))?;
    }
    Ok(latencies)
}

/// A kept connection to Redis.
struct Keys(BufStream<TcpStream>);

impl Keys {
    async fn connect(address: SocketAddr) -> Result<Keys> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Keys(BufStream::new(stream)))
    }

    async fn token(&mut self) -> Result<String> {
        let request = format!("*2\r\n$3\r\nGET\r\n${}\r\n{KEY}\r\n", KEY.len());
        self.0.write_all(request.as_bytes()).await?;
        self.0.flush().await?;
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        let length = line.trim_end().strip_prefix('$').context("no token")?;
        let mut value = vec![0; length.parse::<usize>()? + 2];
        self.0.read_exact(&mut value).await?;
        value.truncate(value.len() - 2);
        Ok(String::from_utf8(value)?)
    }
}
