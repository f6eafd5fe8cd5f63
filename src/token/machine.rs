//! The life cycle of one app's token as a state machine; the table is in the module above.
//!
//! Spurious input is a safe no-op: a reply that nobody waits for, a rejection of an old token, a timer that is early.

use std::time::Duration;

use super::{
    Attempt, Budget, Command, Event, Generation, Moment, Policy, RejectionLimit, Report, Token,
    Trouble,
};
use crate::record::AppRecord;
use crate::secret::Secret;
use crate::time::{Millis, UnixMillis};
use crate::wechat::errcode::OnToken;
use crate::wechat::Failure;

/// Failures in a row after which the breaker opens.
const FAILURES_TO_OPEN: u32 = 8;
/// A callback that is lost would leave the app without a token for ever; after the call's own timeout and this, the
/// call counts as failed.
const LOST_REPLY_GRACE: Duration = Duration::from_secs(2);
/// Pause before a call that could not be sent is tried again: the cluster is not there yet.
const NOT_SENT_PAUSE: Duration = Duration::from_millis(250);
/// After so many calls in a row that could not be sent (4 s) it is the next upstream's turn.
const NOT_SENT_BEFORE_NEXT: u32 = 16;
/// Between two successful refreshes lies at least this, or a quarter of the token's life if that is shorter.
const LEAST_INTERVAL: Duration = Duration::from_secs(10);

/// Where in its life cycle a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never had a token.
    Empty,
    /// Has one; the next refresh is due at `refresh_at`.
    Fresh {
        /// When the next call is due.
        refresh_at: Millis,
    },
    /// A call is on its way.
    Refreshing {
        /// When it was dispatched.
        since: Millis,
    },
    /// The last call failed; the next one is due at `until`.
    BackingOff {
        /// When the next call is due.
        until: Millis,
    },
    /// The breaker is open; a single trial is due at `until`.
    Open {
        /// When the trial is due.
        until: Millis,
    },
}

/// One app's token and its life cycle.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    state: State,
    /// No call before this: another holder's call may still be on its way.
    not_before: Millis,
    token: Option<Token>,
    generation: Generation,
    /// Rejections of generations up to this one are dealt with until the limit admits the next; whoever waits for a newer
    /// one waits in vain.
    settled: Generation,
    trouble: Option<Trouble>,
    attempt: Attempt,
    /// Secrets and upstreams that failed since the last success or pause.
    tried: Attempt,
    failures: u32,
    /// Calls in a row that could not be sent.
    unsent: u32,
    budget: Budget,
    limit: RejectionLimit,
}

impl Machine {
    /// A machine that continues what `record` tells (an empty record: from the beginning).
    pub fn adopt(policy: Policy, record: &AppRecord, moment: &Moment) -> Machine {
        let mut limit = RejectionLimit::new(policy.rejected_interval);
        if record.rejected_not_before > moment.now {
            limit.not_before = record.rejected_not_before;
            limit.interval = record.rejected_interval.max(limit.interval);
        }
        let mut machine = Machine {
            budget: Budget::new(policy.daily_budget, record.spent),
            state: State::Empty,
            not_before: record.in_flight_until,
            token: record.token.clone(),
            generation: record.generation,
            settled: record.settled,
            trouble: record.trouble,
            attempt: Attempt::default(),
            tried: Attempt::default(),
            failures: 0,
            unsent: 0,
            limit,
            policy,
        };
        machine.state = match (&machine.token, &machine.trouble) {
            (_, Some(trouble)) if trouble.open => State::Open {
                until: trouble.retry_at,
            },
            (_, Some(trouble)) => State::BackingOff {
                until: trouble.retry_at,
            },
            (Some(token), None) => {
                let left = token.deadline.since(moment.now);
                State::Fresh {
                    refresh_at: machine.refresh_time(token.deadline, left, moment),
                }
            }
            (None, None) => State::Empty,
        };
        machine
    }

    /// Takes an event and says what is to be done.
    pub fn handle(&mut self, event: Event<'_>, moment: &Moment) -> Vec<Command> {
        match event {
            Event::Timer => self.handle_timer(moment, false),
            Event::Detour => self.handle_timer(moment, true),
            Event::Withheld => self.handle_withheld(moment),
            Event::Adopted { token, is_doubtful } => {
                self.handle_adopted(token, is_doubtful, moment)
            }
            Event::NotSent => self.handle_not_sent(moment),
            Event::Granted { token, expires_in } => self.handle_granted(token, expires_in, moment),
            Event::Failed(failure) => self.handle_failed(failure, moment),
            Event::Rejected(generation) => self.handle_rejected(generation, moment),
        }
    }

