//! A day of a mesh, event by event: Envoys that come and go, each with clocks of its own, networks that part, a Redis that
//! jumps, freezes and fails over, a WeChat whose classic endpoint ends the token before at each call.
//!
//! Its tests are in [`super::scale`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use wechat_token::config::WhenDown;
use wechat_token::keeper::{Command, Event, Keeper};
use wechat_token::record::AppRecord;
use wechat_token::store::{Outcome as Ended, Problem, Step};
use wechat_token::time::{Millis, UnixMillis};
use wechat_token::token::{self, Attempt, Generation, Moment, Sample};

use super::book::{name, Book, Name, OVERLAP};
use super::plan::{Outcome, Plan, Trouble};
use super::queue::{Entry, What};
use super::redis::Redis;
use super::rig::{policy, store_policy, S};
use super::rng::Rng;

/// Ticks of a root.
const TICK: u64 = 250;
const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: u64 = 60_000;
const START: Millis = Millis(1_000_000);
/// How often each kind of trouble comes in a day, besides those that come with a renewal.
const TROUBLES: usize = 6;
/// How long a step's callout waits.
const TIMEOUT: u64 = 1_000;

struct Unit {
    keeper: Keeper,
    life: u32,
    /// Its monotonic clock is ahead of the day's by this, its wall clock by that.
    origin: Duration,
    skew: i64,
    generation: Generation,
    /// Its token, and until when it uses it.
    token: Option<(Name, Millis)>,
    /// Its next tick that matters.
    tick: Millis,
    /// It has no token since then, unless it has one.
    bare: Millis,
}

struct Day {
    plan: Plan,
    now: Millis,
    luck: Rng,
    redis: Redis,
    envoys: Vec<Unit>,
    queue: BinaryHeap<Reverse<Entry>>,
    put: u64,
    book: Book,
    /// No renewal meets a trouble before this: one at a time is what must be borne.
    calm_until: Millis,
    outcome: Outcome,
}

/// Lives the day.
pub(crate) fn live(plan: Plan) -> Outcome {
    let mut day = Day {
        now: START,
        luck: Rng::new(plan.seed),
        redis: Redis::new(START, plan.capacity),
        envoys: Vec::new(),
        queue: BinaryHeap::new(),
        put: 0,
        book: Book::default(),
        calm_until: START,
        outcome: Outcome::default(),
        plan,
    };
    day.begin();
    let end = START.after(HOUR * day.plan.hours);
    while let Some(Reverse(entry)) = day.queue.pop() {
        if entry.at > end {
            break;
        }
        day.now = entry.at;
        day.meet(entry.envoy as usize, entry.life, entry.what);
    }
    day.end()
}

impl Day {
    fn begin(&mut self) {
        let skew = self.plan.skew_minutes * MINUTE;
        for envoy in 0..self.plan.envoys {
            let origin = Duration::from_millis(self.luck.between(0, skew * 1_000));
            let wall = self.luck.between(0, 2 * skew).cast_signed() - skew.cast_signed();
            let keeper = self.keeper(origin, wall);
            self.envoys.push(Unit {
                keeper,
                life: 0,
                origin,
                skew: wall,
                generation: Generation::default(),
                token: None,
                tick: Millis(0),
                bare: START,
            });
            self.start(envoy, 4_999);
        }
        let day = u64::from(self.plan.hours) * 3_600_000;
        for _ in 0..self.plan.crashes * u64::from(self.plan.hours) {
            let (at, envoy) = (
                self.luck.between(0, day - 1),
                self.luck.index(self.plan.envoys),
            );
            self.put_in(at, envoy, What::Crash);
        }
        for trouble in self.plan.troubles {
            for _ in 0..TROUBLES {
                let at = self.luck.between(0, day - 1);
                self.put_in(at, 0, What::Trouble(*trouble));
            }
        }
    }

    fn end(mut self) -> Outcome {
        for envoy in 0..self.envoys.len() {
            self.account(envoy);
        }
        let an_hour = self.plan.envoys as f64 * f64::from(self.plan.hours);
        Outcome {
            made: self.book.made(),
            untold: self.book.untold(),
            calls: self.book.calls,
            undone: self.redis.undone,
            fences: self.redis.fences,
            unfenced: self.redis.unfenced,
            steps: self.redis.steps() as f64 / an_hour,
            peak: self.redis.peak(),
            busy: self.redis.busy(self.plan.envoys),
            stale: self.book.stale,
            late: self.book.late,
            ..self.outcome
        }
    }

