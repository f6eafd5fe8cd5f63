//! A step as the bytes of one pipelined request, and the store's answer read from the bytes that come back.
//!
//! Each request has a connection of its own (Envoy makes one per callout), so each begins with AUTH and SELECT where they
//! are needed. It ends with QUIT: some servers close on it that would keep the connection open after the half-close.

use std::time::Duration;

use super::mirror::{mirrored, Mirror, Write};
use super::seen::Fingerprint;
use super::{Answer, Nonce, Outcome, Problem, Step, Stored, Version};
use crate::resp::{decode, push_command, Reply, RespError};
use crate::secret::Secret;
use crate::time::{millis, UnixMillis};
use crate::wechat::is_token;

/// What runs in Redis for every step; the module above says what it does and why. Without comments, as each request carries it.
const SCRIPT: &str = include_str!("step.lua");

/// Who we are to Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// An ACL user; Redis's default user without one.
    pub username: Option<Secret>,
    /// Its password.
    pub password: Option<Secret>,
    /// The number of the database.
    pub database: u32,
}

/// What all requests have in common: who asks, and for which keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Who we are to Redis.
    pub login: Login,
    /// What our own keys begin with.
    pub key_prefix: String,
    /// The keys for neighbours.
    pub mirrors: Vec<Mirror>,
}

impl Login {
    /// Replies before those to what was asked for.
    fn replies(&self) -> usize {
        usize::from(self.password.is_some()) + usize::from(self.database != 0)
    }

    fn push(&self, pipeline: &mut Vec<u8>) {
        if let Some(password) = &self.password {
            let mut words = vec![b"AUTH".as_slice()];
            words.extend(self.username.iter().map(|name| name.expose().as_bytes()));
            words.push(password.expose().as_bytes());
            push_command(pipeline, &words);
        }
        if self.database != 0 {
            let database = self.database.to_string();
            push_command(pipeline, &[b"SELECT", database.as_bytes()]);
        }
    }
}

impl Access {
    /// The request for a step at an app. It holds the password and may hold a token.
    ///
    /// The neighbours' keys are read before the script runs: a token of ours is there only after it is in the store, so
    /// what is read there and is not known afterwards is somebody else's.
    pub fn request(&self, appid: &str, step: &Step) -> Vec<u8> {
        let mut pipeline = Vec::new();
        self.login.push(&mut pipeline);
        for mirror in &self.mirrors {
            mirror.push_read(&mut pipeline, appid);
        }
        if let Some(write) = Write::of(step) {
            for mirror in &self.mirrors {
                mirror.push_write(&mut pipeline, appid, &write);
            }
        }
        let keys = own_keys(&self.key_prefix, appid);
        let arguments = arguments(step);
        let mut words = vec![b"EVAL".as_slice(), SCRIPT.as_bytes(), b"2"];
        words.extend(keys.iter().map(String::as_bytes));
        words.extend(arguments.iter().map(String::as_bytes));
        push_command(&mut pipeline, &words);
        push_command(&mut pipeline, &[b"QUIT"]);
        pipeline
    }

    /// Reads the answer to a request for a step; `writes_mirrors` is the step's.
    ///
    /// # Errors
    /// The first refusal, where there is no state; whatever follows it is not worth more. What Redis refuses at a
    /// neighbour's key is none.
    pub fn read_answer(&self, writes_mirrors: bool, bytes: &[u8]) -> Result<Answer, Problem> {
        if bytes.is_empty() {
            return Err(Problem::NoReply);
        }
        let (replies, fault) = decode(bytes);
        let (login, rest) = replies.split_at(self.login.replies().min(replies.len()));
        if let Some(problem) = refused(login) {
            return Err(problem);
        }
        let read = self.mirrors.len() * Mirror::READS;
        let written = match writes_mirrors {
            true => self.mirrors.iter().map(Mirror::writes).sum(),
            false => 0,
        };
        let mut answer = match rest.get(read + written) {
            Some(Reply::Array(state)) => answer(state).ok_or(NOT_OURS)?,
            Some(Reply::Error(error)) => return Err(Problem::Refused(code(error))),
            Some(_) => return Err(NOT_OURS),
            // One refusal and the end, or an answer that broke off.
            None => {
                let fault = fault.unwrap_or(RespError::Truncated);
                return Err(refused(rest).unwrap_or(fault.into()));
            }
        };
        let at_mirrors = rest.chunks_exact(Mirror::READS);
        answer.mirrors = self
            .mirrors
            .iter()
            .zip(at_mirrors)
            .map(|(mirror, replies)| mirror.found(replies))
            .collect();
        let writes = rest.get(read..read + written).filter(|_| writes_mirrors);
        answer.mirrored = writes.map(|replies| mirrored(replies, code));
        Ok(answer)
    }
}

