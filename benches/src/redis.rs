//! What Redis costs: nothing where a request passes, since the token is in the worker's memory; beside it the way of a service that
//! asks Redis for the token at each call; and what one Redis does of the plugin's own requests.
//!
//! The first is measured by the method of [`crate::ratios`], with the error of two Envoys that are alike. The second calls from this
//! process and adds up the CPU of all who take part. The third counts Redis's CPU, which holds on a busy machine too.

mod capacity;
mod ways;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use support::envoy::{Config, Envoy};
use support::redis::Redis as Server;
use tempfile::TempDir;

use crate::bed::{ready, Bed, Plugin, LISTENER};
use crate::ratios::{rounds, Answer, Subject};
use crate::row::Row;
use crate::stats::Spread;
use crate::Options;

pub use self::capacity::Capacity;
pub use self::ways::WayRow;

/// The section's results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Redis {
    /// What a request costs with it and without.
    pub hot: Hot,
    /// Beside other ways to a token.
    pub ways: Vec<WayRow>,
    /// What one Redis does.
    pub capacity: Capacity,
}

/// CPU a request of an Envoy with the plugin, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Hot {
    /// User CPU.
    pub user: Beside,
    /// User and kernel CPU.
    pub all: Beside,
}

/// The plugin without `redis` and with it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Beside {
    /// Without.
    pub without_us: Spread,
    /// With.
    pub with_us: Spread,
    /// What it adds (least less least).
    pub added_us: f64,
    /// With over without (least over least).
    pub ratio: f64,
    /// What two Envoys without it differ by.
    pub error_us: f64,
}

/// A Redis, and the folder with the sockets of Envoys that speak to it.
pub(crate) struct Store {
    pub(crate) server: Server,
    sockets: TempDir,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Without,
    WithoutAgain,
    With,
}

/// Measures all of it.
pub async fn measure(bed: &Bed, options: &Options) -> Result<Redis> {
    let store = Store::start()?;
    let hot = hot(bed, options, &store).await.context("hot path")?;
    let ways = ways::measure(bed, options, &store).await.context("ways")?;
    let capacity = capacity::measure(options, &store)
        .await
        .context("capacity")?;
    Ok(Redis {
        hot,
        ways,
        capacity,
    })
}

impl Store {
    fn start() -> Result<Store> {
        Ok(Store {
            server: Server::start(&[]),
            sockets: tempfile::tempdir()?,
        })
    }

    /// Gives an Envoy's configuration what `envoy/redis.yaml` has, led to this Redis.
    pub(crate) fn lead(&self, config: &mut Config, name: &str) {
        let fragment = Config::redis_at(self.server.address());
        config.add_redis(fragment, &self.sockets.path().join(name));
    }
}

async fn hot(bed: &Bed, options: &Options, store: &Store) -> Result<Hot> {
    let fake = bed.fake(1).await;
    let mut envoys: Vec<(Kind, Envoy)> = Vec::new();
    for kind in [Kind::Without, Kind::WithoutAgain, Kind::With] {
        let plugin = Plugin {
            redis: kind == Kind::With,
            ..Plugin::SHIPPED
        };
        let mut config = bed.direct(Row::Plugin, fake.address(), plugin)?;
        if plugin.redis {
            store.lead(&mut config, "hot");
        }
        let envoy = bed.start(config, 1, Some(options.envoy_core)).await?;
        ready(&envoy, Row::Plugin, "/cgi-bin/seen?a=1").await?;
        envoys.push((kind, envoy));
    }
    let mut subjects: Vec<Subject<Kind>> = envoys
        .iter()
        .map(|(kind, envoy)| {
            let paths = vec![Answer::Json.path().to_owned()];
            Subject::new(*kind, envoy, paths, options)
        })
        .collect();
    rounds(&mut subjects, options, "redis").await?;
    Ok(Hot {
        user: beside(&subjects, |subject| &subject.user),
        all: beside(&subjects, |subject| &subject.all),
    })
}

fn beside(subjects: &[Subject<Kind>], clock: impl Fn(&Subject<Kind>) -> &Vec<f64>) -> Beside {
    let spread = |kind| {
        let found = subjects.iter().find(|subject| subject.key == kind);
        found.map_or_else(Spread::default, |subject| Spread::of(clock(subject)))
    };
    let (without, again) = (spread(Kind::Without), spread(Kind::WithoutAgain));
    let with = spread(Kind::With);
    let least = without.min.min(again.min);
    Beside {
        without_us: without,
        with_us: with,
        added_us: with.min - least,
        ratio: with.min / least,
        error_us: (without.min - again.min).abs(),
    }
}

/// The listener of every Envoy here.
fn url(envoy: &Envoy, token: &str) -> String {
    let path = "/cgi-bin/user/get?next_openid=oFakeOpenId0001&lang=zh_CN";
    envoy.url(LISTENER, &format!("{path}{token}"))
}
