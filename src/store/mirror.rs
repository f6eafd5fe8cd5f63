//! Keys for neighbours: services beside the mesh that read the token from Redis, with one of WeChat's SDKs or by themselves.
//!
//! A mirror is written after the token is in the store, and read with every step: whoever keeps a token there that is
//! none of ours has made a call of its own. `tests/interop/` has the real libraries.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;

use super::{Mirrored, Step};
use crate::resp::{push_command, Reply};
use crate::secret::Secret;
use crate::time::{millis, UnixMillis};
use crate::wechat::is_token;

/// What stands for the appid in a key.
pub const PLACE: &str = "{appid}";
/// What runs in Redis for each key that is written: not after the deadline, never for longer than the token lives, and
/// never over something that is not a string.
const SCRIPT: &str = include_str!("mirror.lua");
/// As much of a neighbour's value is read, and no more: the longest token with quotes around it is below 1 KiB.
const READ_TO: &str = "2047";

/// A key for neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The key, with [`PLACE`] where each app's own appid stands.
    pub key: String,
    /// How the token is written there.
    pub format: Format,
    /// The key's longest time to live; without it, as long as the token lives.
    pub ttl: Option<Duration>,
    /// Where the token's end stands, in Unix seconds on Redis's clock, for those that look there.
    pub expires_at_key: Option<String>,
}

/// How a token is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
pub enum Format {
    /// As it is.
    #[default]
    Plain,
    /// As a JSON text, with its quotes (wechatpy).
    Json,
    /// As Kryo 5 writes a string: what Redisson does unless it is given another codec (WxJava).
    Kryo5,
}

/// What is at a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A token; `left` is none where the key has no end.
    Token {
        /// The token.
        value: Secret,
        /// What is left of the key's time.
        left: Option<Duration>,
    },
    /// Something that is no token in this mirror's format.
    Other,
}

impl Mirror {
    /// A key that has the token as it is, for as long as it lives.
    pub fn plain(key: impl Into<String>) -> Mirror {
        Mirror {
            key: key.into(),
            format: Format::Plain,
            ttl: None,
            expires_at_key: None,
        }
    }

    /// The commands that read it, which are [`Mirror::READS`].
    pub(super) fn push_read(&self, pipeline: &mut Vec<u8>, appid: &str) {
        let key = of_app(&self.key, appid);
        push_command(
            pipeline,
            &[b"GETRANGE", key.as_bytes(), b"0", READ_TO.as_bytes()],
        );
        push_command(pipeline, &[b"PTTL", key.as_bytes()]);
    }

    /// Replies to [`Mirror::push_read`].
    pub(super) const READS: usize = 2;

    /// What the replies to a read say. Errors are no matter of the store: the key may be out of the user's reach.
    pub(super) fn found(&self, replies: &[Reply]) -> Found {
        match replies {
            [Reply::Bulk(bytes), _] if bytes.is_empty() => Found::Nothing,
            [Reply::Bulk(bytes), Reply::Integer(left)] => match self.format.decode(bytes) {
                Some(value) => Found::Token {
                    value: Secret::new(value),
                    left: u64::try_from(*left).ok().map(Duration::from_millis),
                },
                None => Found::Other,
            },
            _ => Found::Other,
        }
    }

    /// The commands that write it, one for each key. The end comes first: with an old one beside a new token, wechatpy
    /// takes that for over.
    pub(super) fn push_write(&self, pipeline: &mut Vec<u8>, appid: &str, write: &Write<'_>) {
        let left = self.ttl.map_or(write.left, |ttl| ttl.min(write.left));
        let end = write.end.0.saturating_sub(millis(write.left - left));
        let mut push = |template: &str, value: &[u8]| {
            let key = of_app(template, appid);
            let numbers = [write.deadline.0, end, millis(left)].map(|number| number.to_string());
            let mut words = vec![b"EVAL".as_slice(), SCRIPT.as_bytes(), b"1", key.as_bytes()];
            words.extend(numbers.iter().map(String::as_bytes));
            words.push(value);
            push_command(pipeline, &words);
        };
        if let Some(end_key) = &self.expires_at_key {
            push(end_key, (end / 1_000).to_string().as_bytes());
        }
        push(&self.key, &self.format.encode(write.token.expose()));
    }

