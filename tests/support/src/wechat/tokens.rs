//! The book of tokens: who got which one, which of them work now, and what the next token call gets.
//!
//! It is pure: the time is an argument, so its tests jump through hours. It knows WeChat's rules for the two token
//! endpoints and their quotas; it leaves out secrets, HTTP and everything that is counted for the report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::settings::{Quotas, Settings};

/// Which of the two endpoints a token comes from. They are isolated: neither touches the other's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenApi {
    /// `GET /cgi-bin/token`
    Classic,
    /// `POST /cgi-bin/stable_token`
    Stable,
}

/// What a token call gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// A token.
    Granted {
        /// The token itself.
        token: Arc<str>,
        /// Its number, counted over all apps.
        number: u64,
        /// What is left of its life.
        remaining: Duration,
        /// Whether it was made by this call.
        fresh: bool,
    },
    /// An errcode in place of a token.
    Refused(i64),
}

/// What a business endpoint makes of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Live {
        /// Whose it is.
        appid: Arc<str>,
        /// Its number.
        number: u64,
    },
    /// Never handed out: 40014.
    Unknown,
    /// Its life is over: 42001.
    Expired {
        /// Whose it was.
        appid: Arc<str>,
        /// Its number.
        number: u64,
        /// How long ago it ended.
        late: Duration,
    },
    /// Replaced by a newer one, or revoked: 40001 (or what the revocation says).
    Stale {
        /// Whose it was.
        appid: Arc<str>,
        /// Its number.
        number: u64,
        /// What WeChat answers.
        errcode: i64,
    },
}

/// Every token that was ever handed out, and the quotas.
#[derive(Debug)]
pub struct Book {
    rules: Rules,
    issued: HashMap<Arc<str>, Issued>,
    lines: HashMap<(Arc<str>, TokenApi), Line>,
    last_number: u64,
}

#[derive(Debug)]
struct Rules {
    lifetime: Duration,
    overlap: Duration,
    force_gap: Duration,
    token_length: usize,
    quotas: Quotas,
}

#[derive(Debug)]
struct Issued {
    appid: Arc<str>,
    number: u64,
    expires_at: Instant,
    /// Since when a newer one is there; it works for the overlap after that.
    works_until: Option<Instant>,
    revoked: Option<i64>,
}

#[derive(Debug, Default)]
struct Line {
    current: Option<Arc<str>>,
    minute: Window,
    day: Window,
    forced: Window,
    last_forced: Option<Instant>,
}

/// A counter that starts anew when its window is over.
#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    count: u64,
}

impl Book {
    /// An empty book with the rules of the settings.
    pub fn new(settings: &Settings) -> Self {
        Self {
            rules: Rules {
                lifetime: settings.token_lifetime,
                overlap: settings.overlap,
                force_gap: settings.force_gap,
                token_length: settings.token_length.clamp(32, 512),
                quotas: settings.quotas,
            },
            issued: HashMap::new(),
            lines: HashMap::new(),
            last_number: 0,
        }
    }

    /// `GET /cgi-bin/token`: always a new token; the previous one works for the overlap only.
    pub fn call_classic(&mut self, appid: &Arc<str>, now: Instant) -> Grant {
        let quotas = self.rules.quotas;
        let line = self.line(appid, TokenApi::Classic);
        if !line.day.take(now, quotas.day, quotas.classic_per_day) {
            return Grant::Refused(45009);
        }
        self.issue(appid, TokenApi::Classic, now, self.rules.overlap)
    }

    /// `POST /cgi-bin/stable_token`: the same token until its last five minutes; then a new one, and both work.
    ///
    /// A forced refresh makes a new one and kills the old one at once, unless it comes too soon or too often.
    pub fn call_stable(&mut self, appid: &Arc<str>, force: bool, now: Instant) -> Grant {
        let quotas = self.rules.quotas;
        let (overlap, force_gap) = (self.rules.overlap, self.rules.force_gap);
        let line = self.line(appid, TokenApi::Stable);
        if !line
            .minute
            .take(now, quotas.minute, quotas.stable_per_minute)
        {
            return Grant::Refused(45011);
        }
        if !line.day.take(now, quotas.day, quotas.stable_per_day) {
            return Grant::Refused(45009);
        }
        if force {
            let spaced = line.last_forced.is_none_or(|last| now >= last + force_gap);
            if spaced && line.forced.take(now, quotas.day, quotas.forced_per_day) {
                line.last_forced = Some(now);
                return self.issue(appid, TokenApi::Stable, now, Duration::ZERO);
            }
        }
        let current = line.current.clone();
        match current.and_then(|token| self.issued.get_key_value(&token)) {
            Some((token, issued))
                if issued.revoked.is_none() && now + overlap < issued.expires_at =>
            {
                Grant::Granted {
                    token: Arc::clone(token),
                    number: issued.number,
                    remaining: issued.expires_at - now,
                    fresh: false,
                }
            }
            _ => self.issue(appid, TokenApi::Stable, now, overlap),
        }
    }

