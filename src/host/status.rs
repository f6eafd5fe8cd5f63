//! The root of the status page: a filter on a listener for operators. It answers its own paths and lets all others go on.
//!
//! It has no slot, no secret and no ticks: it reads shared data when somebody asks, and nothing else.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crate::config::Config;
use crate::host::slot::holder_beat;
use crate::host::{Flow, Headers, Host};
use crate::record::{app_key, AppRecord};
use crate::status::{is_read, note_key, Answer, Note, Page, Seen};
use crate::time::Millis;

/// How long an answer is given again. With 10,000 apps a new one costs tens of milliseconds of a worker that serves calls of
/// WeChat too, and whoever reaches the listener may ask as often as he likes.
const FRESH: Duration = Duration::from_secs(1);

/// The requests to the status page.
pub struct Pages {
    config: Rc<Config>,
    streams: BTreeSet<u32>,
    /// The last answers, and when they were made.
    made: Vec<(Page, Millis, Answer)>,
}

impl Pages {
    /// The pages of the apps of `config`.
    pub fn new(config: Rc<Config>) -> Pages {
        Pages {
            config,
            streams: BTreeSet::new(),
            made: Vec::new(),
        }
    }

    /// A stream begins.
    pub fn handle_begin(&mut self, stream: u32) {
        self.streams.insert(stream);
    }

    /// The request's headers have come; `None` if the stream did not begin here.
    pub fn handle_request<H: Host>(&mut self, host: &H, stream: u32) -> Option<Flow> {
        self.streams.get(&stream)?;
        let headers = host.headers(Headers::Request);
        let Some(page) = headers.value(":path").and_then(Page::of) else {
            return Some(Flow::Continue);
        };
        let method = headers.value(":method").unwrap_or_default();
        let now = host.now();
        self.made.retain(|(_, at, _)| now.since(*at) < FRESH);
        let known = self.made.iter().position(|(known, ..)| *known == page);
        let (_, at, answer) = match known.filter(|_| is_read(method)) {
            Some(place) => self.made.swap_remove(place),
            None => {
                let see = |appid: &str| see(host, appid);
                let answer = page.answer(method, &self.config, now, host.wall(), see);
                (page, now, answer)
            }
        };
        let sent = host.local_reply(answer.status, answer.headers, answer.body.as_bytes());
        if is_read(method) {
            self.made.push((page, at, answer));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use crate::host::fake::FakeHost;
    use crate::host::Cas;
    use crate::secret::Secret;
    use crate::token::{Generation, Token};

    #[test]
    fn whoever_asks_again_and_again_costs_one_look_in_a_second() {
        let document = br#"{"apps":[{"appid":"wxa"}]}"#;
        let config = Config::parse(document, &|_| None, Role::Status).unwrap();
        let host = FakeHost::new("status", "");
        let mut pages = Pages::new(Rc::new(config));
        let mut ask = |method, stream| {
            host.set_request(&[(":method", method), (":path", "/ready")]);
            pages.handle_begin(stream);
            pages.handle_request(&host, stream);
            pages.handle_end(stream);
            host.0.borrow_mut().replies.pop().unwrap()
        };
        assert_eq!(ask("GET", 1), 503);
        let record = AppRecord {
            term: 1,
            generation: Generation(1),
            token: Some(Token {
                value: Secret::new("t0ken"),
                granted_at: Millis(0),
                deadline: Millis(u64::MAX),
            }),
            ..AppRecord::default()
        };
        let written = host.set_shared(&app_key("wxa"), &record.encode(), Cas::ABSENT);
        assert_eq!(written, Ok(()));
        host.later(FRESH - Duration::from_millis(1));
        assert_eq!(ask("GET", 2), 503);
        assert_eq!(ask("POST", 3), 405);
        host.later(Duration::from_millis(1));
        assert_eq!(ask("HEAD", 4), 200);
        assert_eq!(ask("POST", 5), 405);
        assert_eq!(ask("GET", 6), 200);
    }
}