    /// When [`Event::Timer`] has something to do.
    pub fn next_wakeup(&self) -> Millis {
        match self.state {
            State::Empty => self.not_before,
            State::Fresh { refresh_at: due }
            | State::BackingOff { until: due }
            | State::Open { until: due } => due.max(self.not_before),
            State::Refreshing { since } => since
                .after(self.policy.call_timeout)
                .after(LOST_REPLY_GRACE),
        }
    }

    /// The token that may be used now.
    pub fn serve(&self, now: Millis) -> Option<&Token> {
        self.token.as_ref().filter(|token| token.is_live(now))
    }

    /// Where the machine is.
    pub fn state(&self) -> State {
        self.state
    }

    /// The newest generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Why there is no new token, if so.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble
    }

    /// What is left of today's budget; `None` where calls are not counted.
    pub fn budget_left(&self, now: Millis, wall: UnixMillis) -> Option<u32> {
        self.budget.left(now, wall)
    }

    /// Whether a call is on its way.
    pub fn is_refreshing(&self) -> bool {
        matches!(self.state, State::Refreshing { .. })
    }

    /// Writes what the machine knows into `record`; term, holder and the mark of a call of its own are the lease's matter.
    /// The mark that an earlier holder left stays: were it erased, a third one could call beside that holder's call.
    pub fn store(&self, record: &mut AppRecord) {
        record.in_flight_until = self.not_before;
        record.generation = self.generation;
        record.token = self.token.clone();
        record.settled = self.settled;
        record.trouble = self.trouble;
        record.rejected_interval = self.limit.interval;
        record.rejected_not_before = self.limit.not_before;
        record.spent = self.budget.spent();
    }

    fn handle_timer(&mut self, moment: &Moment, detour: bool) -> Vec<Command> {
        if moment.now < self.next_wakeup() {
            return Vec::new();
        }
        if self.is_refreshing() {
            return self.handle_failed(&Failure::Unreachable("the reply never came"), moment);
        }
        // Only the classic endpoint's calls are counted.
        if !detour && !self.budget.spend(moment) {
            self.open(self.budget.renewed_at(moment), None);
            return vec![Command::Publish, Command::Report(Report::BudgetSpent)];
        }
        self.state = State::Refreshing { since: moment.now };
        self.attempt.detour = detour;
        vec![Command::Fetch(self.attempt)]
    }

    fn handle_not_sent(&mut self, moment: &Moment) -> Vec<Command> {
        if !self.is_refreshing() {
            return Vec::new();
        }
        if !self.attempt.detour {
            self.budget.refund();
        }
        self.state = State::BackingOff {
            until: moment.now.after(NOT_SENT_PAUSE),
        };
        self.unsent = self.unsent.saturating_add(1);
        if self.unsent.is_multiple_of(NOT_SENT_BEFORE_NEXT) {
            self.attempt.upstream = (self.attempt.upstream + 1) % self.policy.upstreams;
        }
        // Less and less often: the cluster may be missing for days.
        match self.unsent.is_power_of_two() && self.unsent >= NOT_SENT_BEFORE_NEXT {
            true => vec![Command::Report(Report::NotSent)],
            false => Vec::new(),
        }
    }

    fn handle_granted(
        &mut self,
        value: Secret,
        expires_in: Duration,
        moment: &Moment,
    ) -> Vec<Command> {
        let State::Refreshing { since } = self.state else {
            return Vec::new();
        };
        let deadline = since.after(expires_in);
        let report = match &mut self.token {
            Some(token) if token.value == value => {
                // WeChat counts in whole seconds, so the same end may look a little earlier: only a later one counts.
                token.deadline = token.deadline.max(deadline);
                self.settled = self.generation;
                Report::Same
            }
            _ => {
                self.generation = self.generation.next();
                self.token = Some(Token {
                    value,
                    granted_at: since,
                    deadline,
                });
                Report::Renewed
            }
        };
        self.forgive();
        let end = self.token.as_ref().map_or(deadline, |token| token.deadline);
        let refresh_at = self.refresh_time(end, end.since(since), moment);
        self.state = State::Fresh { refresh_at };
        vec![Command::Publish, Command::Report(report)]
    }

    fn handle_failed(&mut self, failure: &Failure, moment: &Moment) -> Vec<Command> {
        if !self.is_refreshing() {
            return Vec::new();
        }
        self.failures = self.failures.saturating_add(1);
        self.unsent = 0;
        let errcode = failure.errcode();
        match failure.on_token() {
            OnToken::WrongSecret { retry } => {
                if self.try_next_secret() {
                    self.back_off(moment.now, errcode);
                } else {
                    self.open(later(retry, moment), errcode);
                }
            }
            OnToken::Fatal { retry } => self.open(later(retry, moment), errcode),
            OnToken::Wait { at_least } => self.open(later(at_least, moment), errcode),
            OnToken::UntilMidnight => {
                let midnight = moment.now.after(moment.wall.until_shanghai_midnight());
                // Up to a minute later, so that not everybody calls at the stroke.
                self.open(
                    midnight.after(moment.sample.part_of(Duration::from_secs(60))),
                    errcode,
                );
            }
            OnToken::Transient
                if matches!(failure, Failure::Unreachable(_)) && self.try_next_upstream() =>
            {
                self.back_off(moment.now, errcode);
            }
            OnToken::Transient => self.pause(errcode, moment),
        }
        vec![Command::Publish, Command::Report(Report::Failed)]
    }

    fn handle_rejected(&mut self, generation: Generation, moment: &Moment) -> Vec<Command> {
        // A late 40001 for an old token must not end a fresh one: whoever got it finds the newer token already.
        if generation != self.generation {
            return Vec::new();
        }
        // Settled is settled only for as long as the limit lasts: a token may live two hours, and may really be dead.
        let is_settled = self.settled >= generation;
        if is_settled && moment.now < self.limit.not_before {
            return Vec::new();
        }
        match (self.state, &self.token) {
            (State::Fresh { refresh_at }, Some(token)) if refresh_at > moment.now => {
                let report = if self.limit.admit(token.granted_at, is_settled, moment.now) {
                    self.state = State::Fresh {
                        refresh_at: moment.now,
                    };
                    // It may have been settled before; from now on it is worth waiting again.
                    self.settled = Generation(generation.0.saturating_sub(1));
                    Report::RejectedRefresh
                } else {
                    self.settled = generation;
                    Report::RejectedLimited
                };
                vec![Command::Publish, Command::Report(report)]
            }
            // A call is on its way or due anyway, and its outcome answers those who wait; or the breaker is open, which let them go.
            _ => Vec::new(),
        }
    }

    /// When to refresh a token that ends at `deadline` and has `lifetime` left.
    fn refresh_time(&self, deadline: Millis, lifetime: Duration, moment: &Moment) -> Millis {
        let lead = self.policy.lead.min(lifetime / 2);
        // Jitter shortens the lead: a call before WeChat's last 5 minutes would only bring the same token again.
        let jitter = moment.sample.part_of(self.policy.jitter.min(lead / 2));
        let earliest = moment.now.after(LEAST_INTERVAL.min(lifetime / 4));
        deadline.before(lead).after(jitter).max(earliest)
    }

    /// The next call comes after a pause; a longer one, with the breaker open, after many failures.
    fn pause(&mut self, errcode: Option<i64>, moment: &Moment) {
        self.tried = Attempt::default();
        let pause = self.policy.backoff.pause(self.failures, moment.sample);
        let until = moment.now.after(pause);
        if self.failures < FAILURES_TO_OPEN {
            self.back_off(until, errcode);
        } else {
            let least = moment.now.after(self.policy.backoff.longest() / 2);
            self.open(until.max(least), errcode);
        }
    }

    fn back_off(&mut self, until: Millis, errcode: Option<i64>) {
        self.state = State::BackingOff { until };
        self.trouble = Some(Trouble {
            errcode,
            retry_at: until,
            open: false,
        });
    }

    fn open(&mut self, until: Millis, errcode: Option<i64>) {
        self.tried = Attempt::default();
        self.settled = self.generation;
        self.state = State::Open { until };
        self.trouble = Some(Trouble {
            errcode,
            retry_at: until,
            open: true,
        });
    }

    /// Moves on to the next secret; false when each has been tried in this round.
    fn try_next_secret(&mut self) -> bool {
        self.attempt.secret = (self.attempt.secret + 1) % self.policy.secrets;
        self.tried.secret += 1;
        self.tried.secret < self.policy.secrets
    }

    /// Moves on to the next upstream; false when each has been tried in this round.
    fn try_next_upstream(&mut self) -> bool {
        self.attempt.upstream = (self.attempt.upstream + 1) % self.policy.upstreams;
        self.tried.upstream += 1;
        self.tried.upstream < self.policy.upstreams
    }
}

/// `wait` from now and up to a tenth more, so that many Envoys do not call at once.
fn later(wait: Duration, moment: &Moment) -> Millis {
    moment
        .now
        .after(wait)
        .after(moment.sample.part_of(wait / 10))
}

mod shared;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