    fn keeper(&mut self, origin: Duration, skew: i64) -> Keeper {
        let moment = self.moment(origin, skew);
        let store = Some(store_policy(WhenDown::Stable));
        Keeper::adopt(policy(60 * S), store, &AppRecord::default(), &moment)
    }

    fn moment(&mut self, origin: Duration, skew: i64) -> Moment {
        let wall = 1_700_000_000_000 + self.now.0;
        Moment {
            now: self.now.after(origin),
            wall: UnixMillis(wall.saturating_add_signed(skew)),
            sample: Sample(self.luck.next()),
        }
    }

    fn put_in(&mut self, ms: u64, envoy: usize, what: What) {
        let at = self.now.after(Duration::from_millis(ms));
        self.put(at, envoy, what);
    }

    fn put(&mut self, at: Millis, envoy: usize, what: What) {
        self.put += 1;
        self.queue.push(Reverse(Entry {
            at,
            number: self.put,
            envoy: u32::try_from(envoy).expect("so many Envoys"),
            life: self.envoys[envoy].life,
            what,
        }));
    }

    fn is_apart(&self, envoy: usize) -> bool {
        let into_hour = self.now.0 % 3_600_000;
        self.plan.parts && envoy.is_multiple_of(3) && into_hour < 600_000
    }

    fn is_out(&self) -> bool {
        self.plan.outage.is_some_and(|(begin, span)| {
            let from = START.after(begin);
            (from..from.after(span)).contains(&self.now)
        })
    }

    fn meet(&mut self, envoy: usize, life: u32, what: What) {
        let is_of_this_life = life == self.envoys[envoy].life;
        match what {
            What::Trouble(trouble) => self.befall(trouble),
            What::Crash => self.crash(envoy),
            What::Use => self.use_token(envoy),
            // WeChat answers whoever asked, dead or alive.
            What::Granted(attempt) if self.is_out() => {
                let failure = self.book.refuse(attempt.detour);
                if is_of_this_life {
                    let event = token::Event::Failed(&failure);
                    self.drive(envoy, Event::Token(event));
                }
            }
            What::Granted(attempt) => {
                let token = self.grant(attempt);
                if is_of_this_life {
                    self.drive(envoy, Event::Token(token));
                }
            }
            What::Step(step, gets_back) => {
                let answer = self.redis.run(&step, self.now);
                if let (Step::Publish { token, .. }, Ended::Published) = (&*step, answer.outcome) {
                    self.book.tell(name(token));
                }
                if is_of_this_life && gets_back {
                    self.drive(envoy, Event::Answered(Ok(answer)));
                }
            }
            What::Silence if is_of_this_life => {
                let silence = Problem::Unreachable("no answer in time");
                self.drive(envoy, Event::Answered(Err(silence)));
            }
            What::Tick if is_of_this_life && self.envoys[envoy].tick == self.now => {
                let unit = &self.envoys[envoy];
                if unit.keeper.next_wakeup() <= self.now.after(unit.origin) {
                    self.drive(envoy, Event::Timer);
                }
                self.wake(envoy);
            }
            What::Silence | What::Tick => {}
        }
    }

    /// Sees to it that an Envoy wakes when it has something to do: at the first of its ticks then.
    fn wake(&mut self, envoy: usize) {
        let unit = &mut self.envoys[envoy];
        let due = unit.keeper.next_wakeup().before(unit.origin);
        let phase = envoy as u64 * 7 % TICK;
        let next = due.0.max(self.now.0 + 1) + TICK - 1 - phase;
        let at = Millis(next - next % TICK + phase);
        if unit.tick <= self.now || at < unit.tick {
            unit.tick = at;
            self.put(at, envoy, What::Tick);
        }
    }

    fn befall(&mut self, trouble: Trouble) {
        let skew = self.plan.skew_minutes * MINUTE;
        let to = self.luck.between(0, 2 * skew).cast_signed() - skew.cast_signed();
        match trouble {
            Trouble::Jump => self.redis.jump(to, self.now),
            Trouble::Freeze => self.redis.freeze(3 * S, self.now),
            Trouble::FailOver => self.redis.fail_over(to, self.now),
        }
    }

    fn crash(&mut self, envoy: usize) {
        self.account(envoy);
        let (origin, skew) = (self.envoys[envoy].origin, self.envoys[envoy].skew);
        let keeper = self.keeper(origin, skew);
        let unit = &mut self.envoys[envoy];
        self.outcome.lost += usize::from(unit.keeper.machine().is_refreshing());
        unit.keeper = keeper;
        unit.life += 1;
        unit.generation = Generation::default();
        unit.token = None;
        unit.bare = self.now;
        self.start(envoy, 500);
    }

