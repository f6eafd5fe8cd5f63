//! A bounded look at an answer: did WeChat reject the token?
//!
//! WeChat reports errors with status 200 and a small JSON object, and the plugin sees bodies in chunks cut anywhere.
//! [`worth_looking`] sorts out by the headers what cannot be such an error, [`look`] reads the first bytes and says
//! [`Sniff::NeedMore`] as long as it cannot tell. It is no JSON parser: it finds the first `errcode` at the top level or
//! directly inside `base_resp`, skips everything else and allocates nothing. A key spelt with escapes is not
//! recognised (WeChat writes none), and what stands behind [`LIMIT`] is not seen. A compressed answer is not looked at.

#[cfg(test)]
mod tests;

use super::errcode::{self, OnCall};

/// How many bytes of an answer are looked at. Real error objects have about 150.
pub const LIMIT: usize = 512;

/// A JSON body that says it is longer than this is no error object.
const LONGEST_ERROR: u64 = 2_048;

/// What the bytes seen so far say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// The token was rejected, with this errcode.
    Rejected(i64),
    /// WeChat saw no token (41001): the injection did not happen, or something on the way undid it.
    Missing,
    /// Whatever this is, it is not a rejected token.
    No,
    /// Cannot tell yet; never said once [`LIMIT`] bytes or the end were given.
    NeedMore,
}

/// The headers of an answer that tell whether it can be an error object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerHead<'a> {
    /// `:status`.
    pub status: &'a [u8],
    /// `content-type`.
    pub content_type: Option<&'a [u8]>,
    /// `content-length`.
    pub content_length: Option<&'a [u8]>,
    /// `content-encoding`.
    pub content_encoding: Option<&'a [u8]>,
}

impl<'a> AnswerHead<'a> {
    /// Picks them out of all headers.
    pub fn of(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> AnswerHead<'a> {
        let mut head = AnswerHead::default();
        for (name, value) in headers {
            match name {
                b":status" => head.status = value,
                b"content-type" => head.content_type = Some(value),
                b"content-length" => head.content_length = Some(value),
                b"content-encoding" => head.content_encoding = Some(value),
                _ => {}
            }
        }
        head
    }
}

/// Whether an answer with these headers can be a rejected token: status 200 (WeChat's errors have it), not compressed,
/// JSON or text (WeChat often labels errors `text/plain`) or nothing said, and not longer than an error object is.
pub fn worth_looking(head: &AnswerHead<'_>) -> bool {
    head.status == b"200"
        && head
            .content_encoding
            .is_none_or(|encoding| encoding.eq_ignore_ascii_case(b"identity"))
        && head.content_type.is_none_or(may_hold_json)
        && head
            .content_length
            .and_then(number)
            .is_none_or(|length| (1..=LONGEST_ERROR).contains(&length))
}

/// Looks at `prefix`, the first bytes of an answer; `end` says that there are no more (also known when
/// `content-length` bytes have come).
pub fn look(prefix: &[u8], end: bool) -> Sniff {
    let head = prefix.get(..LIMIT).unwrap_or(prefix);
    let is_last = end || prefix.len() >= LIMIT;
    if is_last && !mentions_errcode(head) {
        return Sniff::No;
    }
    match first_errcode(head) {
        Ok(Some(code)) => match errcode::on_call(code) {
            OnCall::Rejected => Sniff::Rejected(code),
            OnCall::Missing => Sniff::Missing,
            OnCall::Caller => Sniff::No,
        },
        Ok(None) | Err(Stop::Malformed) => Sniff::No,
        Err(Stop::Cut) if is_last => Sniff::No,
        Err(Stop::Cut) => Sniff::NeedMore,
    }
}

