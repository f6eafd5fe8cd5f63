//! The root of the status page: a filter on a listener for operators. It answers its own paths and lets all others go on.
//!
//! It has no slot, no secret and no ticks: it reads shared data when somebody asks, and nothing else.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::config::Config;
use crate::host::slot::holder_beat;
use crate::host::{Flow, Headers, Host};
use crate::record::{app_key, AppRecord};
use crate::status::{note_key, Note, Page, Seen};

/// The requests to the status page.
pub struct Pages {
    config: Rc<Config>,
    streams: BTreeSet<u32>,
}

impl Pages {
    /// The pages of the apps of `config`.
    pub fn new(config: Rc<Config>) -> Pages {
        Pages {
            config,
            streams: BTreeSet::new(),
        }
    }

    /// A stream begins.
    pub fn handle_begin(&mut self, stream: u32) {
        self.streams.insert(stream);
    }

    /// The request's headers have come; `None` if the stream did not begin here.
    pub fn handle_request<H: Host>(&self, host: &H, stream: u32) -> Option<Flow> {
        self.streams.get(&stream)?;
        let headers = host.headers(Headers::Request);
        let Some(page) = headers.value(":path").and_then(Page::of) else {
            return Some(Flow::Continue);
        };
        let method = headers.value(":method").unwrap_or_default();
        let see = |appid: &str| see(host, appid);
        let answer = page.answer(method, &self.config, host.now(), host.wall(), see);
        let sent = host.local_reply(answer.status, answer.headers, answer.body.as_bytes());
        Some(match sent {
            Ok(()) => Flow::HoldAll,
            Err(_) => Flow::Continue,
        })
    }

    /// The request is over; `None` if the stream did not begin here.
    pub fn handle_end(&mut self, stream: u32) -> Option<()> {
        self.streams.remove(&stream).then_some(())
    }
}

fn see<H: Host>(host: &H, appid: &str) -> Seen {
    let read = |key: &str| host.shared(key).map(|(bytes, _)| bytes);
    let record = read(&app_key(appid)).and_then(|bytes| AppRecord::decode(&bytes));
    let note = read(&note_key(appid)).and_then(|bytes| Note::decode(&bytes));
    let record = record.unwrap_or_default();
    Seen {
        last_beat: holder_beat(host, &record.holder),
        note: note.unwrap_or_default(),
        record,
    }
}
