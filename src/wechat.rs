//! WeChat's token endpoints on the wire: the request that asks for a token, and what an answer means.
//!
//! [`token_call`] builds the request as plain data, [`parse_token_reply`] reads the answer, whatever came back: WeChat
//! sends errors with status 200, sometimes HTML in GBK, sometimes nothing. Nothing that is printed from here shows a token
//! or a secret. When to call and what to do after a failure is decided elsewhere; `errcode` holds the table for it.

pub mod errcode;
pub mod sniff;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::config::TokenApi;
use crate::json::Node;
use crate::rewrite::encode;
use crate::secret::Secret;
use errcode::OnToken;

/// A request to the token endpoint. Path or body hold the secret, hence no derived `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenCall {
    /// HTTP method.
    pub method: &'static str,
    /// `:path`.
    pub path: String,
    /// Headers besides the pseudo headers; `content-length` where there is a body, since WeChat answers 412 without.
    pub headers: Vec<(&'static str, String)>,
    /// May be empty.
    pub body: Vec<u8>,
}

impl fmt::Debug for TokenCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenCall({} [redacted])", self.method)
    }
}

/// A token as WeChat granted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// 1 to 512 visible ASCII characters.
    pub token: Secret,
    /// What is left of its life, counted from when the call was sent; above zero, at most 30 days.
    pub expires_in: Duration,
}

/// Why a token call brought no token. `Display` gives `key=value` pairs for a log line, without any secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// WeChat said why.
    Errcode {
        /// WeChat's number.
        errcode: i64,
        /// The request id that WeChat's support asks for.
        rid: Option<String>,
        /// The IP that WeChat saw and does not allow.
        refused_ip: Option<String>,
        /// WeChat's words, cleaned: at most 200 characters, no control characters, nothing that looks like a token.
        errmsg: String,
    },
    /// Another status than 200 and no errcode.
    Http(u16),
    /// No answer came; built by the one who made the call.
    Unreachable(&'static str),
    /// The answer makes no sense, and in what way.
    Unreadable(&'static str),
}

impl Failure {
    /// How the refresher goes on.
    pub fn on_token(&self) -> OnToken {
        match self {
            Failure::Errcode { errcode, .. } => errcode::on_token(*errcode),
            Failure::Http(_) | Failure::Unreachable(_) | Failure::Unreadable(_) => {
                OnToken::Transient
            }
        }
    }

    /// WeChat's errcode, if it gave one.
    pub fn errcode(&self) -> Option<i64> {
        match self {
            Failure::Errcode { errcode, .. } => Some(*errcode),
            Failure::Http(_) | Failure::Unreachable(_) | Failure::Unreadable(_) => None,
        }
    }

    /// Whether another Envoy would fail alike, so that its call would only be one more.
    pub fn is_for_all(&self) -> bool {
        self.errcode().is_some_and(errcode::is_for_all)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Errcode {
                errcode,
                rid,
                refused_ip,
                errmsg,
            } => {
                write!(f, "errcode={errcode}")?;
                if let Some(ip) = refused_ip {
                    write!(f, " refused_ip={ip}")?;
                }
                if let Some(rid) = rid {
                    write!(f, " rid={rid}")?;
                }
                match errcode::meaning(*errcode) {
                    Some(meaning) => write!(f, " meaning=\"{meaning}\""),
                    None => write!(f, " errmsg=\"{errmsg}\""),
                }
            }
            Failure::Http(status) => write!(f, "http_status={status}"),
            Failure::Unreachable(problem) => write!(f, "unreachable=\"{problem}\""),
            Failure::Unreadable(problem) => write!(f, "unreadable=\"{problem}\""),
        }
    }
}

impl std::error::Error for Failure {}

/// The body of a call to `stable_token`.
#[derive(Serialize)]
struct StableCall<'a> {
    grant_type: &'a str,
    appid: &'a str,
    secret: &'a str,
    force_refresh: bool,
}

