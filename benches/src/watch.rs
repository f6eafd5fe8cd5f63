//! What looking at answers costs: the plugin with and without its watch, on the cluster that leads to WeChat.
//!
//! A small JSON answer is held until its first bytes are there; a large one has a Content-Length that says so and passes at once; a call with a body may be sent again, which
//! is Envoy's work and none of the watch's. The method is that of [`crate::ratios`]; without the watch two Envoys are measured, and what
//! they differ by is the error. The upstream shares the load's core.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use support::envoy::Envoy;

use crate::bed::{ready, Bed, Plugin, LISTENER};
use crate::ratios::{rounds, Subject};
use crate::row::Row;
use crate::stats::Spread;
use crate::Options;

/// The body of a call that has one, in bytes.
const BODY: usize = 16 * 1024;
/// Of a large answer fewer are asked for, else it would take most of the benchmark's time.
const FEWER: u64 = 40;

/// The section's results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// By exchange.
    pub rows: Vec<WatchRow>,
}

/// What one kind of exchange costs, user and kernel CPU in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WatchRow {
    /// Which.
    pub exchange: Exchange,
    /// Without the watch.
    pub off_us: Spread,
    /// With it.
    pub on_us: Spread,
    /// What it adds (least less least).
    pub added_us: f64,
    /// What two Envoys without it differ by.
    pub error_us: f64,
}

/// What goes to and fro.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exchange {
    /// A call without a body, a JSON answer of some 130 bytes.
    SmallJson,
    /// A call without a body, an answer of 1 MB.
    Large,
    /// A POST with a body of 16 KB, a small JSON answer.
    Post,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Off,
    OffAgain,
    On,
}

impl Exchange {
    const ALL: [Self; 3] = [Self::SmallJson, Self::Large, Self::Post];

    /// How tables call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::SmallJson => "small JSON answer",
            Self::Large => "answer of 1 MB",
            Self::Post => "POST of 16 KB, small JSON answer",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::SmallJson | Self::Post => {
                "/cgi-bin/user/get?next_openid=oFakeOpenId0001&lang=zh_CN"
            }
            Self::Large => "/wxa/large?next_openid=oFakeOpenId0001&lang=zh_CN",
        }
    }
}

impl Watch {
    /// One exchange's row.
    pub fn row(&self, exchange: Exchange) -> Option<&WatchRow> {
        self.rows.iter().find(|row| row.exchange == exchange)
    }
}

/// Measures every exchange with and without the watch.
pub async fn measure(bed: &Bed, options: &Options) -> Result<Watch> {
    let fake = bed.fake(1).await;
    let answers = bed.start_answers(Some(options.load_core)).await?;
    let mut envoys: Vec<(Kind, Envoy)> = Vec::new();
    for kind in [Kind::Off, Kind::OffAgain, Kind::On] {
        let plugin = Plugin {
            watch: kind == Kind::On,
            ..Plugin::SHIPPED
        };
        let api = answers.address(LISTENER);
        let config = bed.upstream(Row::Plugin, api, fake.address(), plugin)?;
        let envoy = bed.start(config, 1, Some(options.envoy_core)).await?;
        ready(&envoy, Row::Plugin, "/cgi-bin/seen?a=1").await?;
        envoys.push((kind, envoy));
    }
    let mut subjects = Vec::new();
    for exchange in Exchange::ALL {
        for (kind, envoy) in &envoys {
            let paths = vec![exchange.path().to_owned()];
            let mut subject = Subject::new((exchange, *kind), envoy, paths, options);
            match exchange {
                Exchange::SmallJson => {}
                Exchange::Large => subject.load.requests = (options.requests / FEWER).max(1),
                Exchange::Post => subject.load.body = Some(BODY),
            }
            subjects.push(subject);
        }
    }
    rounds(&mut subjects, options, "watch").await?;
    let rows = Exchange::ALL.map(|exchange| evaluate(exchange, &subjects));
    Ok(Watch {
        rows: rows.to_vec(),
    })
}

fn evaluate(exchange: Exchange, subjects: &[Subject<(Exchange, Kind)>]) -> WatchRow {
    let spread = |kind| {
        let found = subjects
            .iter()
            .find(|subject| subject.key == (exchange, kind));
        found.map_or_else(Spread::default, |subject| Spread::of(&subject.all))
    };
    let (off, again, on) = (spread(Kind::Off), spread(Kind::OffAgain), spread(Kind::On));
    WatchRow {
        exchange,
        off_us: off,
        on_us: on,
        added_us: on.min - off.min.min(again.min),
        error_us: (off.min - again.min).abs(),
    }
}
