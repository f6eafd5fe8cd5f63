//! RESP2, the protocol of Redis: commands as bytes, and replies from bytes.
//!
//! Both sides are plain data. The decoder is total: whatever a peer sends becomes replies, a [`RespError`], or both (the
//! replies before it); it reads at most [`MAX_REPLY`] bytes and never allocates more than a few times what it was given.
//! RESP3 is not spoken: without `HELLO 3` no server uses it.
//!
//! Source: the Redis serialization protocol specification.

use std::fmt;

/// Longest answer that is read; the longest honest one is below 8 KiB.
pub const MAX_REPLY: usize = 64 * 1024;
/// Replies within replies; a script's answer has one level.
const MAX_DEPTH: usize = 4;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`.
    Simple(String),
    /// `-ERR …`: Redis refuses; the first word is its code.
    Error(String),
    /// `:1`.
    Integer(i64),
    /// `$3`: bytes.
    Bulk(Vec<u8>),
    /// `$-1` or `*-1`: there is none.
    Nil,
    /// `*2`: replies.
    Array(Vec<Reply>),
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RespError {
    /// It ends in the middle of a reply.
    Truncated,
    /// It is not RESP2.
    Malformed,
    /// It is longer than [`MAX_REPLY`], or deeper than anything that was asked for.
    TooLarge,
}

impl RespError {
    /// The same in words.
    pub fn words(self) -> &'static str {
        match self {
            RespError::Truncated => "the answer broke off",
            RespError::Malformed => "the answer is not RESP",
            RespError::TooLarge => "the answer is longer than 64 KiB",
        }
    }
}

impl fmt::Display for RespError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for RespError {}

/// Adds a command to `pipeline`: an array of bulk strings. It may hold a password or a token, so it is never printed.
pub fn push_command(pipeline: &mut Vec<u8>, words: &[&[u8]]) {
    push_head(pipeline, b'*', words.len());
    for word in words {
        push_head(pipeline, b'$', word.len());
        pipeline.extend_from_slice(word);
        pipeline.extend_from_slice(b"\r\n");
    }
}

/// The replies in `bytes`, in their order; what is wrong, if anything is, comes after the last whole one.
pub fn decode(bytes: &[u8]) -> (Vec<Reply>, Option<RespError>) {
    if bytes.len() > MAX_REPLY {
        return (Vec::new(), Some(RespError::TooLarge));
    }
    let mut rest = Rest(bytes);
    let mut replies = Vec::new();
    while !rest.0.is_empty() {
        match rest.reply(MAX_DEPTH) {
            Ok(reply) => replies.push(reply),
            Err(error) => return (replies, Some(error)),
        }
    }
    (replies, None)
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn reply(&mut self, depth: usize) -> Result<Reply, RespError> {
        if depth == 0 {
            return Err(RespError::TooLarge);
        }
        let (kind, line) = self.line()?.split_first().ok_or(RespError::Malformed)?;
        match kind {
            b'+' => Ok(Reply::Simple(text(line))),
            b'-' => Ok(Reply::Error(text(line))),
            b':' => number(line).map(Reply::Integer),
            b'$' => match count(line)? {
                None => Ok(Reply::Nil),
                Some(length) => self.bulk(length).map(Reply::Bulk),
            },
            b'*' => match count(line)? {
                None => Ok(Reply::Nil),
                // Not reserved: the count is the peer's word, the bytes are its deed.
                Some(count) => (0..count)
                    .map(|_| self.reply(depth - 1))
                    .collect::<Result<_, _>>()
                    .map(Reply::Array),
            },
            _ => Err(RespError::Malformed),
        }
    }

    /// Up to the next CRLF, which is taken too.
    fn line(&mut self) -> Result<&'a [u8], RespError> {
        let end = self.0.windows(2).position(|pair| pair == b"\r\n");
        let (line, rest) = end
            .and_then(|end| self.0.split_at_checked(end))
            .ok_or(RespError::Truncated)?;
        self.0 = rest.get(2..).unwrap_or_default();
        Ok(line)
    }

    fn bulk(&mut self, length: usize) -> Result<Vec<u8>, RespError> {
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(RespError::Truncated)?;
        let (end, rest) = rest.split_at_checked(2).ok_or(RespError::Truncated)?;
        if end != b"\r\n" {
            return Err(RespError::Malformed);
        }
        self.0 = rest;
        Ok(bytes.to_vec())
    }
}

fn push_head(pipeline: &mut Vec<u8>, kind: u8, count: usize) {
    pipeline.push(kind);
    pipeline.extend_from_slice(count.to_string().as_bytes());
    pipeline.extend_from_slice(b"\r\n");
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

fn number(line: &[u8]) -> Result<i64, RespError> {
    std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.parse().ok())
        .ok_or(RespError::Malformed)
}

/// A length, `None` for -1.
fn count(line: &[u8]) -> Result<Option<usize>, RespError> {
    match number(line)? {
        -1 => Ok(None),
        count => match usize::try_from(count) {
            Ok(count) if count <= MAX_REPLY => Ok(Some(count)),
            Ok(_) => Err(RespError::TooLarge),
            Err(_) => Err(RespError::Malformed),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(reply: &Reply, out: &mut Vec<u8>) {
        match reply {
            Reply::Simple(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
            Reply::Error(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
            Reply::Integer(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Reply::Bulk(bytes) => {
                push_head(out, b'$', bytes.len());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Reply::Nil => out.extend_from_slice(b"$-1\r\n"),
            Reply::Array(replies) => {
                push_head(out, b'*', replies.len());
                replies.iter().for_each(|reply| encode(reply, out));
            }
        }
    }

    fn replies() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            "[ -~]{0,40}".prop_map(Reply::Simple),
            "[A-Z]{1,9} [ -~]{0,40}".prop_map(Reply::Error),
            any::<i64>().prop_map(Reply::Integer),
            prop::collection::vec(any::<u8>(), 0..80).prop_map(Reply::Bulk),
            Just(Reply::Nil),
        ];
        leaf.prop_recursive(2, 24, 8, |inner| {
            prop::collection::vec(inner, 0..8).prop_map(Reply::Array)
        })
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut pipeline = Vec::new();
        push_command(&mut pipeline, &[b"SET", b"k\r\n", b""]);
        push_command(&mut pipeline, &[b"TIME"]);
        assert_eq!(
            pipeline,
            b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n*1\r\n$4\r\nTIME\r\n"
        );
    }

    #[test]
    fn what_is_wrong_comes_after_the_whole_replies() {
        let ok = || vec![Reply::Simple("OK".to_owned())];
        let deep = [b"*1\r\n".as_slice(); 5].concat();
        for (bytes, replies, error) in [
            ("", vec![], None),
            ("+OK\r\n", ok(), None),
            ("*-1\r\n", vec![Reply::Nil], None),
            ("*0\r\n", vec![Reply::Array(vec![])], None),
            ("+OK\r\n$3\r\nab", ok(), Some(RespError::Truncated)),
            ("+OK\r\n$3\r\nabc\r", ok(), Some(RespError::Truncated)),
            ("+OK\r\n*2\r\n:1\r\n", ok(), Some(RespError::Truncated)),
            ("+OK\r\n+O", ok(), Some(RespError::Truncated)),
            ("+OK\r\n$3\r\nabcd\r\n", ok(), Some(RespError::Malformed)),
            ("+OK\r\n\r\n", ok(), Some(RespError::Malformed)),
            ("%1\r\n", vec![], Some(RespError::Malformed)),
            (":1x\r\n", vec![], Some(RespError::Malformed)),
            ("$-2\r\n", vec![], Some(RespError::Malformed)),
            ("$65536\r\n", vec![], Some(RespError::Truncated)),
            ("$65537\r\n", vec![], Some(RespError::TooLarge)),
            ("*99999999999\r\n", vec![], Some(RespError::TooLarge)),
            (
                "HTTP/1.1 400 Bad Request\r\n",
                vec![],
                Some(RespError::Malformed),
            ),
        ] {
            assert_eq!(decode(bytes.as_bytes()), (replies, error), "{bytes:?}");
        }
        assert_eq!(decode(&deep).1, Some(RespError::TooLarge));
        assert_eq!(
            decode(&[b"*1\r\n*1\r\n*1\r\n".as_slice(), b":1\r\n"].concat()).1,
            None
        );
    }

    #[test]
    fn what_is_wrong_is_told_in_words() {
        assert_eq!(RespError::Truncated.to_string(), "the answer broke off");
        assert_eq!(RespError::Malformed.to_string(), "the answer is not RESP");
    }

    #[test]
    fn an_answer_of_64_kib_is_read_and_a_longer_one_is_not() {
        let mut bytes = b"$65526\r\n".to_vec();
        bytes.resize(8 + 65_526, b'x');
        bytes.extend_from_slice(b"\r\n");
        assert_eq!(bytes.len(), MAX_REPLY);
        assert_eq!(
            decode(&bytes),
            (vec![Reply::Bulk(vec![b'x'; 65_526])], None)
        );
        bytes.push(b'+');
        assert_eq!(decode(&bytes), (vec![], Some(RespError::TooLarge)));
    }

    proptest! {
        #[test]
        fn replies_come_back_as_they_were(replies in prop::collection::vec(replies(), 0..6)) {
            let mut bytes = Vec::new();
            replies.iter().for_each(|reply| encode(reply, &mut bytes));
            prop_assert_eq!(decode(&bytes), (replies, None));
        }

        #[test]
        fn half_an_answer_is_the_replies_that_are_whole(
            replies in prop::collection::vec(replies(), 1..6),
            cut: prop::sample::Index,
        ) {
            let mut bytes = Vec::new();
            replies.iter().for_each(|reply| encode(reply, &mut bytes));
            let cut = cut.index(bytes.len());
            let (whole, error) = decode(&bytes[..cut]);
            prop_assert_eq!(&whole[..], &replies[..whole.len()]);
            prop_assert!(whole.len() < replies.len());
            prop_assert!(matches!(error, None | Some(RespError::Truncated)), "{:?}", error);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