/// The request that asks `api` for a token of `appid`.
pub fn token_call(api: TokenApi, appid: &str, secret: &Secret) -> TokenCall {
    match api {
        TokenApi::Stable => {
            // `force_refresh` has a quota of 20 a day and ends the token that everybody else uses: never.
            let body = serde_json::to_vec(&StableCall {
                grant_type: "client_credential",
                appid,
                secret: secret.expose(),
                force_refresh: false,
            });
            // Texts and a boolean always have a JSON form.
            let body = body.unwrap_or_default();
            TokenCall {
                method: "POST",
                path: "/cgi-bin/stable_token".to_owned(),
                headers: vec![
                    ("content-type", "application/json".to_owned()),
                    ("content-length", body.len().to_string()),
                ],
                body,
            }
        }
        TokenApi::Classic => {
            let mut path = b"/cgi-bin/token?grant_type=client_credential&appid=".to_vec();
            encode(appid.as_bytes(), &mut path);
            path.extend_from_slice(b"&secret=");
            encode(secret.expose().as_bytes(), &mut path);
            TokenCall {
                method: "GET",
                // Only ASCII was written.
                path: String::from_utf8(path).unwrap_or_default(),
                headers: Vec::new(),
                body: Vec::new(),
            }
        }
    }
}

/// Reads the answer to a token call, with the HTTP status `http_status`.
///
/// An errcode is believed under every status; a token only under 200.
pub fn parse_token_reply(http_status: u16, body: &[u8]) -> Result<Grant, Failure> {
    let reply = match parse(body) {
        Ok(reply) => reply,
        Err(_) if http_status != 200 => return Err(Failure::Http(http_status)),
        Err(problem) => return Err(Failure::Unreadable(problem)),
    };
    if let Some(errcode) = reply_errcode(&reply)? {
        if errcode != 0 {
            return Err(errcode_failure(errcode, &reply));
        }
    }
    if http_status != 200 {
        return Err(Failure::Http(http_status));
    }
    grant(&reply).map_err(Failure::Unreadable)
}

/// Whether a text may be a token: 1 to 512 visible ASCII characters.
pub fn is_token(text: &str) -> bool {
    (1..=LONGEST_TOKEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn parse(body: &[u8]) -> Result<Node, &'static str> {
    if body.len() > LONGEST_BODY {
        return Err("body over 64 KiB");
    }
    // A message in GBK must not hide the errcode beside it.
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    match text.chars().next() {
        None => return Err("empty body"),
        Some('<') => return Err("markup instead of json"),
        Some(_) => {}
    }
    match serde_json::from_slice::<Node>(text.as_bytes()) {
        Ok(object @ Node::Object(_)) => Ok(object),
        Ok(_) => Err("not a json object"),
        Err(error) if error.is_eof() => Err("truncated json"),
        Err(_) => Err("not json"),
    }
}

fn reply_errcode(reply: &Node) -> Result<Option<i64>, Failure> {
    let found = reply
        .get("errcode")
        .or_else(|| reply.get("base_resp")?.get("errcode"));
    match found {
        None | Some(Node::Null) => Ok(None),
        Some(value) => match whole(value) {
            Some(code) => Ok(Some(code)),
            None => Err(Failure::Unreadable("errcode is not a number")),
        },
    }
}

fn errcode_failure(errcode: i64, reply: &Node) -> Failure {
    let errmsg = reply
        .get("errmsg")
        .or_else(|| reply.get("base_resp")?.get("errmsg"))
        .and_then(Node::as_text)
        .unwrap_or_default();
    Failure::Errcode {
        errcode,
        rid: rid(errmsg),
        refused_ip: refused_ip(errcode, errmsg),
        errmsg: clean(errmsg),
    }
}

fn grant(reply: &Node) -> Result<Grant, &'static str> {
    let token = match reply.get("access_token") {
        None => return Err("no access_token"),
        Some(token) => token.as_text().ok_or("access_token is not a string")?,
    };
    if !is_token(token) {
        return Err("access_token is not 1 to 512 visible characters");
    }
    let seconds = reply
        .get("expires_in")
        .ok_or("no expires_in")
        .and_then(|value| whole(value).ok_or("expires_in is not a whole number"))?;
    match u64::try_from(seconds) {
        Ok(seconds @ 1..=LONGEST_LIFE_SECONDS) => Ok(Grant {
            token: Secret::new(token),
            expires_in: Duration::from_secs(seconds),
        }),
        _ => Err("expires_in is not between 1 second and 30 days"),
    }
}