/// The first refusal.
fn refused(replies: &[Reply]) -> Option<Problem> {
    replies.iter().find_map(|reply| match reply {
        Reply::Error(error) => Some(Problem::Refused(code(error))),
        _ => None,
    })
}

/// The keys that belong to this plugin: an app's record and its lock. The braces are Redis's hash tag.
pub fn own_keys(prefix: &str, appid: &str) -> [String; 2] {
    ["token", "lock"].map(|what| format!("{prefix}{{{appid}}}:{what}"))
}

/// The script's ARGV: step, owner, deadline, known, ttl, nonce, token, life, fingerprint.
fn arguments(step: &Step) -> Vec<String> {
    let fenced = |name: &str, owner: &Nonce, deadline: &UnixMillis| {
        vec![
            name.to_owned(),
            format!("{:016x}", owner.0),
            deadline.0.to_string(),
        ]
    };
    match step {
        Step::Read | Step::Mirror { .. } => vec!["read".to_owned()],
        Step::Lock {
            owner,
            known,
            ttl,
            deadline,
        } => {
            let mut words = fenced("lock", owner, deadline);
            words.extend([known.0.to_string(), millis(*ttl).to_string()]);
            words
        }
        Step::Publish {
            owner,
            known,
            deadline,
            nonce,
            token,
            left,
            life,
        } => {
            let mut words = fenced("publish", owner, deadline);
            words.extend([
                known.0.to_string(),
                millis(*left).to_string(),
                format!("{:016x}", nonce.0),
                token.expose().to_owned(),
                millis(*life).to_string(),
                Fingerprint::of(token).digits(),
            ]);
            words
        }
        Step::Release { owner, deadline } => fenced("release", owner, deadline),
    }
}

fn answer(fields: &[Reply]) -> Option<Answer> {
    let mut fields = fields.iter();
    let outcome = match fields.next()? {
        Reply::Bulk(word) => outcome(word)?,
        _ => return None,
    };
    let clock = UnixMillis(integer(fields.next()?).and_then(|ms| u64::try_from(ms).ok())?);
    let version = Version(integer(fields.next()?).and_then(|v| u64::try_from(v).ok())?);
    // Below zero there is no key, or one without an end, which nobody who keeps these rules has written.
    let left = integer(fields.next()?).map(span)?;
    let locked_for = integer(fields.next()?).map(span)?;
    let value = optional(fields.next()?)?;
    let life = optional(fields.next()?)?;
    let seen = optional(fields.next()?)?.unwrap_or_default();
    fields.next().is_none().then_some(())?;
    let token = match (left, value, life) {
        (Some(left), Some(value), Some(life)) if is_token(&value) => {
            let life = Duration::from_millis(life.parse().ok()?);
            Some(Stored {
                value: Secret::new(value),
                left,
                life: life.max(left),
            })
        }
        _ => None,
    };
    Some(Answer {
        outcome,
        clock,
        version,
        token,
        locked_for,
        seen: Fingerprint::listed(&seen),
        mirrors: Vec::new(),
        mirrored: None,
    })
}

fn outcome(word: &[u8]) -> Option<Outcome> {
    Some(match word {
        b"read" => Outcome::Read,
        b"locked" => Outcome::Locked,
        b"published" => Outcome::Published,
        b"newer" => Outcome::Newer,
        b"busy" => Outcome::Busy,
        b"late" => Outcome::Late,
        _ => return None,
    })
}

fn integer(reply: &Reply) -> Option<i64> {
    match reply {
        Reply::Integer(number) => Some(*number),
        _ => None,
    }
}

/// A bulk string that may be missing; the outer `None` is for everything else.
fn optional(reply: &Reply) -> Option<Option<String>> {
    match reply {
        Reply::Nil => Some(None),
        Reply::Bulk(bytes) => String::from_utf8(bytes.clone()).ok().map(Some),
        _ => None,
    }
}

fn span(ms: i64) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}

/// The code of an error, and nothing else of it: Redis repeats what it was given. Before version 7 the code of what went
/// wrong within a script comes behind other words.
fn code(error: &str) -> String {
    let is_code = |word: &&str| {
        (3..=20).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_uppercase())
    };
    let mut codes = error.split([' ', ':', '-']).filter(is_code);
    match (
        codes.next(),
        codes.find(|word| KNOWN_IN_SCRIPTS.contains(word)),
    ) {
        (Some("ERR"), Some(inner)) => inner.to_owned(),
        (Some(first), _) if error.starts_with(first) => first.to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// Something answers that is not the script.
const NOT_OURS: Problem = Problem::Unreadable("the script's answer is not ours");
/// What a script of ours can run into.
const KNOWN_IN_SCRIPTS: [&str; 4] = ["WRONGTYPE", "READONLY", "OOM", "MISCONF"];

#[cfg(test)]
mod tests;
