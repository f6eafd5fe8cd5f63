//! A day of a mesh, event by event: Envoys that come and go, networks that part, a WeChat whose classic endpoint ends the token
//! before at each call. What must hold is checked at every use of a token.

use std::collections::BTreeMap;
use std::time::Duration;

use wechat_token::config::WhenDown;
use wechat_token::keeper::{Command, Event, Keeper};
use wechat_token::record::AppRecord;
use wechat_token::secret::Secret;
use wechat_token::store::{Problem, Step};
use wechat_token::time::{Millis, UnixMillis};
use wechat_token::token::{self, Attempt, Moment, Sample};

use super::model::Model;
use super::rig::{policy, store_policy, LIFE, S};
use super::rng::Rng;

/// How long a replaced token works on.
const OVERLAP: Duration = Duration::from_secs(300);
/// Ticks of a root.
const TICK: u64 = 250;
const HOUR: Duration = Duration::from_secs(3_600);

/// What may happen to it.
pub(crate) struct Plan {
    pub(crate) envoys: usize,
    pub(crate) hours: u32,
    pub(crate) seed: u64,
    /// Envoys that crash and start anew, in an hour.
    pub(crate) crashes: u64,
    /// Whether a third of the Envoys loses Redis for ten minutes in every hour.
    pub(crate) parts: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Tokens that the classic endpoint made.
    pub(crate) made: usize,
    /// Calls that crashed with their Envoy.
    pub(crate) lost: usize,
    /// Steps at the store.
    pub(crate) steps: u64,
    /// Uses of a token that WeChat takes no more.
    pub(crate) rejected: u64,
    /// The longest use of a token after it was replaced.
    pub(crate) stale: Duration,
}

enum What {
    Tick,
    Answer(Step),
    Granted(Attempt),
    Crash,
    Use,
}

struct Day {
    plan: Plan,
    now: Millis,
    luck: Rng,
    store: Model,
    envoys: Vec<(Keeper, u64)>,
    /// What comes, by its time and a number: to which Envoy, and to which of its lives.
    queue: BTreeMap<(Millis, u64), (usize, u64, What)>,
    put: u64,
    /// Tokens of the classic endpoint: when the next one replaced each.
    tokens: Vec<(Millis, Option<Millis>)>,
    outcome: Outcome,
}

/// Lives the day.
pub(crate) fn live(plan: Plan) -> Outcome {
    let mut day = Day {
        now: Millis(1_000_000),
        luck: Rng::new(plan.seed),
        store: Model::ahead_by(1_700_000_000_000),
        envoys: Vec::new(),
        queue: BTreeMap::new(),
        put: 0,
        tokens: Vec::new(),
        outcome: Outcome::default(),
        plan,
    };
    for envoy in 0..day.plan.envoys {
        let keeper = day.keeper();
        day.envoys.push((keeper, 0));
        let at = day
            .now
            .after(Duration::from_millis(day.luck.between(0, 4_999)));
        day.put(at, envoy, What::Tick);
        day.put(at.after(10 * S), envoy, What::Use);
    }
    let end = day.now.after(HOUR * day.plan.hours);
    let crashes = day.plan.crashes * u64::from(day.plan.hours);
    for _ in 0..crashes {
        let at = Millis(day.luck.between(day.now.0, end.0 - 1));
        let envoy = day.luck.index(day.plan.envoys);
        day.put(at, envoy, What::Crash);
    }
    while let Some(((at, _), (envoy, life, what))) = day.queue.pop_first() {
        if at > end {
            break;
        }
        day.now = at;
        day.meet(envoy, life, what);
    }
    day.outcome.made = day.tokens.len();
    day.outcome
}

impl Day {
    fn keeper(&mut self) -> Keeper {
        let moment = self.moment();
        let store = Some(store_policy(WhenDown::Stable));
        Keeper::adopt(policy(60 * S), store, &AppRecord::default(), &moment)
    }

    fn moment(&mut self) -> Moment {
        Moment {
            now: self.now,
            wall: UnixMillis(1_700_000_000_000 + self.now.0),
            sample: Sample(self.luck.next()),
        }
    }

    fn put(&mut self, at: Millis, envoy: usize, what: What) {
        let life = self.envoys[envoy].1;
        self.put += 1;
        self.queue.insert((at, self.put), (envoy, life, what));
    }

    fn is_apart(&self, envoy: usize) -> bool {
        let into_hour = self.now.0 % 3_600_000;
        self.plan.parts && envoy.is_multiple_of(3) && into_hour < 600_000
    }

