//! Query parameters as a `:path` spells them: where each begins and ends, which of the few names we know it has, and
//! percent-decoding. It splits at `&` only and changes nothing; what a parameter means is decided by its readers.

use std::borrow::Cow;

/// The names that matter to this plugin. They are compared after percent-decoding, with `+` read as a space, and
/// case-sensitively, as WeChat does: `Access_Token` is just another parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// `access_token`.
    AccessToken,
    /// `component_access_token`, `suite_access_token`, `provider_access_token`: another kind of token.
    ForeignToken,
    /// `from_appid`: the caller names the app.
    FromAppid,
    /// Credentials that we neither set nor read, but must not let into a log.
    Secret,
    /// Everything else.
    Other,
}

impl Name {
    /// Whether the parameter's value must not be logged.
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Name::AccessToken | Name::ForeignToken | Name::Secret)
    }

    fn of(name: &[u8]) -> Name {
        match name {
            b"access_token" => Name::AccessToken,
            b"component_access_token" | b"suite_access_token" | b"provider_access_token" => {
                Name::ForeignToken
            }
            b"from_appid" => Name::FromAppid,
            b"secret" | b"appsecret" | b"corpsecret" | b"refresh_token" => Name::Secret,
            _ => Name::Other,
        }
    }

    /// As `of`, for a name with `%` or `+` in it. Decodes on the stack; a name longer than the longest known is `Other`.
    fn of_encoded(name: &[u8]) -> Name {
        let mut buffer = [0; LONGEST_NAME];
        let mut free = buffer.iter_mut();
        let mut length = 0;
        for byte in Decoded(name) {
            let Some(place) = free.next() else {
                return Name::Other;
            };
            *place = byte;
            length += 1;
        }
        buffer.get(..length).map_or(Name::Other, Name::of)
    }
}

/// One parameter of a query, without its separators.
#[derive(Clone, Copy)]
pub(super) struct Param<'a> {
    /// Offset of its first byte in the raw `:path`.
    pub(super) start: usize,
    /// Offset behind its last byte.
    pub(super) end: usize,
    /// Which known name it has.
    pub(super) name: Name,
    /// All of it, as it was sent.
    pub(super) raw: &'a [u8],
    /// The name as it was sent.
    pub(super) raw_name: &'a [u8],
    /// What stands behind the first `=`, as it was sent; empty if there is no `=`.
    pub(super) value: &'a [u8],
}

/// The parameters of a query in order, empty ones (`a&&b`) included; ends before `#`. An empty query has one empty
/// parameter.
pub(super) struct Params<'a> {
    raw: &'a [u8],
    at: usize,
    done: bool,
}

impl<'a> Params<'a> {
    /// The parameters of the query that begins at offset `at` of `raw`, behind the `?`.
    pub(super) fn new(raw: &'a [u8], at: usize) -> Params<'a> {
        Params {
            raw,
            at,
            done: false,
        }
    }

    /// No parameters at all, for a path without a query.
    pub(super) fn none() -> Params<'static> {
        Params {
            raw: &[],
            at: 0,
            done: true,
        }
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        if self.done {
            return None;
        }
        let rest = self.raw.get(self.at..)?;
        let mut encoded = false;
        let name_length = rest
            .iter()
            .position(|&byte| {
                encoded |= byte == b'%' || byte == b'+';
                byte == b'=' || byte == b'&' || byte == b'#'
            })
            .unwrap_or(rest.len());
        let (raw_name, tail) = rest.split_at(name_length);
        let (value, length) = match tail.split_first() {
            Some((b'=', tail)) => {
                let value_length = tail
                    .iter()
                    .position(|&byte| byte == b'&' || byte == b'#')
                    .unwrap_or(tail.len());
                let value = tail.get(..value_length).unwrap_or_default();
                (value, name_length + 1 + value_length)
            }
            _ => (<&[u8]>::default(), name_length),
        };
        let start = self.at;
        let end = start + length;
        self.done = self.raw.get(end) != Some(&b'&');
        self.at = end + 1;
        Some(Param {
            start,
            end,
            name: if encoded {
                Name::of_encoded(raw_name)
            } else {
                Name::of(raw_name)
            },
            raw: rest.get(..length).unwrap_or_default(),
            raw_name,
            value,
        })
    }
}

/// Percent-decoding with `+` as a space; an incomplete or wrong escape stands for itself.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = match *self.0 {
            [] => return None,
            [b'+', ref rest @ ..] => (b' ', rest),
            [b'%', high, low, ref rest @ ..] => match escape(high, low) {
                Some(byte) => (byte, rest),
                None => (b'%', self.0.get(1..).unwrap_or_default()),
            },
            [byte, ref rest @ ..] => (byte, rest),
        };
        self.0 = rest;
        Some(byte)
    }
}

/// The value of a parameter, decoded; borrowed if there was nothing to decode.
pub(super) fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.iter().any(|&byte| byte == b'%' || byte == b'+') {
        Cow::Owned(Decoded(raw).collect())
    } else {
        Cow::Borrowed(raw)
    }
}

/// The byte that `%` + `high` + `low` stands for, if both are hexadecimal digits.
pub(crate) fn escape(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(high)? * 16 + digit(low)?;
    u8::try_from(value).ok()
}

/// Appends `text` with everything outside RFC 3986's unreserved characters percent-encoded.
pub(crate) fn encode(text: &[u8], out: &mut Vec<u8>) {
    // A fold without early exit: no branch for each byte of a long token.
    if text
        .iter()
        .fold(true, |all, &byte| all & is_unreserved(byte))
    {
        out.extend_from_slice(text);
        return;
    }
    let digit = |value: u8| match value {
        0..=9 => b'0' + value,
        _ => b'A' + (value - 10),
    };
    for &byte in text {
        if is_unreserved(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The length of `component_access_token`.
const LONGEST_NAME: usize = 22;