    /// Replies to [`Mirror::push_write`].
    pub(super) fn writes(&self) -> usize {
        1 + usize::from(self.expires_at_key.is_some())
    }
}

/// A key of an app, with its appid for each [`PLACE`]. By hand, as a search for a text costs the .wasm 3 KB.
pub fn of_app(key: &str, appid: &str) -> String {
    let mut parts = key.split('{');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.strip_prefix("appid}") {
            Some(rest) => text.extend([appid, rest]),
            None => text.extend(["{", part]),
        }
    }
    text
}

/// What is written.
pub(super) struct Write<'a> {
    /// On Redis's clock.
    pub(super) deadline: UnixMillis,
    /// The token.
    pub(super) token: &'a Secret,
    /// What is left of its life.
    pub(super) left: Duration,
    /// Its end on Redis's clock.
    pub(super) end: UnixMillis,
}

impl Write<'_> {
    /// What a step writes to mirrors, if it is one that does.
    pub(super) fn of(step: &Step) -> Option<Write<'_>> {
        match step {
            Step::Mirror {
                deadline,
                token,
                left,
                end,
            } => Some(Write {
                deadline: *deadline,
                token,
                left: *left,
                end: *end,
            }),
            _ => None,
        }
    }
}

/// How writing went, from the replies to all [`Mirror::push_write`]s.
pub(super) fn mirrored(replies: &[Reply], code: impl Fn(&str) -> String) -> Mirrored {
    let mut outcome = Mirrored::Done;
    for reply in replies {
        match reply {
            Reply::Error(error) => return Mirrored::Refused(code(error)),
            Reply::Integer(1) => {}
            _ => outcome = Mirrored::Late,
        }
    }
    outcome
}

impl Format {
    fn encode(self, token: &str) -> Cow<'_, [u8]> {
        match self {
            Format::Plain => Cow::Borrowed(token.as_bytes()),
            Format::Json => Cow::Owned(serde_json::to_vec(token).unwrap_or_default()),
            Format::Kryo5 => Cow::Owned(kryo5(token)),
        }
    }

    /// The token in a neighbour's value. Stricter than what WeChat itself may send: text in another format than this
    /// must not be taken for a token.
    fn decode(self, bytes: &[u8]) -> Option<String> {
        let inner = match self {
            Format::Plain => bytes,
            Format::Json => bytes.strip_prefix(b"\"")?.strip_suffix(b"\"")?,
            Format::Kryo5 => kryo5_text(bytes)?,
        };
        let text = std::str::from_utf8(inner).ok()?;
        (is_token(text) && !text.contains(['"', '\\', '{', '}', '[', ']', ',']))
            .then(|| text.to_owned())
    }
}

/// A string as Kryo 5 writes it: the number of its class, its length + 1 (6 bits, then 7 each, with a flag first), the text.
fn kryo5(text: &str) -> Vec<u8> {
    let length = text.len() + 1;
    let (low, mut rest) = ((length & 0x3F) as u8, length >> 6);
    let mut bytes = vec![KRYO5_STRING, low | if rest > 0 { 0xC0 } else { 0x80 }];
    while rest > 0 {
        let more = if rest > 0x7F { 0x80 } else { 0 };
        bytes.push((rest & 0x7F) as u8 | more);
        rest >>= 7;
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The text of such a string, up to 8 KiB long. Kryo has another form for texts up to 32 characters, which no token is.
fn kryo5_text(bytes: &[u8]) -> Option<&[u8]> {
    let (first, rest) = bytes.strip_prefix(&[KRYO5_STRING])?.split_first()?;
    let low = usize::from(first & 0x3F);
    let (length, text) = match first & 0xC0 {
        0x80 => (low, rest),
        0xC0 => {
            let (high, text) = rest.split_first().filter(|(high, _)| **high < 0x80)?;
            (low | usize::from(*high) << 6, text)
        }
        _ => return None,
    };
    (length == text.len() + 1).then_some(text)
}

/// Kryo's number of the class `java.lang.String`.
const KRYO5_STRING: u8 = 3;

#[cfg(test)]
mod tests;
