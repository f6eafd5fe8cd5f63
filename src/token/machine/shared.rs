//! The part of a token's life cycle that a store shared with other Envoys has: tokens that come from there, calls that are
//! not made without it, and what it needs to know of the token that is there.

use super::{Machine, State, LEAST_INTERVAL};
use crate::time::Millis;
use crate::token::{Attempt, Command, Moment, Report, Token};

impl Machine {
    /// When the token that is there ends, live or not.
    pub fn end(&self) -> Option<Millis> {
        self.token.as_ref().map(|token| token.deadline)
    }

    /// Whether the last call went round the store, to the stable endpoint.
    pub fn is_detour(&self) -> bool {
        self.attempt.detour
    }

    /// From when on others may renew the token that is there: its lead, without the part that luck takes off.
    pub fn window(&self) -> Option<Millis> {
        let token = self.token.as_ref()?;
        Some(
            token
                .deadline
                .before(self.policy.lead.min(token.life() / 2)),
        )
    }

    pub(super) fn handle_withheld(&mut self, moment: &Moment) -> Vec<Command> {
        if self.is_refreshing() || moment.now < self.next_wakeup() {
            return Vec::new();
        }
        self.failures = self.failures.saturating_add(1);
        self.pause(None, moment);
        vec![Command::Publish, Command::Report(Report::Withheld)]
    }

    pub(super) fn handle_adopted(
        &mut self,
        new: Token,
        is_doubtful: bool,
        moment: &Moment,
    ) -> Vec<Command> {
        if self.is_refreshing() || !new.is_live(moment.now) {
            return Vec::new();
        }
        if let Some(token) = &mut self.token {
            if token.value == new.value {
                // The store has what we have: that is no news of WeChat, so nothing is forgiven. Its end is counted in
                // milliseconds from when the store was asked: only a later one counts.
                let is_later = new.deadline > token.deadline;
                token.deadline = token.deadline.max(new.deadline);
                if let (true, State::Fresh { refresh_at }) = (is_later, self.state) {
                    if refresh_at > moment.now {
                        self.state = self.fresh(moment);
                    }
                }
                return vec![Command::Publish];
            }
        }
        self.generation = self.generation.next();
        self.token = Some(new);
        self.forgive();
        self.state = match is_doubtful {
            true => State::Fresh {
                refresh_at: moment.now.after(LEAST_INTERVAL),
            },
            false => self.fresh(moment),
        };
        vec![Command::Publish, Command::Report(Report::Adopted)]
    }

    /// The state that goes with the token that is there.
    fn fresh(&self, moment: &Moment) -> State {
        let Some(token) = &self.token else {
            return State::Empty;
        };
        State::Fresh {
            refresh_at: self.refresh_time(token.deadline, token.life(), moment),
        }
    }

    /// A token is there: earlier failures count no more.
    pub(super) fn forgive(&mut self) {
        self.trouble = None;
        self.failures = 0;
        self.unsent = 0;
        self.tried = Attempt::default();
    }
}