    fn meet(&mut self, envoy: usize, life: u64, what: What) {
        let is_of_this_life = life == self.envoys[envoy].1;
        match what {
            What::Crash => {
                let keeper = self.keeper();
                let (old, life) = &mut self.envoys[envoy];
                self.outcome.lost += usize::from(old.machine().is_refreshing());
                *old = keeper;
                *life += 1;
                let at = self.now.after(Duration::from_millis(500));
                self.put(at, envoy, What::Tick);
            }
            What::Use => {
                self.use_token(envoy);
                let pause = Duration::from_millis(self.luck.between(20_000, 39_999));
                self.put(self.now.after(pause), envoy, What::Use);
            }
            What::Granted(attempt) => {
                // WeChat answers whoever asked, dead or alive.
                let token = self.grant(attempt);
                if is_of_this_life {
                    self.drive(envoy, Event::Token(token));
                }
            }
            What::Answer(step) => {
                let answer = match self.is_apart(envoy) {
                    true => Err(Problem::Unreachable("no answer in time")),
                    false => Ok(self.store.run(&step, self.now)),
                };
                if is_of_this_life {
                    self.drive(envoy, Event::Answered(answer));
                }
            }
            What::Tick if is_of_this_life => {
                if self.envoys[envoy].0.next_wakeup() <= self.now {
                    self.drive(envoy, Event::Timer);
                }
                let due = self.envoys[envoy].0.next_wakeup();
                let at = Millis(due.0.max(self.now.0 + TICK));
                self.put(at, envoy, What::Tick);
            }
            What::Tick => {}
        }
    }

    fn drive(&mut self, envoy: usize, event: Event<'_>) {
        let moment = self.moment();
        let commands = self.envoys[envoy].0.handle(event, &moment);
        for command in commands {
            match command {
                Command::Ask(step) => {
                    self.outcome.steps += 1;
                    let delay = match self.is_apart(envoy) {
                        true => 1_000,
                        false => self.luck.between(1, 9),
                    };
                    let at = self.now.after(Duration::from_millis(delay));
                    self.put(at, envoy, What::Answer(step));
                }
                Command::Fetch(attempt) => {
                    let delay = Duration::from_millis(self.luck.between(50, 449));
                    self.put(self.now.after(delay), envoy, What::Granted(attempt));
                }
                Command::Publish | Command::Save | Command::Report(_) => {}
            }
        }
    }

    /// The stable endpoint's token is the same for as long as this test lasts; the classic one's are told apart by their number.
    fn grant(&mut self, attempt: Attempt) -> token::Event<'static> {
        let value = match attempt.detour {
            true => "stable".to_owned(),
            false => {
                if let Some((_, replaced)) = self.tokens.last_mut() {
                    *replaced = Some(self.now);
                }
                self.tokens.push((self.now, None));
                format!("{}", self.tokens.len() - 1)
            }
        };
        token::Event::Granted {
            token: Secret::new(value),
            expires_in: LIFE,
        }
    }

    fn use_token(&mut self, envoy: usize) {
        let keeper = &self.envoys[envoy].0;
        let Some(token) = keeper.machine().serve(self.now) else {
            return;
        };
        let Ok(number) = token.value.expose().parse::<usize>() else {
            return;
        };
        let (made, replaced) = self.tokens[number];
        assert!(self.now <= made.after(LIFE), "expired, and served");
        let Some(replaced) = replaced else {
            return;
        };
        let stale = self.now.since(replaced);
        self.outcome.stale = self.outcome.stale.max(stale);
        if stale > OVERLAP {
            self.outcome.rejected += 1;
            let generation = keeper.machine().generation();
            let event = token::Event::Rejected(generation);
            self.drive(envoy, Event::Token(event));
        }
    }
}

#[test]
fn in_a_quiet_day_each_lifetime_has_one_call_and_no_replaced_token_is_used_for_long() {
    let outcome = live(Plan {
        envoys: 200,
        hours: 24,
        seed: 1,
        crashes: 0,
        parts: false,
    });
    // A token is renewed 4 to 5 minutes before its end.
    assert_eq!(outcome.made, 13, "{outcome:?}");
    assert_eq!(outcome.rejected, 0, "{outcome:?}");
    assert!(outcome.stale < OVERLAP / 2, "{outcome:?}");
    let an_hour = outcome.steps as f64 / 24.0 / 200.0;
    assert!((60.0..140.0).contains(&an_hour), "{an_hour} steps an hour");
}

#[test]
fn envoys_that_crash_cost_no_more_calls_than_were_lost_with_them() {
    for seed in 1..6 {
        let outcome = live(Plan {
            envoys: 50,
            hours: 24,
            seed: seed * 1_000_000_007,
            crashes: 200,
            parts: false,
        });
        assert!(outcome.made <= 13 + outcome.lost, "{seed}: {outcome:?}");
        assert_eq!(outcome.rejected, 0, "{seed}: {outcome:?}");
        assert!(outcome.stale < OVERLAP / 2, "{seed}: {outcome:?}");
    }
}

#[test]
fn where_a_third_loses_redis_every_hour_no_token_is_used_that_wechat_takes_no_more() {
    for seed in 1..6 {
        let outcome = live(Plan {
            envoys: 60,
            hours: 24,
            seed: seed * 1_000_000_009,
            crashes: 5,
            parts: true,
        });
        assert!(outcome.made <= 13 + outcome.lost, "{seed}: {outcome:?}");
        assert!(outcome.rejected <= 1, "{seed}: {outcome:?}");
    }
}
