//! CPU a request, by the method that resolves a microsecond on a noisy machine.
//!
//! Every row's Envoy runs from the start, with one worker, pinned to one core; the load is on another. Answers come
//! from Envoy itself. Rounds go over all rows in turn, so that a slow minute meets every row, and of each row's rounds
//! the least user CPU counts: noise only ever adds. The no-op row is measured twice, by two Envoys: what differs
//! between them is the measurement's own error. The kernel's share is left out: it is the same for every row and
//! several times noisier.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use support::envoy::Envoy;

use crate::bed::{ready, Bed, Plugin, LISTENER};
use crate::cpu::Cpu;
use crate::load::Load;
use crate::row::Row;
use crate::stats::Spread;
use crate::{progress, Options};

/// Connections of the load.
const CONNECTIONS: u64 = 8;

/// The answers that are measured: the same body, once as text and once as JSON, at which a watching filter looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// `text/plain`.
    Plain,
    /// `application/json`.
    Json,
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
    /// What two Envoys with the same no-op filter differ by, in microseconds: the error of all rows.
    pub error_us: Option<f64>,
}

/// What one row costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RowRatios {
    /// Which row.
    pub row: Row,
    /// User CPU a request in microseconds.
    pub user_us: Spread,
    /// User and kernel CPU a request in microseconds.
    pub all_us: Spread,
    /// User CPU that the row adds to plain Envoy, in microseconds (of minima).
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
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Json];

    /// How tables call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Plain => "plain answers",
            Self::Json => "JSON answers",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Plain => "/cgi-bin/plain/user/get?next_openid=oFakeOpenId0001&lang=zh_CN",
            Self::Json => "/cgi-bin/json/user/get?next_openid=oFakeOpenId0001&lang=zh_CN",
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

/// Measures every row with both answers.
pub async fn measure(bed: &Bed, options: &Options) -> Result<Ratios> {
    let fake = bed.fake(1).await;
    let mut envoys: Vec<(Row, Envoy)> = Vec::new();
    for row in options.rows_of(&Row::ALL) {
        let config = bed.direct(row, fake.address(), Plugin::SHIPPED)?;
        let envoy = bed.start(config, 1, Some(options.envoy_core)).await?;
        ready(&envoy, row, "/cgi-bin/seen?a=1").await?;
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
    let mut rows: Vec<RowRatios> = ours
        .map(|subject| RowRatios {
            row: subject.key.1,
            user_us: Spread::of(&subject.user),
            all_us: Spread::of(&subject.all),
            added_us: None,
            to_lua: None,
        })
        .collect();
    let least = |rows: &[RowRatios], wanted| {
        let found = rows.iter().find(|ratios| ratios.row == wanted);
        found.map(|ratios| ratios.user_us.min)
    };
    let plain = least(&rows, Row::Plain);
    let lua = least(&rows, Row::Lua);
    let error_us = least(&rows, Row::Noop)
        .zip(least(&rows, Row::NoopAgain))
        .map(|(one, other)| (one - other).abs());
    for ratios in rows.iter_mut().filter(|ratios| ratios.row != Row::Plain) {
        ratios.added_us = plain.map(|plain| ratios.user_us.min - plain);
        ratios.to_lua = ratios
            .added_us
            .zip(lua.zip(plain).map(|(lua, plain)| lua - plain))
            .and_then(|(added, lua)| (lua > 0.0).then_some(added / lua));
    }
    AnswerRatios {
        answer,
        rows,
        error_us,
    }
}