    /// An Envoy starts within so many milliseconds.
    fn start(&mut self, envoy: usize, within: u64) {
        let at = self
            .now
            .after(Duration::from_millis(self.luck.between(1, within)));
        self.envoys[envoy].tick = at;
        self.put(at, envoy, What::Tick);
    }

    fn drive(&mut self, envoy: usize, event: Event<'_>) {
        let unit = &self.envoys[envoy];
        let moment = self.moment(unit.origin, unit.skew);
        let commands = self.envoys[envoy].keeper.handle(event, &moment);
        self.note(envoy);
        self.wake(envoy);
        for command in commands {
            match command {
                Command::Ask(step) => self.ask(envoy, step),
                Command::Fetch(attempt) => {
                    let delay = self.luck.between(50, 449);
                    self.put_in(delay, envoy, What::Granted(attempt));
                    // The worst moment for Redis to be in trouble: somebody has the lock, and soon a token.
                    let troubles = self.plan.troubles;
                    if !troubles.is_empty() && self.now >= self.calm_until {
                        self.calm_until = self.now.after(HOUR / 2);
                        let trouble = troubles[self.luck.index(troubles.len())];
                        let at = self.luck.between(0, 999);
                        self.put_in(at, envoy, What::Trouble(trouble));
                    }
                }
                Command::Publish | Command::Save | Command::Report(_) => {}
            }
        }
    }

    fn ask(&mut self, envoy: usize, step: Step) {
        if self.is_apart(envoy) {
            return self.put_in(TIMEOUT, envoy, What::Silence);
        }
        let on_its_way = Duration::from_millis(self.luck.between(1, 9));
        let done = self.redis.arrives(self.now).after(on_its_way);
        let is_lost = self.luck.between(0, 999) < self.plan.answers_lost;
        let gets_back = !is_lost && done <= self.now.after(Duration::from_millis(TIMEOUT));
        self.put(done, envoy, What::Step(Box::new(step), gets_back));
        if !gets_back {
            self.put_in(TIMEOUT, envoy, What::Silence);
        }
    }

    fn grant(&mut self, attempt: Attempt) -> token::Event<'static> {
        let made = self.book.made();
        let event = self.book.grant(attempt.detour, self.now);
        if self.book.made() > made {
            // Whoever still has the old one when it works no more meets WeChat's refusal.
            for envoy in 0..self.envoys.len() {
                let late = self.luck.between(1, 999);
                self.put(
                    self.now.after(OVERLAP).after(Duration::from_millis(late)),
                    envoy,
                    What::Use,
                );
            }
        }
        event
    }

    /// Takes note of a token that an Envoy has from now on.
    fn note(&mut self, envoy: usize) {
        let machine = self.envoys[envoy].keeper.machine();
        let generation = machine.generation();
        let end = machine.end();
        if generation != self.envoys[envoy].generation {
            self.account(envoy);
        }
        let unit = &mut self.envoys[envoy];
        let local = self.now.after(unit.origin);
        if generation != unit.generation {
            unit.generation = generation;
            let token = unit.keeper.machine().serve(local);
            unit.token =
                token.map(|token| (name(&token.value), token.deadline.before(unit.origin)));
        } else if let (Some((_, until)), Some(end)) = (&mut unit.token, end) {
            *until = end.before(unit.origin);
        }
    }

    /// An Envoy has used its token until now, or until it took it for ended.
    fn account(&mut self, envoy: usize) {
        let unit = &mut self.envoys[envoy];
        if let Some((token, until)) = unit.token {
            self.book.used(token, until.min(self.now));
            unit.bare = until;
        }
        self.outcome.without = self.outcome.without.max(self.now.since(unit.bare));
    }

    fn use_token(&mut self, envoy: usize) {
        let unit = &self.envoys[envoy];
        let Some((token, until)) = unit.token else {
            return;
        };
        if self.now > until || self.book.takes(token, self.now) {
            return;
        }
        self.outcome.rejected += 1;
        let rejected = token::Event::Rejected(unit.generation);
        self.drive(envoy, Event::Token(rejected));
        // As the driver does it: what is due because of it begins at once.
        self.drive(envoy, Event::Timer);
        self.put_in(1_000, envoy, What::Use);
    }
}