    /// Makes the app's current tokens (of both endpoints) fail with `errcode` from now on; the next call of the
    /// stable endpoint makes a new one.
    pub fn revoke(&mut self, appid: &str, errcode: i64) {
        for ((owner, _), line) in &mut self.lines {
            if owner.as_ref() == appid {
                if let Some(issued) = line
                    .current
                    .as_ref()
                    .and_then(|token| self.issued.get_mut(token))
                {
                    issued.revoked = Some(errcode);
                }
            }
        }
    }

    /// Takes in a token that the app got elsewhere, such as a caller's own; it works for a whole lifetime.
    pub fn accept(&mut self, appid: &Arc<str>, token: &str, now: Instant) -> u64 {
        self.insert(appid, Arc::from(token), now)
    }

    /// What a business endpoint makes of `token`.
    pub fn verify(&self, token: &str, now: Instant) -> Verdict {
        let Some(issued) = self.issued.get(token) else {
            return Verdict::Unknown;
        };
        let (appid, number) = (Arc::clone(&issued.appid), issued.number);
        if now >= issued.expires_at {
            return Verdict::Expired {
                appid,
                number,
                late: now - issued.expires_at,
            };
        }
        if let Some(errcode) = issued.revoked {
            return Verdict::Stale {
                appid,
                number,
                errcode,
            };
        }
        match issued.works_until {
            Some(end) if now >= end => Verdict::Stale {
                appid,
                number,
                errcode: 40001,
            },
            _ => Verdict::Live { appid, number },
        }
    }

    /// Whether this text was ever handed out as a token.
    pub fn knows(&self, text: &str) -> bool {
        self.issued.contains_key(text)
    }

    /// Every token ever handed out, oldest first.
    pub fn tokens(&self) -> Vec<String> {
        let mut all: Vec<_> = self
            .issued
            .iter()
            .map(|(token, issued)| (issued.number, token.to_string()))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, token)| token).collect()
    }

    fn issue(&mut self, appid: &Arc<str>, api: TokenApi, now: Instant, overlap: Duration) -> Grant {
        let token = self.make_token();
        let number = self.insert(appid, Arc::clone(&token), now);
        let line = self.line(appid, api);
        let previous = line.current.replace(Arc::clone(&token));
        if let Some(previous) = previous.and_then(|previous| self.issued.get_mut(&previous)) {
            previous.works_until = Some(now + overlap);
        }
        Grant::Granted {
            token,
            number,
            remaining: self.rules.lifetime,
            fresh: true,
        }
    }

    fn insert(&mut self, appid: &Arc<str>, token: Arc<str>, now: Instant) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        let expires_at = now + self.rules.lifetime;
        let appid = Arc::clone(appid);
        self.issued.insert(
            token,
            Issued {
                appid,
                number,
                expires_at,
                works_until: None,
                revoked: None,
            },
        );
        number
    }

    fn make_token(&self) -> Arc<str> {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
        let mut rng = rand::rng();
        let mut token = format!("{}_", rng.random_range(10..100));
        while token.len() < self.rules.token_length {
            token.push(char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
        }
        token.into()
    }

    fn line(&mut self, appid: &Arc<str>, api: TokenApi) -> &mut Line {
        self.lines.entry((Arc::clone(appid), api)).or_default()
    }
}

impl Window {
    fn take(&mut self, now: Instant, length: Duration, limit: u64) -> bool {
        if self.since.is_none_or(|since| now >= since + length) {
            self.since = Some(now);
            self.count = 0;
        }
        self.count += 1;
        self.count <= limit
    }
}
