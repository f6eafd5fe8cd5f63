//! The `access_token` parameter of a `:path`: found, replaced and kept out of logs.
//!
//! [`scan`] reads a `:path` once and says what its query carries; [`inject`] writes the path with our token in it,
//! [`strip`] the path without the parameters that only this plugin reads, [`redact`] the path as a log may show it. They
//! exist because Envoy has no notion of a query that could be edited: a path is bytes, and a caller's order, encoding
//! and empty parameters must survive, since callers sign what they send. An attempt that Envoy resends comes back with
//! the first attempt's token in its path, so rewriting is idempotent: `inject(inject(p, a), b) == inject(p, b)`.
//!
//! Paths are bytes, not text: they may hold anything. Nothing here decides whether a request gets a token (that is
//! `route`), and nothing but the output buffer is allocated, unless a value that is asked for is percent-encoded.

mod params;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use params::{decode, Name, Params};
pub(crate) use params::{encode, escape};

/// What one pass over a `:path` found.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    raw: &'a [u8],
    /// Offset of the first `?` or `#`, or the length.
    path_end: usize,
    /// Offset behind the query (of `#`, or the length); `path_end` if there is no query.
    query_end: usize,
    has_query: bool,
    is_plain: bool,
    /// Offsets of the first `access_token` parameter.
    token: Option<(usize, usize)>,
    /// There is a second `access_token`, or a `from_appid`: more than one place changes.
    has_more_to_edit: bool,
    caller_tokens: CallerTokens,
    has_foreign_token: bool,
    carries_secret: bool,
    from_appid: NamedApp<'a>,
}

/// Whether a path carries `access_token` parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerTokens {
    /// None at all.
    None,
    /// Only ones without a value (`access_token=`), which name no token.
    Empty,
    /// At least one with a value; [`Scan::token_values`] lists them.
    Values,
}

/// Which app the caller names, in `from_appid` parameters or `x-wechat-appid` headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedApp<'a> {
    /// There is none.
    Absent,
    /// One value, decoded, possibly empty and possibly written more than once.
    One(Cow<'a, [u8]>),
    /// Several different values.
    Conflict,
}

impl<'a> NamedApp<'a> {
    /// One more value was found.
    pub fn add(&mut self, value: Cow<'a, [u8]>) {
        match self {
            NamedApp::Absent => *self = NamedApp::One(value),
            NamedApp::One(known) if *known != value => *self = NamedApp::Conflict,
            NamedApp::One(_) | NamedApp::Conflict => {}
        }
    }
}

/// Reads `path`, the value of `:path`: once, allocating only for a percent-encoded `from_appid`.
pub fn scan(path: &[u8]) -> Scan<'_> {
    let (path_end, is_plain) = measure(path);
    let has_query = path.get(path_end) == Some(&b'?');
    let mut scan = Scan {
        raw: path,
        path_end,
        query_end: path_end,
        has_query,
        is_plain,
        token: None,
        has_more_to_edit: false,
        caller_tokens: CallerTokens::None,
        has_foreign_token: false,
        carries_secret: false,
        from_appid: NamedApp::Absent,
    };
    if has_query {
        for param in Params::new(path, path_end + 1) {
            scan.query_end = param.end;
            if param.name == Name::Other {
                continue;
            }
            scan.carries_secret |= param.name.is_secret() && !param.value.is_empty();
            match param.name {
                Name::AccessToken => scan.note_token((param.start, param.end), param.value),
                Name::FromAppid => scan.note_from_appid(param.value),
                Name::ForeignToken => scan.has_foreign_token = true,
                Name::Secret | Name::Other => {}
            }
        }
    }
    scan
}

impl<'a> Scan<'a> {
    fn note_token(&mut self, place: (usize, usize), value: &[u8]) {
        if self.token.is_some() {
            self.has_more_to_edit = true;
        } else {
            self.token = Some(place);
        }
        if !value.is_empty() {
            self.caller_tokens = CallerTokens::Values;
        } else if self.caller_tokens == CallerTokens::None {
            self.caller_tokens = CallerTokens::Empty;
        }
    }

    fn note_from_appid(&mut self, value: &'a [u8]) {
        self.has_more_to_edit = true;
        self.from_appid.add(decode(value));
    }

    /// The whole `:path` as it was given.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// What stands before `?` and `#`, as it was sent.
    pub fn path(&self) -> &'a [u8] {
        self.raw.get(..self.path_end).unwrap_or_default()
    }

    /// Whether [`Scan::path`] begins with `/` and can be compared as it stands: no escapes, no `;`, no backslash, no
    /// empty or dot segment, nothing outside visible ASCII.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Whether there are `access_token` parameters.
    pub fn caller_tokens(&self) -> CallerTokens {
        self.caller_tokens
    }

    /// The values of the `access_token` parameters, decoded, in order, without the empty ones.
    pub fn token_values(&self) -> impl Iterator<Item = Cow<'a, [u8]>> {
        self.params()
            .filter(|param| param.name == Name::AccessToken && !param.value.is_empty())
            .map(|param| decode(param.value))
    }

    /// Whether a `component_access_token`, `suite_access_token` or `provider_access_token` is there, also an empty one.
    pub fn has_foreign_token(&self) -> bool {
        self.has_foreign_token
    }

    /// What the `from_appid` parameters say.
    pub fn from_appid(&self) -> &NamedApp<'a> {
        &self.from_appid
    }

    /// Whether a log must not show this path: a token or secret with a value is in its query.
    pub fn carries_secret(&self) -> bool {
        self.carries_secret
    }

    fn params(&self) -> Params<'a> {
        if self.has_query {
            Params::new(self.raw, self.path_end + 1)
        } else {
            Params::none()
        }
    }

    fn piece(&self, from: usize, to: usize) -> &'a [u8] {
        self.raw.get(from..to).unwrap_or_default()
    }
}

