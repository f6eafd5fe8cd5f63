//! A worker's own copy of one app's token: what is read while a request is served.

use crate::record::{AppRecord, Holder};
use crate::time::Millis;
use crate::token::{Generation, Token, Trouble};

/// How many tokens are remembered as ours: a resent request carries an earlier one.
const REMEMBERED: usize = 4;

/// What a worker knows of one app.
#[derive(Debug, Default)]
pub struct View {
    /// The token to use; gone as soon as a tick sees that it has expired.
    pub live: Option<Token>,
    /// Generation of the newest token seen.
    pub generation: Generation,
    /// Rejections up to this generation are dealt with.
    pub settled: Generation,
    /// A rejection that is dealt with counts again from here on.
    pub limited_until: Millis,
    /// The newest generation that WeChat rejected here.
    pub rejected: Generation,
    /// Why there is no newer token.
    pub trouble: Option<Trouble>,
    /// Whom to tell; none before the first record.
    pub holder: Option<Holder>,
    /// The holder was told that somebody waits.
    pub is_wanted: bool,
    /// Shared data was looked at since the token was lost.
    pub has_looked: bool,
    recent: Vec<(Generation, String)>,
}

impl View {
    /// Takes over what a record says; an older record changes nothing.
    pub fn apply(&mut self, record: &AppRecord, now: Millis) {
        if record.generation < self.generation || record.term == 0 {
            return;
        }
        self.is_wanted = false;
        self.holder = Some(record.holder);
        self.settled = record.settled;
        self.limited_until = record.rejected_not_before;
        self.trouble = record.trouble;
        if let Some(token) = &record.token {
            if record.generation > self.generation || self.recent.is_empty() {
                if self.recent.len() == REMEMBERED {
                    self.recent.remove(0);
                }
                self.recent
                    .push((record.generation, token.value.expose().to_owned()));
            }
        }
        self.generation = record.generation;
        self.live = record.token.clone().filter(|token| token.is_live(now));
    }

    /// Forgets a token that has expired.
    pub fn expire(&mut self, now: Millis) {
        if self.live.as_ref().is_some_and(|token| !token.is_live(now)) {
            self.live = None;
            self.has_looked = false;
        }
    }

    /// Which of our tokens `value` is, if it is one; the newest, should WeChat have handed one out again.
    pub fn generation_of(&self, value: &[u8]) -> Option<Generation> {
        self.recent
            .iter()
            .rev()
            .find(|(_, token)| token.as_bytes() == value)
            .map(|(generation, _)| *generation)
    }

    /// Whether a request that needs a token newer than `newer_than` can go on: there is one, or there will be none.
    pub fn satisfies(&self, newer_than: Generation) -> bool {
        self.live.is_some() && (self.generation > newer_than || self.settled >= newer_than)
    }

    /// Whether the holder would do nothing about a rejection of `generation`.
    pub fn is_dealt_with(&self, generation: Generation, now: Millis) -> bool {
        let is_open = self.trouble.is_some_and(|trouble| trouble.open);
        generation != self.generation
            || (self.settled >= generation && (is_open || now < self.limited_until))
    }

    /// Whether waiting is useless: no token, and no call before the trouble's `retry_at`.
    pub fn is_hopeless(&self) -> bool {
        self.live.is_none() && self.trouble.is_some_and(|trouble| trouble.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_token_that_comes_back_counts_as_the_newest() {
        let mut view = View::default();
        for (generation, token) in [(1, "a"), (2, "b"), (3, "a")] {
            let record = AppRecord {
                term: 1,
                generation: Generation(generation),
                token: Some(Token {
                    value: Secret::new(token),
                    granted_at: Millis(0),
                    deadline: Millis(9),
                }),
                ..AppRecord::default()
            };
            view.apply(&record, Millis(1));
        }
        assert_eq!(view.generation_of(b"a"), Some(Generation(3)));
        assert_eq!(view.generation_of(b"b"), Some(Generation(2)));
    }
}
