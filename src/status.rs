//! What an operator sees of the tokens: a page, the same as JSON, and an answer for probes. Never a token or a secret.
//!
//! It tells what lies in shared data: each app's record, its holder's heartbeat, and the [`Note`] in which the holder
//! writes what became of its calls. Whoever answers needs nothing else, so every worker can.

mod note;
#[cfg(test)]
mod tests;
mod view;

use serde::Serialize;

pub use self::note::{note_key, Failed, Note, Refreshed, Store};
use self::view::Status;
use crate::config::Config;
use crate::record::AppRecord;
use crate::time::{Millis, UnixMillis};

/// The page: it fetches [`Page::Json`] and shows it.
const HTML: &str = include_str!("status/page.html");

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/`: for people.
    Html,
    /// `/status.json`: everything.
    Json,
    /// `/ready`: 200 when every app has a live token, else 503. With `on_bad_app: skip` an app that nobody keeps is no hindrance.
    Ready,
}

/// What lies in shared data of one app.
#[derive(Debug, Default)]
pub struct Seen {
    /// Its record.
    pub record: AppRecord,
    /// What the holder noted.
    pub note: Note,
    /// The holder's last sign of life.
    pub last_beat: Option<Millis>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: String,
}

impl Page {
    /// Which page a path is, whatever its query; `None` for what is somebody else's.
    pub fn of(path: &[u8]) -> Option<Page> {
        let end = path.iter().position(|byte| *byte == b'?');
        match path.get(..end.unwrap_or(path.len()))? {
            b"/" => Some(Page::Html),
            b"/status.json" => Some(Page::Json),
            b"/ready" => Some(Page::Ready),
            _ => None,
        }
    }

    /// The answer. `see` looks an app up in shared data, by its appid.
    pub fn answer(
        self,
        method: &[u8],
        config: &Config,
        now: Millis,
        wall: UnixMillis,
        see: impl Fn(&str) -> Seen,
    ) -> Answer {
        if !is_read(method) {
            return Answer {
                status: 405,
                headers: &[("allow", "GET, HEAD")],
                body: String::new(),
            };
        }
        let status = || Status::new(config, now, wall, &see);
        match self {
            Page::Html => Answer {
                status: 200,
                headers: &HTML_HEADERS,
                body: HTML.to_owned(),
            },
            Page::Json => json(200, &status()),
            Page::Ready => {
                let status = status();
                let probe = Probe {
                    ready: status.ready,
                    without_token: status.without_token().collect(),
                };
                json(if probe.ready { 200 } else { 503 }, &probe)
            }
        }
    }
}

/// Whether a method only reads; for others there is no answer but a refusal.
pub fn is_read(method: &[u8]) -> bool {
    method == b"GET" || method == b"HEAD"
}

const HTML_HEADERS: [(&str, &str); 4] = [
    ("content-type", "text/html; charset=utf-8"),
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        // The hashes of the page's own style and script: no other runs.
        "default-src 'none'; style-src 'sha256-WQoP5AshfLaXr36VL+jWTJ+mp3byZTy51a3cDiPpKZs='; script-src 'sha256-N/4vlGQwzMEYFgH7ygJOk1pGSaOonre/+FrlugpyGT0='; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
];
const JSON_HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/json"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
];

fn json(status: u16, body: &impl Serialize) -> Answer {
    Answer {
        status,
        headers: &JSON_HEADERS,
        // Only maps whose keys are no texts cannot be written, and there is none.
        body: serde_json::to_string(body).unwrap_or_default(),
    }
}

/// The answer to a probe.
#[derive(Serialize)]
struct Probe<'a> {
    ready: bool,
    without_token: Vec<&'a str>,
}
