//! WeChat in a day of a mesh: which tokens it made, which of them work, and how long Envoys use those that it has replaced.
//!
//! An Envoy with a token is taken to use it at every instant, so that its longest use is known without a call being made.

use std::time::Duration;

use wechat_token::secret::Secret;
use wechat_token::time::Millis;
use wechat_token::token;
use wechat_token::wechat::Failure;

use super::rig::LIFE;

/// How long a replaced token works on.
pub(crate) const OVERLAP: Duration = Duration::from_secs(300);

/// The tokens of both endpoints, and what came of them.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Of the classic endpoint, then of the stable one: neither touches the other's.
    lines: [Vec<Made>; 2],
    /// Token calls that came, by endpoint; those that failed are among them.
    pub(crate) calls: [u64; 2],
    /// The longest use of a token after it was replaced.
    pub(crate) stale: Duration,
    /// The longest use of a token after its end.
    pub(crate) late: Duration,
}

/// A token.
#[derive(Clone, Copy, Debug)]
struct Made {
    at: Millis,
    replaced: Option<Millis>,
    /// It has been in the store.
    is_told: bool,
}

/// Which token: the endpoint and the number.
pub(crate) type Name = (usize, usize);

/// What a token's text says.
pub(crate) fn name(token: &Secret) -> Name {
    let (line, number) = token.expose().split_at(1);
    let number = number.parse().expect("a token of this book");
    (usize::from(line == "s"), number)
}

impl Book {
    /// A token call that is answered.
    pub(crate) fn grant(&mut self, is_stable: bool, now: Millis) -> token::Event<'static> {
        let line = &mut self.lines[usize::from(is_stable)];
        self.calls[usize::from(is_stable)] += 1;
        let end = |made: &Made| made.at.after(LIFE);
        let is_new = !is_stable
            || line
                .last()
                .is_none_or(|made| now.after(OVERLAP) >= end(made));
        if is_new {
            if let Some(last) = line.last_mut() {
                last.replaced = Some(now);
            }
            line.push(Made {
                at: now,
                replaced: None,
                is_told: false,
            });
        }
        let last = line.last().expect("a token");
        token::Event::Granted {
            token: Secret::new(format!(
                "{}{}",
                if is_stable { "s" } else { "c" },
                line.len() - 1
            )),
            expires_in: end(last).since(now),
        }
    }

    /// A token call that WeChat does not serve.
    pub(crate) fn refuse(&mut self, is_stable: bool) -> Failure {
        self.calls[usize::from(is_stable)] += 1;
        Failure::Errcode {
            errcode: -1,
            rid: None,
            refused_ip: None,
            errmsg: String::new(),
        }
    }

    /// A token has been used from when it was there until now.
    pub(crate) fn used(&mut self, (line, number): Name, until: Millis) {
        let made = self.lines[line][number];
        self.late = self.late.max(until.since(made.at.after(LIFE)));
        // The stable endpoint replaces a token in its last five minutes, and it works until its end.
        if let (0, Some(replaced)) = (line, made.replaced) {
            self.stale = self.stale.max(until.since(replaced));
        }
    }

    /// Whether WeChat takes it.
    pub(crate) fn takes(&self, (line, number): Name, now: Millis) -> bool {
        let made = self.lines[line][number];
        let is_over = |replaced: Millis| now > replaced.after(OVERLAP);
        now <= made.at.after(LIFE) && !made.replaced.is_some_and(is_over)
    }

    /// The store has this token.
    pub(crate) fn tell(&mut self, (line, number): Name) {
        self.lines[line][number].is_told = true;
    }

    /// Tokens of the classic endpoint.
    pub(crate) fn made(&self) -> usize {
        self.lines[0].len()
    }

    /// Those of them that were never in the store.
    pub(crate) fn untold(&self) -> usize {
        let untold = |made: &&Made| !made.is_told;
        self.lines[0].iter().filter(untold).count()
    }
}