fn may_hold_json(content_type: &[u8]) -> bool {
    let essence = content_type
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let ends_with_json = essence
        .len()
        .checked_sub(4)
        .and_then(|at| essence.get(at..))
        .is_some_and(|tail| tail.eq_ignore_ascii_case(b"json"));
    ends_with_json
        || TEXT_TYPES
            .iter()
            .any(|known| essence.eq_ignore_ascii_case(known))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Whether `errcode` stands anywhere in `head`: Horspool's search, which looks at about one byte in seven. Most good
/// answers do not have the word, and need no parsing then.
fn mentions_errcode(head: &[u8]) -> bool {
    const WORD: &[u8] = b"errcode";
    let mut at = WORD.len() - 1;
    while let Some(byte) = head.get(at) {
        // The byte stands where the word may end; if it is another letter of it, the end is that much further on.
        let shift = match byte {
            b'e' => {
                let start = (at + 1).saturating_sub(WORD.len());
                if head.get(start..=at) == Some(WORD) {
                    return true;
                }
                6
            }
            b'd' => 1,
            b'o' => 2,
            b'c' => 3,
            b'r' => 4,
            _ => WORD.len(),
        };
        at += shift;
    }
    false
}

/// Why reading stopped before an answer was found.
enum Stop {
    /// The bytes ended in the middle.
    Cut,
    /// This is not a JSON object.
    Malformed,
}

/// The value of the first `errcode` at the top level or in `base_resp`; `None` when there is none or it is no integer.
fn first_errcode(document: &[u8]) -> Result<Option<i64>, Stop> {
    let mut at = Cursor(document);
    at.expect(b'{')?;
    let mut in_base_resp = false;
    loop {
        match at.next_token()? {
            b',' => {}
            b'}' if in_base_resp => in_base_resp = false,
            b'}' => return Ok(None),
            b'"' => {
                let key = at.string()?;
                at.expect(b':')?;
                at.skip_space();
                if key == b"errcode" {
                    return at.integer();
                } else if key == b"base_resp" && !in_base_resp && at.0.first() == Some(&b'{') {
                    at.expect(b'{')?;
                    in_base_resp = true;
                } else {
                    at.skip_value()?;
                }
            }
            _ => return Err(Stop::Malformed),
        }
    }
}

/// What is left of the bytes.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bump(&mut self) -> Result<u8, Stop> {
        let (&byte, rest) = self.0.split_first().ok_or(Stop::Cut)?;
        self.0 = rest;
        Ok(byte)
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// The next byte that is not white space.
    fn next_token(&mut self) -> Result<u8, Stop> {
        self.skip_space();
        self.bump()
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Stop> {
        if self.next_token()? == wanted {
            Ok(())
        } else {
            Err(Stop::Malformed)
        }
    }

    /// What stands between the quotes, escapes as they are; the opening quote has been read.
    fn string(&mut self) -> Result<&'a [u8], Stop> {
        let whole = self.0;
        loop {
            let length = self
                .0
                .iter()
                .position(|&byte| byte == b'"' || byte == b'\\')
                .ok_or(Stop::Cut)?;
            self.0 = self.0.get(length..).unwrap_or_default();
            if self.bump()? == b'"' {
                let content = whole.len() - self.0.len() - 1;
                return Ok(whole.get(..content).unwrap_or_default());
            }
            self.bump()?;
        }
    }

    /// A number or literal, up to the byte that ends it, which is left.
    fn scalar(&mut self) -> Result<&'a [u8], Stop> {
        let length = self
            .0
            .iter()
            .position(|&byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))
            .ok_or(Stop::Cut)?;
        let (scalar, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(scalar)
    }

    /// A number, or a string with a number in it; `None` for any other value.
    fn integer(&mut self) -> Result<Option<i64>, Stop> {
        let text = match self.0.first().ok_or(Stop::Cut)? {
            b'"' => {
                self.bump()?;
                self.string()?
            }
            b'{' | b'[' => return Ok(None),
            _ => self.scalar()?,
        };
        Ok(std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok()))
    }

    fn skip_value(&mut self) -> Result<(), Stop> {
        let mut depth = 0_usize;
        match self.0.first().ok_or(Stop::Cut)? {
            b'"' | b'{' | b'[' => {}
            _ => return self.scalar().map(|_| ()),
        }
        loop {
            match self.bump()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// Types besides `…json` under which WeChat sends JSON.
const TEXT_TYPES: &[&[u8]] = &[b"text/plain", b"text/javascript", b"application/javascript"];