/// Replaces the content of `out` by the scanned path with `token` in it.
///
/// The token stands where the first `access_token` parameter stood, and any further ones are gone; without one it is
/// appended to the query. `from_appid` parameters are removed. Everything else is kept byte for byte.
pub fn inject(scan: &Scan<'_>, token: &str, out: &mut Vec<u8>) {
    out.clear();
    out.reserve(scan.raw.len() + PARAMETER.len() + token.len() + 1);
    let behind = if scan.has_more_to_edit {
        put_path(scan, out);
        out.push(b'?');
        let query = out.len();
        edit_query(scan, Some(token), out);
        if scan.token.is_none() {
            put_separator(query, out);
            put_token(token, out);
        }
        scan.query_end
    } else if let Some((start, end)) = scan.token {
        out.extend_from_slice(scan.piece(0, start));
        put_token(token, out);
        end
    } else {
        out.extend_from_slice(scan.piece(0, scan.query_end));
        if scan.has_query {
            put_separator(scan.path_end + 1, out);
        } else {
            out.push(b'?');
        }
        put_token(token, out);
        scan.query_end
    };
    out.extend_from_slice(scan.piece(behind, scan.raw.len()));
}

/// Replaces the content of `out` by the scanned path without its `from_appid` parameters, for a request that goes on
/// without a token of ours. A query that held nothing else goes with its `?`.
pub fn strip(scan: &Scan<'_>, out: &mut Vec<u8>) {
    out.clear();
    out.reserve(scan.raw.len());
    if scan.from_appid == NamedApp::Absent {
        out.extend_from_slice(scan.raw);
        return;
    }
    put_path(scan, out);
    out.push(b'?');
    let query = out.len();
    edit_query(scan, None, out);
    if out.len() == query {
        out.pop();
    }
    out.extend_from_slice(scan.piece(scan.query_end, scan.raw.len()));
}

/// Replaces the content of `out` by the scanned path as a log may show it: tokens and secrets keep their names and lose
/// their values. A fragment is dropped, because anything can stand in it and WeChat never sees one.
pub fn redact(scan: &Scan<'_>, out: &mut Vec<u8>) {
    out.clear();
    out.reserve(scan.query_end);
    if !scan.carries_secret {
        out.extend_from_slice(scan.piece(0, scan.query_end));
        return;
    }
    put_path(scan, out);
    let mut separator = b'?';
    for param in scan.params() {
        out.push(separator);
        separator = b'&';
        if param.name.is_secret() && !param.value.is_empty() {
            out.extend_from_slice(param.raw_name);
            out.push(b'=');
        } else {
            out.extend_from_slice(param.raw);
        }
    }
}

/// The length of the path before `?` and `#`, and whether it is plain (see [`Scan::is_plain`]).
fn measure(raw: &[u8]) -> (usize, bool) {
    let mut is_plain = raw.first() == Some(&b'/');
    let mut previous = 0;
    for (at, &byte) in raw.iter().enumerate() {
        match byte {
            b'?' | b'#' => return (at, is_plain && (previous != b'/' || at == 1)),
            b'/' | b'.' => is_plain &= previous != b'/',
            b'%' | b';' | b'\\' | ..=b' ' | 0x7f.. => is_plain = false,
            _ => {}
        }
        previous = byte;
    }
    (raw.len(), is_plain && (previous != b'/' || raw.len() == 1))
}

/// Writes the query's parameters without `from_appid`, and without `access_token` if a token is given: that takes the
/// first one's place.
fn edit_query(scan: &Scan<'_>, token: Option<&str>, out: &mut Vec<u8>) {
    let mut is_first = true;
    for param in scan.params() {
        let replaced = token.filter(|_| param.name == Name::AccessToken);
        let is_dropped = replaced.is_some() && scan.token != Some((param.start, param.end));
        if param.name == Name::FromAppid || is_dropped {
            continue;
        }
        if !is_first {
            out.push(b'&');
        }
        is_first = false;
        match replaced {
            Some(token) => put_token(token, out),
            None => out.extend_from_slice(param.raw),
        }
    }
}

fn put_path(scan: &Scan<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(scan.path());
}

/// Writes `&` unless the query, which begins at offset `query`, is empty or ends with one.
fn put_separator(query: usize, out: &mut Vec<u8>) {
    if out.len() > query && out.last() != Some(&b'&') {
        out.push(b'&');
    }
}

fn put_token(token: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(PARAMETER);
    encode(token.as_bytes(), out);
}

const PARAMETER: &[u8] = b"access_token=";
