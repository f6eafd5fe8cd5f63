//! Redis as the store that all Envoys share: one record and one lock per app, so that one of them renews a token and the
//! others take it over.
//!
//! | key | type | what |
//! |---|---|---|
//! | `{prefix}{{appid}}:token` | hash `version`, `nonce`, `token`, `life` (ms), `seen` (fingerprints of tokens), with the token's remaining lifetime as its TTL | the newest token |
//! | `{prefix}{{appid}}:lock` | string, a random owner, with a TTL | who may call WeChat |
//!
//! The braces are Redis's hash tag: both keys of an app lie on one node.
//!
//! [`wire`] turns a [`Step`] into one pipelined request and reads the [`Answer`]; [`link`] decides which step comes next.
//! Every step is one run of the same script (`step.lua`), which is atomic and always answers with the whole state:
//!
//! - A command whose callout timed out may still run later, as Redis gets it all the same. So each one that writes
//!   carries a deadline on Redis's own clock, and is `late` after it.
//! - Repeated steps do no harm: the same owner locks again, the same nonce is published once. That is how an unknown
//!   outcome becomes known.
//! - Versions never go down, not even after Redis was emptied or a replica without the last write took over:
//!   `max(stored + 1, known + 1, Redis's time in ms)`.
//! - Who publishes must own the lock, or at least nobody else may: a live token whose fence is gone is worth more in the
//!   store than thrown away. Whoever finds a newer version than it knew changes nothing.
//! - Lifetimes travel as what is left of them (PTTL); the clocks of two machines are never compared.
//!
//! [`mirror`] has the keys for neighbours, which lie outside of what is atomic: they are written after a publication, and
//! read with every step.

pub mod link;
pub mod mirror;
pub mod seen;
pub mod wire;

use std::fmt;
use std::time::Duration;

use self::mirror::Found;
use self::seen::Fingerprint;
use crate::resp::RespError;
use crate::secret::Secret;
use crate::time::UnixMillis;

/// Orders the tokens of an app across all Envoys; higher is newer, 0 is "none known". Near Redis's time in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A random number that names who locks, or what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub u64);

/// What is asked of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing but the state.
    Read,
    /// The lock, unless there is a newer version than `known`.
    Lock {
        /// Whose lock it becomes.
        owner: Nonce,
        /// The newest version known here.
        known: Version,
        /// How long it holds.
        ttl: Duration,
        /// On Redis's clock.
        deadline: UnixMillis,
    },
    /// A new token, unless there is a newer version than `known` or somebody else has the lock. Gives the lock back.
    Publish {
        /// Whose lock it is.
        owner: Nonce,
        /// The newest version known here.
        known: Version,
        /// On Redis's clock.
        deadline: UnixMillis,
        /// Names this publication.
        nonce: Nonce,
        /// What is published.
        token: Secret,
        /// What is left of its life.
        left: Duration,
        /// Its life when WeChat granted it.
        life: Duration,
    },
    /// Give the lock back.
    Release {
        /// Whose lock it is.
        owner: Nonce,
        /// On Redis's clock.
        deadline: UnixMillis,
    },
    /// The token at the neighbours' keys.
    Mirror {
        /// On Redis's clock.
        deadline: UnixMillis,
        /// What is written.
        token: Secret,
        /// What is left of its life.
        left: Duration,
        /// Its end on Redis's clock, which may be a little early.
        end: UnixMillis,
    },
}

impl Step {
    /// Whether it writes the neighbours' keys, so that its answer says more than others do.
    pub fn writes_mirrors(&self) -> bool {
        matches!(self, Step::Mirror { .. })
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The state, and nothing was changed.
    Read,
    /// The lock is ours.
    Locked,
    /// The token is in the store.
    Published,
    /// There is a newer version.
    Newer,
    /// Somebody else has the lock.
    Busy,
    /// The deadline was over before Redis came to it.
    Late,
}

/// What the store says after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How the step ended.
    pub outcome: Outcome,
    /// Redis's clock.
    pub clock: UnixMillis,
    /// The newest version; 0 without a record.
    pub version: Version,
    /// Its token, while it lives.
    pub token: Option<Stored>,
    /// How long somebody's lock still holds.
    pub locked_for: Option<Duration>,
    /// The last tokens that were published.
    pub seen: Vec<Fingerprint>,
    /// What is at the neighbours' keys, in their order; it was read before everything else.
    pub mirrors: Vec<Found>,
    /// What became of [`Step::Mirror`].
    pub mirrored: Option<Mirrored>,
}