/// A whole number, also as `7200.0` or `"7200"`.
fn whole(value: &Node) -> Option<i64> {
    match value {
        // Beyond 2^53 a double no longer tells whole numbers apart.
        Node::Number(number) => {
            (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(*number as i64)
        }
        Node::Text(text) => text.trim().parse().ok(),
        Node::Null | Node::Bool(_) | Node::List(_) | Node::Object(_) => None,
    }
}

/// The id behind `rid: `, as in `invalid ip 1.2.3.4, not in whitelist rid: 5f1a2b3c-0a1b2c3d-4e5f6a7b`.
fn rid(errmsg: &str) -> Option<String> {
    let at = errmsg
        .as_bytes()
        .windows(4)
        .rposition(|part| part == b"rid:")?;
    let behind = errmsg.get(at + 4..)?;
    let rid: String = behind
        .trim_start()
        .chars()
        .take_while(|c| c.is_ascii_hexdigit() || *c == '-')
        .take(LONGEST_RID + 1)
        .collect();
    let is_short = |part: &str| part.len() <= LONGEST_RID_PART;
    ((1..=LONGEST_RID).contains(&rid.len()) && rid.split('-').all(is_short)).then_some(rid)
}

/// The first IP in the message of a code that is about IPs.
fn refused_ip(errcode: i64, errmsg: &str) -> Option<String> {
    if !IP_CODES.contains(&errcode) {
        return None;
    }
    errmsg
        .split(|c: char| c.is_whitespace() || c == ',')
        .map(|word| word.trim_matches('.'))
        .find(|word| is_ip(word))
        .map(str::to_owned)
}

fn is_ip(word: &str) -> bool {
    let count = |wanted| word.bytes().filter(|&byte| byte == wanted).count();
    let fits = |byte: u8| byte.is_ascii_hexdigit() || byte == b'.' || byte == b':';
    word.len() <= LONGEST_IP
        && word.bytes().all(fits)
        && word.bytes().any(|byte| byte.is_ascii_hexdigit())
        && (count(b'.') == 3 || count(b':') >= 2)
}

/// WeChat's words for a log: bounded, without control characters and quotes, and with every run of characters that is
/// long enough to be a secret (32) or a token blanked.
fn clean(errmsg: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in errmsg.chars().filter(|c| !c.is_control()) {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
            run.push(c);
            continue;
        }
        put_run(&mut run, &mut out);
        out.push(if c == '"' || c == '\\' { '\'' } else { c });
    }
    put_run(&mut run, &mut out);
    // Cut last: a token cut short would no longer look like one.
    out.chars().take(LONGEST_MESSAGE).collect()
}

fn put_run(run: &mut String, out: &mut String) {
    out.push_str(if run.len() < SHORTEST_SECRET {
        run
    } else {
        "[redacted]"
    });
    run.clear();
}

/// Codes whose message names the IP.
const IP_CODES: [i64; 6] = [40164, 61004, 89501, 89503, 89506, 89507];

const LONGEST_BODY: usize = 64 * 1024;
const LONGEST_TOKEN: usize = 512;
const LONGEST_LIFE_SECONDS: u64 = 30 * 86_400;
const LONGEST_MESSAGE: usize = 200;
const LONGEST_RID: usize = 64;
/// WeChat's have 8. Secrets are hexadecimal, too, but of one piece: an answer that quotes one here must not get it logged.
const LONGEST_RID_PART: usize = 8;
/// An IPv6 address with an IPv4 tail.
const LONGEST_IP: usize = 45;
const SHORTEST_SECRET: usize = 32;
