//! One round: trouble, recovery, calm, quiet.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::RngExt as _;
use tokio::task::JoinSet;

use crate::balance::Books;
use crate::bed::{Bed, APPS};
use crate::caller::{herd, load};
use crate::outcome::{Outcome, Tally};
use crate::trouble::{Deck, Trouble};

/// How long everything may take to be well again once the trouble is over: the longest pause after failed calls, a limit on
/// refreshes by rejection until the token is renewed by its age, and the end of what waited in a VM that trapped.
const RECOVERED_WITHIN: Duration = Duration::from_secs(45);
/// The part of the recovery in which all answers must be good.
const WINDOW: Duration = Duration::from_secs(1);
const CALM: Duration = Duration::from_secs(2);
/// By how many milliseconds a token may be used beyond its end: the tick (250 ms), and the machine's own delays.
const TICK_MS: u64 = 1_000;

/// The plan of a round.
#[derive(Debug)]
pub(crate) struct Round {
    number: u64,
    /// What goes wrong, and how long after the beginning.
    troubles: Vec<(Duration, Trouble)>,
    length: Duration,
    seed: u64,
}

/// What came of a round.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) tally: Tally,
    pub(crate) books: Books,
    pub(crate) faults: Vec<String>,
}

/// Reaches what memory stays at: many callers at once, and the largest bodies and answers.
pub(crate) async fn warm_up(bed: &Arc<Bed>, seed: u64) -> Result<Books, String> {
    for appid in APPS {
        let tally = herd(bed, appid, 300).await;
        let others = tally.others(|outcome| *outcome == Outcome::Good);
        if !others.is_empty() {
            return Err(format!("before any trouble: {}", others.join(", ")));
        }
    }
    load(bed, seed, tokio::time::sleep(Duration::from_secs(5))).await;
    Books::close(bed).await
}

impl Round {
    pub(crate) fn draw(
        number: u64,
        deck: &mut Deck,
        rng: &mut StdRng,
        refresher_dies: bool,
    ) -> Self {
        let length = Duration::from_millis(rng.random_range(2_000..6_000));
        let mut troubles: Vec<_> = (0..rng.random_range(1..4))
            .map(|_| (length.mul_f64(rng.random_range(0.0..0.7)), deck.draw(rng)))
            .collect();
        if refresher_dies {
            troubles.push((Duration::ZERO, Trouble::RefresherTraps));
        }
        Self {
            number,
            troubles,
            length,
            seed: rng.random(),
        }
    }

    /// Runs it; `before` are the books at its beginning.
    pub(crate) async fn run(&self, bed: &Arc<Bed>, before: Books) -> Result<Ended> {
        let mut faults = Vec::new();
        let mut tally = self.trouble(bed).await?;
        bed.fake.clear_faults();
        let recovered = self.recover(bed, &mut tally).await;
        let may = |outcome: &Outcome| {
            matches!(outcome, Outcome::Good | Outcome::HungUp)
                || self
                    .troubles
                    .iter()
                    .any(|(_, trouble)| trouble.may(outcome))
        };
        faults.extend(tally.others(may));
        if !recovered {
            faults.push(format!("not well again within {RECOVERED_WITHIN:?}"));
        }
        let calm = load(bed, self.seed ^ 1, tokio::time::sleep(CALM)).await;
        let unwell = calm.others(is_well);
        faults.extend(
            unwell
                .into_iter()
                .map(|what| format!("in a calm moment: {what}")),
        );
        tally.merge(calm);
        let books = match Books::close(bed).await {
            Ok(books) => {
                let whole = self
                    .troubles
                    .iter()
                    .all(|(_, trouble)| trouble.keeps_counts());
                faults.extend(books.faults_since(&before, &tally, whole));
                books
            }
            Err(fault) => {
                faults.push(fault);
                before
            }
        };
        faults.extend(self.never(bed));
        Ok(Ended {
            tally,
            books,
            faults,
        })
    }

    async fn trouble(&self, bed: &Arc<Bed>) -> Result<Tally> {
        let mut happening = JoinSet::new();
        for (at, trouble) in self.troubles.clone() {
            let bed = Arc::clone(bed);
            happening.spawn(async move {
                tokio::time::sleep(at).await;
                trouble.happen(&bed).await
            });
        }
        let mut own = Tally::default();
        let mut failed = None;
        let over = async {
            tokio::time::sleep(self.length).await;
            while let Some(ended) = happening.join_next().await {
                match ended.map_err(anyhow::Error::from).flatten() {
                    Ok(tally) => own.merge(tally),
                    Err(error) => failed = Some(error),
                }
            }
        };
        let mut tally = load(bed, self.seed, over).await;
        tally.merge(own);
        failed.map_or(Ok(tally), Err)
    }

    /// Load in windows until one has good answers only; whether that came in time.
    async fn recover(&self, bed: &Arc<Bed>, tally: &mut Tally) -> bool {
        let deadline = Instant::now() + RECOVERED_WITHIN;
        for window in 2.. {
            let one = load(bed, self.seed ^ window, tokio::time::sleep(WINDOW)).await;
            let well = one.others(is_well).is_empty();
            tally.merge(one);
            if well {
                return true;
            }
            if Instant::now() > deadline {
                break;
            }
        }
        false
    }

    /// What WeChat saw that must never be. A process that is stopped sends what it had already decided on as late as it was stopped.
    fn never(&self, bed: &Bed) -> Vec<String> {
        let paused = self
            .troubles
            .iter()
            .map(|(_, trouble)| trouble.pause().as_millis() as u64);
        let tolerated = TICK_MS + paused.sum::<u64>();
        let violations = bed.fake.report().violations_beyond(tolerated);
        violations
            .iter()
            .map(|violation| format!("WeChat saw {violation:?}"))
            .collect()
    }
}

fn is_well(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Good | Outcome::HungUp)
}

impl fmt::Display for Round {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.number)?;
        for (at, trouble) in &self.troubles {
            write!(formatter, " [{:.1} s {trouble}]", at.as_secs_f64())?;
        }
        Ok(())
    }
}