/// How writing to the neighbours' keys ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// The token is there.
    Done,
    /// The deadline was over before Redis came to it.
    Late,
    /// Redis refuses at least one of them, with this code.
    Refused(String),
}

/// A token in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The token.
    pub value: Secret,
    /// What is left of its life.
    pub left: Duration,
    /// Its life when WeChat granted it.
    pub life: Duration,
}

/// Why the store cannot be used. `Display` is for the log: what to do about it, and nothing that Redis repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No connection, no answer in time, or an answer that broke off.
    Unreachable(&'static str),
    /// The connection ended without any reply.
    NoReply,
    /// Redis refuses, with this code.
    Refused(String),
    /// The answer makes no sense.
    Unreadable(&'static str),
}

impl From<RespError> for Problem {
    fn from(error: RespError) -> Problem {
        match error {
            RespError::Truncated => Problem::Unreachable(error.words()),
            RespError::Malformed | RespError::TooLarge => Problem::Unreadable(error.words()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Unreachable(problem) => write!(f, "unreachable=\"{problem}\""),
            Problem::NoReply => f.write_str(
                "unreachable=\"the connection ended without a reply: this service drops replies on half-close, see docs/redis.md\"",
            ),
            Problem::Refused(code) => {
                let meaning = meaning(code);
                write!(f, "redis_error={code} meaning=\"{meaning}\"")
            }
            Problem::Unreadable(problem) => write!(f, "unreadable=\"{problem}\""),
        }
    }
}

impl std::error::Error for Problem {}

/// What an operator does about an error of Redis.
fn meaning(code: &str) -> &'static str {
    match code {
        "NOAUTH" => "it wants a password: set redis.password, and redis.username for an ACL user",
        "WRONGPASS" => "username or password is wrong, or the user is off",
        "NOPERM" => "the ACL does not allow the user this; docs/redis.md has the rules it needs",
        "LOADING" => "it is still loading its data",
        "READONLY" => "it is a replica, which takes no writes",
        "MASTERDOWN" => "it is a replica that has lost its master",
        "OOM" => "its memory is full and its maxmemory-policy lets nothing go",
        "MISCONF" => "it cannot save to disk and refuses writes",
        "NOREPLICAS" => "too few replicas are there for it to take writes",
        "BUSY" => "a script of somebody else blocks it",
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" => {
            "it is a node of a Redis Cluster and not the one with our keys; docs/redis.md says what works"
        }
        "WRONGTYPE" => "another program keeps something else under one of the keys: change redis.key_prefix, or the key in redis.mirror",
        "ERR" => "it does not know a command that is needed, or the database; docs/redis.md has what it must offer",
        _ => "see the documentation of Redis",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_redis_is_explained_in_its_own_words() {
        for (code, part) in [
            ("NOAUTH", "set redis.password"),
            ("WRONGPASS", "is wrong"),
            ("NOPERM", "ACL"),
            ("LOADING", "loading"),
            ("READONLY", "takes no writes"),
            ("MASTERDOWN", "lost its master"),
            ("OOM", "memory is full"),
            ("MISCONF", "save to disk"),
            ("NOREPLICAS", "too few replicas"),
            ("BUSY", "script"),
            ("MOVED", "Redis Cluster"),
            ("ASK", "Redis Cluster"),
            ("CROSSSLOT", "Redis Cluster"),
            ("CLUSTERDOWN", "Redis Cluster"),
            ("WRONGTYPE", "redis.mirror"),
            ("ERR", "does not know a command"),
            ("SOMETHING", "documentation of Redis"),
        ] {
            let words = meaning(code);
            assert!(words.contains(part), "{code}: {words}");
        }
    }
}
