//! CPU a request, by the method that resolves a microsecond on a noisy machine.
//!
//! Every row's Envoy runs from the start, with one worker, pinned to one core; the load is on another. Answers come
//! from Envoy itself. Rounds go over all rows in turn, so that a slow minute meets every row, and of each row's rounds
//! the least CPU counts: noise only ever adds. The no-op row is measured twice, by two Envoys: what differs between
//! them is the measurement's own error.
//!
//! Two clocks are read. User CPU leaves the kernel's work out, but where the kernel tells user from system time by
//! samples (most kernels do), it wanders by half a microsecond and books part of a filter's work as the kernel's. The
//! sum of both is exact, and since every row makes the same system calls, what a row adds to the sum is the filter's.
//! Both are shown, both must reach the target, and the headline is the exact one.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use support::envoy::Envoy;

use crate::bed::{marks_rejected, ready, Bed, Plugin, LISTENER};
use crate::cpu::Cpu;
use crate::load::Load;
use crate::row::Row;
use crate::stats::Spread;
use crate::{progress, Options};

/// Connections of the load.
const CONNECTIONS: u64 = 8;

/// The answers that are measured: the same body under three names. WeChat sends errors as JSON and as text, so the
/// plugin looks at both; the Lua filter looks at JSON only; at a picture neither looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// `text/plain`.
    Plain,
    /// `application/json`.
    Json,
    /// `image/png`.
    Image,
}

/// The section's results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ratios {
    /// By answer.
    pub answers: Vec<AnswerRatios>,
}

/// One answer's rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnswerRatios {
    /// Which answer.
    pub answer: Answer,
    /// By row.
    pub rows: Vec<RowRatios>,
    /// What two Envoys with the same no-op filter differ by in user CPU, in microseconds: the error of all rows.
    pub user_error_us: Option<f64>,
    /// The same in all CPU.
    pub all_error_us: Option<f64>,
}

/// What one row costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RowRatios {
    /// Which row.
    pub row: Row,
    /// User CPU.
    pub user: Cost,
    /// User and kernel CPU.
    pub all: Cost,
}

/// One clock's view of a row, in microseconds a request.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Of the rounds.
    pub us: Spread,
    /// What the row adds to plain Envoy (least less least).
    pub added_us: Option<f64>,
    /// `added_us` over the Lua filter's.
    pub to_lua: Option<f64>,
}

impl Ratios {
    /// One row of one answer.
    pub fn row(&self, answer: Answer, row: Row) -> Option<&RowRatios> {
        let rows = &self.answers.iter().find(|rows| rows.answer == answer)?.rows;
        rows.iter().find(|ratios| ratios.row == row)
    }
}

impl Answer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Json, Self::Image];
    /// Those that have a target and stand in the headline.
    pub const JUDGED: [Self; 2] = [Self::Plain, Self::Json];

    /// How tables call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Plain => "plain answers",
            Self::Json => "JSON answers",
            Self::Image => "pictures",
        }
    }

    /// What is asked for to get it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Plain => "/cgi-bin/plain/user/get?next_openid=oFakeOpenId0001&lang=zh_CN",
            Self::Json => "/cgi-bin/json/user/get?next_openid=oFakeOpenId0001&lang=zh_CN",
            Self::Image => "/cgi-bin/image/user/get?next_openid=oFakeOpenId0001&lang=zh_CN",
        }
    }
}

/// One measured thing: an Envoy and the paths that are asked of it.
pub struct Subject<K> {
    /// What it is.
    pub key: K,
    /// Its process.
    pub pid: u32,
    /// What is asked.
    pub load: Load,
    /// User CPU of each round, in microseconds a request.
    pub user: Vec<f64>,
    /// User and kernel CPU of each round.
    pub all: Vec<f64>,
}

/// Measures every row with every answer.
pub async fn measure(bed: &Bed, options: &Options) -> Result<Ratios> {
    let fake = bed.fake(1).await;
    let mut envoys: Vec<(Row, Envoy)> = Vec::new();
    for row in options.rows_of(&Row::ALL) {
        let config = bed.direct(row, fake.address(), Plugin::SHIPPED)?;
        let envoy = bed.start(config, 1, Some(options.envoy_core)).await?;
        ready(&envoy, row, "/cgi-bin/seen?a=1").await?;
        if row == Row::Lua {
            marks_rejected(&envoy).await?;
        }
        envoys.push((row, envoy));
    }
    let mut subjects = Vec::new();
    for answer in Answer::ALL {
        for (row, envoy) in &envoys {
            let paths = vec![answer.path().to_owned()];
            subjects.push(Subject::new((answer, *row), envoy, paths, options));
        }
    }
    rounds(&mut subjects, options, "ratios").await?;
    let answers = Answer::ALL.map(|answer| evaluate(answer, &subjects));
    Ok(Ratios {
        answers: answers.to_vec(),
    })
}

