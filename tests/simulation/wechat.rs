//! WeChat by its rules, on the virtual clock: the stable endpoint gives the same token until its last minutes, the classic
//! one a new token with each call; old and new work together for a while; what is older, expired or revoked is rejected.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Setup, APPS};

/// WeChat, and what it remembers.
#[derive(Debug, Default)]
pub struct WeChat {
    life: u64,
    overlap: u64,
    issued: BTreeMap<String, Issued>,
    newest: [Option<String>; APPS.len()],
    banned_until: [u64; APPS.len()],
    count: u64,
    /// Tokens that a business call was rejected for.
    pub rejected: BTreeSet<String>,
}

/// A token that WeChat made.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Index of the app.
    pub app: usize,
    /// Counts all tokens: a higher one is newer.
    pub number: u64,
    /// From here on it is rejected.
    pub ends: u64,
    /// From here on it has expired; later than `ends` never.
    pub expires: u64,
}

impl WeChat {
    /// A WeChat with the life times of `setup`.
    pub fn new(setup: &Setup) -> WeChat {
        WeChat {
            life: setup.life,
            overlap: setup.overlap,
            ..WeChat::default()
        }
    }

    /// Answers a token call.
    pub fn grant(&mut self, app: usize, is_stable: bool, now: u64) -> String {
        if is_stable {
            if let Some((value, token)) = self.current(app) {
                if token.ends > now + self.overlap {
                    return reply(value, (token.ends - now) / 1_000);
                }
            }
        }
        if let Some(old) = self.newest[app]
            .take()
            .and_then(|value| self.issued.get_mut(&value))
        {
            old.ends = old.ends.min(now + self.overlap);
        }
        self.count += 1;
        let value = format!("token-{}-{}", APPS[app], self.count);
        let ends = now + self.life;
        self.issued.insert(
            value.clone(),
            Issued {
                app,
                number: self.count,
                ends,
                expires: ends,
            },
        );
        self.newest[app] = Some(value.clone());
        reply(&value, self.life / 1_000)
    }

    /// Answers a business call of `app`: true if the token is good.
    pub fn accepts(&mut self, app: usize, value: &str, now: u64) -> bool {
        let is_good = self
            .issued
            .get(value)
            .is_some_and(|token| token.app == app && now < token.ends);
        let is_accepted = is_good && now >= self.banned_until[app];
        if !is_accepted {
            self.rejected.insert(value.to_owned());
        }
        is_accepted
    }

    /// Ends the newest token of an app at once.
    pub fn revoke(&mut self, app: usize, now: u64) {
        if let Some(token) = self.newest[app]
            .take()
            .and_then(|value| self.issued.get_mut(&value))
        {
            token.ends = token.ends.min(now);
        }
    }

    /// Rejects all business calls of an app for a while.
    pub fn ban(&mut self, app: usize, until: u64) {
        self.banned_until[app] = until;
    }

    /// What is known of a token.
    pub fn issued(&self, value: &str) -> Option<&Issued> {
        self.issued.get(value)
    }

    fn current(&self, app: usize) -> Option<(&str, &Issued)> {
        let value = self.newest[app].as_deref()?;
        Some((value, self.issued.get(value)?))
    }
}

fn reply(value: &str, seconds: u64) -> String {
    format!(r#"{{"access_token":"{value}","expires_in":{seconds}}}"#)
}
