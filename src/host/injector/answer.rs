//! The answers to requests that left with a token: did WeChat reject it?
//!
//! The headers of an answer that can be a rejection are held until the first bytes of its body are seen, so that a mark
//! can still be set on them: Envoy's retry policy sends a marked request again.

use log::{error, warn};

use super::counts::Count;
use super::Injector;
use crate::host::slot::tell;
use crate::host::stream::{Carried, Stream};
use crate::host::{Flow, Headers, Host};
use crate::message::Message;
use crate::wechat::sniff::{look, worth_looking, Sniff, LIMIT};

const RETRY_HEADER: &str = "x-wechat-token-retry";
/// An answer whose headers are held is let go after this many ticks (about a second), whatever its body does.
const MOST_HELD_TICKS: u64 = 4;
/// So many held answers without a body callback, and never one with: Envoy does not deliver bodies while headers are
/// held, because the filter's configuration lacks `allow_on_headers_stop_iteration`.
const BLIND_ANSWERS: u32 = 3;

/// Whether answers are looked at.
pub(super) struct Watch {
    pub(super) is_on: bool,
    pub(super) is_proven: bool,
    pub(super) blind: u32,
}

impl Injector {
    /// The answer's headers have come.
    pub fn handle_response<H: Host>(&mut self, host: &H, stream: u32, end: bool) -> Flow {
        let Some(Stream::Injected(carried)) = self.streams.get(&stream).copied() else {
            return Flow::Continue;
        };
        let mut next = Stream::Done;
        if self.watch.is_on && !end {
            let kind = host.header(Headers::Response, "content-type");
            let length = host.header(Headers::Response, "content-length");
            // WeChat sends its errors with status 200, so the status tells nothing and is not read.
            if worth_looking(b"200", kind.as_deref(), length.as_deref()) {
                next = Stream::Held {
                    carried,
                    since_tick: self.ticks,
                };
            }
        }
        self.streams.insert(stream, next);
        if next == Stream::Done {
            Flow::Continue
        } else {
            Flow::Hold
        }
    }

    /// A piece of the answer's body has come.
    pub fn handle_response_body<H: Host>(&mut self, host: &H, stream: u32, end: bool) -> Flow {
        let Some(Stream::Held { carried, .. }) = self.streams.get(&stream).copied() else {
            return Flow::Continue;
        };
        self.watch.is_proven = true;
        let verdict = look(&host.response_body(LIMIT), end);
        if verdict == Sniff::NeedMore {
            return Flow::Hold;
        }
        self.streams.insert(stream, Stream::Done);
        if let Sniff::Rejected(_) = verdict {
            self.note_rejected(host, carried);
        }
        Flow::Continue
    }

    fn note_rejected<H: Host>(&mut self, host: &H, carried: Carried) {
        self.counts.add(carried.app, Count::Rejected);
        let Some(view) = self.views.get_mut(carried.app) else {
            return;
        };
        if carried.generation > view.rejected {
            view.rejected = carried.generation;
        }
        if let (Some(holder), Some(app)) = (view.holder, self.config.apps.get(carried.app)) {
            if carried.generation == view.generation && view.settled < carried.generation {
                let generation = carried.generation;
                tell(
                    host,
                    holder.slot,
                    &Message::Rejected {
                        appid: app.appid.clone(),
                        generation,
                    }
                    .encode(),
                );
            }
        }
        if !carried.is_resend
            && host
                .set_header(Headers::Response, RETRY_HEADER, b"1")
                .is_err()
        {
            warn!("event=answer_not_marked");
        }
    }

    pub(super) fn let_held_go<H: Host>(&mut self, host: &H) {
        let ticks = self.ticks;
        let stuck: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, stream)| {
                matches!(stream, Stream::Held { since_tick, .. } if ticks - since_tick > MOST_HELD_TICKS)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in stuck {
            self.streams.insert(id, Stream::Done);
            host.focus(id);
            let _ = host.resume_response();
            if self.watch.is_proven || !self.watch.is_on {
                continue;
            }
            self.watch.blind += 1;
            if self.watch.blind >= BLIND_ANSWERS {
                self.watch.is_on = false;
                error!(
                    "event=watch_off problem=\"no body arrives while headers are held: set \
                     allow_on_headers_stop_iteration: true beside vm_config, or watch: false\""
                );
            }
        }
    }
}