/// Warms every subject up and measures all of them in turn, round by round.
pub async fn rounds<K>(
    subjects: &mut [Subject<K>],
    options: &Options,
    section: &str,
) -> Result<()> {
    for subject in subjects.iter() {
        let mut load = subject.load.clone();
        load.requests = (load.requests / 3).max(1);
        load.run().await.context("warming up")?;
    }
    for round in 0..options.rounds {
        progress(&format!(
            "{section}: round {} of {}",
            round + 1,
            options.rounds
        ));
        // Each round begins with another row, so that none is always measured in the shadow of the same one.
        let first = round % subjects.len().max(1);
        let (head, tail) = subjects.split_at_mut(first);
        for subject in tail.iter_mut().chain(head) {
            subject.round().await?;
        }
    }
    Ok(())
}

impl<K> Subject<K> {
    /// An Envoy with its listener, paths and nothing measured yet.
    pub fn new(key: K, envoy: &Envoy, paths: Vec<String>, options: &Options) -> Self {
        Self {
            key,
            pid: envoy.pid(),
            load: Load {
                to: envoy.address(LISTENER),
                paths,
                body: None,
                requests: options.requests,
                connections: CONNECTIONS,
                core: Some(options.load_core),
            },
            user: Vec::new(),
            all: Vec::new(),
        }
    }

    async fn round(&mut self) -> Result<()> {
        let before = Cpu::of(self.pid)?;
        self.load.run().await?;
        let (user, all) = Cpu::of(self.pid)?.per_request(before, self.load.requests);
        self.user.push(user);
        self.all.push(all);
        Ok(())
    }
}

fn evaluate(answer: Answer, subjects: &[Subject<(Answer, Row)>]) -> AnswerRatios {
    let ours = subjects.iter().filter(|subject| subject.key.0 == answer);
    let rows: Vec<(Row, Spread, Spread)> = ours
        .map(|subject| {
            let (user, all) = (Spread::of(&subject.user), Spread::of(&subject.all));
            (subject.key.1, user, all)
        })
        .collect();
    let user = Clock(rows.iter().map(|row| (row.0, row.1)).collect());
    let all = Clock(rows.iter().map(|row| (row.0, row.2)).collect());
    AnswerRatios {
        answer,
        user_error_us: user.error(),
        all_error_us: all.error(),
        rows: rows
            .iter()
            .map(|(row, in_user, in_all)| RowRatios {
                row: *row,
                user: user.cost(*row, *in_user),
                all: all.cost(*row, *in_all),
            })
            .collect(),
    }
}

/// One clock's samples of every row.
struct Clock(Vec<(Row, Spread)>);

impl Clock {
    fn least(&self, row: Row) -> Option<f64> {
        let found = self.0.iter().find(|(other, _)| *other == row);
        found.map(|(_, spread)| spread.min)
    }

    fn added(&self, row: Row) -> Option<f64> {
        Some(self.least(row)? - self.least(Row::Plain)?)
    }

    fn error(&self) -> Option<f64> {
        Some((self.least(Row::Noop)? - self.least(Row::NoopAgain)?).abs())
    }

    fn cost(&self, row: Row, us: Spread) -> Cost {
        let added_us = self.added(row).filter(|_| row != Row::Plain);
        let lua = self.added(Row::Lua).filter(|lua| *lua > 0.0);
        Cost {
            us,
            added_us,
            to_lua: added_us.zip(lua).map(|(added, lua)| added / lua),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_compared_by_what_it_adds_to_plain_envoy() {
        let spread = |min| Spread {
            min,
            median: 99.0,
            max: 99.0,
        };
        let rows = [(Row::Plain, 10.0), (Row::Lua, 14.0), (Row::Plugin, 13.0)];
        let clock = Clock(rows.map(|(row, min)| (row, spread(min))).to_vec());
        let cost = clock.cost(Row::Plugin, spread(13.0));
        assert_eq!((cost.added_us, cost.to_lua), (Some(3.0), Some(0.75)));
        assert_eq!(clock.cost(Row::Plain, spread(10.0)).added_us, None);
        assert_eq!(clock.error(), None);
    }
}
