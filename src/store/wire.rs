//! A step as the bytes of one pipelined request, and the store's answer read from the bytes that come back.
//!
//! Each request has a connection of its own (Envoy makes one per callout), so each begins with AUTH and SELECT where they
//! are needed. It ends with QUIT: some servers close on it that would keep the connection open after the half-close.

use std::time::Duration;

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

/// The request for a step at the app with these keys. It holds the password and may hold a token.
pub fn request(login: &Login, prefix: &str, appid: &str, step: &Step) -> Vec<u8> {
    let mut pipeline = Vec::new();
    if let Some(password) = &login.password {
        let mut words = vec![b"AUTH".as_slice()];
        words.extend(login.username.iter().map(|name| name.expose().as_bytes()));
        words.push(password.expose().as_bytes());
        push_command(&mut pipeline, &words);
    }
    if login.database != 0 {
        let database = login.database.to_string();
        push_command(&mut pipeline, &[b"SELECT", database.as_bytes()]);
    }
    let keys = [
        format!("{prefix}{{{appid}}}:token"),
        format!("{prefix}{{{appid}}}:lock"),
    ];
    let arguments = arguments(step);
    let mut words = vec![b"EVAL".as_slice(), SCRIPT.as_bytes(), b"2"];
    words.extend(keys.iter().map(String::as_bytes));
    words.extend(arguments.iter().map(String::as_bytes));
    push_command(&mut pipeline, &words);
    push_command(&mut pipeline, &[b"QUIT"]);
    pipeline
}

/// The script's ARGV: step, owner, deadline, known, ttl, nonce, token, life.
fn arguments(step: &Step) -> Vec<String> {
    let fenced = |name: &str, owner: &Nonce, deadline: &UnixMillis| {
        vec![
            name.to_owned(),
            format!("{:016x}", owner.0),
            deadline.0.to_string(),
        ]
    };
    match step {
        Step::Read => vec!["read".to_owned()],
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
            ]);
            words
        }
        Step::Release { owner, deadline } => fenced("release", owner, deadline),
    }
}

/// Reads the answer to a request of [`request`] with the same login.
///
/// # Errors
/// The first refusal, also of AUTH or SELECT; whatever follows it is not worth more.
pub fn read_answer(login: &Login, bytes: &[u8]) -> Result<Answer, Problem> {
    if bytes.is_empty() {
        return Err(Problem::NoReply);
    }
    let (replies, fault) = decode(bytes);
    for reply in &replies {
        if let Reply::Error(error) = reply {
            return Err(Problem::Refused(code(error)));
        }
    }
    let before = usize::from(login.password.is_some()) + usize::from(login.database != 0);
    match (replies.into_iter().nth(before), fault) {
        (Some(Reply::Array(fields)), _) => answer(fields).ok_or(NOT_OURS),
        (Some(_), _) => Err(NOT_OURS),
        (None, fault) => Err(fault.unwrap_or(RespError::Truncated).into()),
    }
}

fn answer(fields: Vec<Reply>) -> Option<Answer> {
    let mut fields = fields.into_iter();
    let outcome = match fields.next()? {
        Reply::Bulk(word) => outcome(&word)?,
        _ => return None,
    };
    let clock = UnixMillis(integer(fields.next()?).and_then(|ms| u64::try_from(ms).ok())?);
    let version = Version(integer(fields.next()?).and_then(|v| u64::try_from(v).ok())?);
    // Below zero there is no key, or one without an end, which nobody who keeps these rules has written.
    let left = integer(fields.next()?).map(span)?;
    let locked_for = integer(fields.next()?).map(span)?;
    let value = optional(fields.next()?)?;
    let life = optional(fields.next()?)?;
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

fn integer(reply: Reply) -> Option<i64> {
    match reply {
        Reply::Integer(number) => Some(number),
        _ => None,
    }
}

/// A bulk string that may be missing; the outer `None` is for everything else.
fn optional(reply: Reply) -> Option<Option<String>> {
    match reply {
        Reply::Nil => Some(None),
        Reply::Bulk(bytes) => String::from_utf8(bytes).ok().map(Some),
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
