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
use crate::wechat::sniff::{look, worth_looking, AnswerHead, Sniff, LIMIT};

const RETRY_HEADER: &str = "x-wechat-token-retry";
/// An answer whose headers are held is let go after this many ticks (about a second), whatever its body does.
const MOST_HELD_TICKS: u64 = 4;
/// So many answers whose body came as soon as their headers were let go, and never one before: Envoy does not deliver
/// bodies while headers are held, because the filter's configuration lacks `allow_on_headers_stop_iteration`. A body that
/// is merely late tells nothing.
const BLIND_ANSWERS: u32 = 3;

/// Whether answers are looked at.
pub(super) struct Watch {
    pub(super) is_on: bool,
    pub(super) is_proven: bool,
    pub(super) blind: u32,
}

impl Injector {
    /// The answer's headers have come; `None` if the stream did not begin here.
    pub fn handle_response<H: Host>(&mut self, host: &H, stream: u32, end: bool) -> Option<Flow> {
        let state = self.streams.get_mut(&stream)?;
        let Stream::Injected(carried) = *state else {
            return Some(Flow::Continue);
        };
        *state = Stream::Idle;
        let is_worth = self.watch.is_on
            && !end
            && worth_looking(&AnswerHead::of(host.headers(Headers::Response).pairs()));
        if !is_worth {
            self.count_resent(&carried, Count::ResentOk);
            return Some(Flow::Continue);
        }
        *state = Stream::Held {
            carried,
            since_tick: self.ticks,
        };
        Some(Flow::Hold)
    }

    /// A piece of the answer's body has come; `None` if the stream did not begin here.
    pub fn handle_response_body<H: Host>(
        &mut self,
        host: &H,
        stream: u32,
        end: bool,
    ) -> Option<Flow> {
        let state = self.streams.get_mut(&stream)?;
        let carried = match *state {
            Stream::Held { carried, .. } => carried,
            Stream::LetGo { at_tick } => {
                *state = Stream::Idle;
                if at_tick == self.ticks {
                    self.watch.note_blind();
                }
                return Some(Flow::Continue);
            }
            _ => return Some(Flow::Continue),
        };
        self.watch.is_proven = true;
        let verdict = look(&host.response_body(LIMIT), end);
        if verdict == Sniff::NeedMore {
            return Some(Flow::Hold);
        }
        *state = Stream::Idle;
        let resent = match verdict {
            Sniff::Rejected(_) => Count::ResentRejected,
            Sniff::Missing | Sniff::No | Sniff::NeedMore => Count::ResentOk,
        };
        self.count_resent(&carried, resent);
        match verdict {
            Sniff::Rejected(_) => self.note_rejected(host, carried),
            Sniff::Missing => self.counts.add(carried.app, Count::Missing),
            Sniff::No | Sniff::NeedMore => {}
        }
        Some(Flow::Continue)
    }

    /// Counts what became of a request, if it was sent again.
    pub(super) fn count_resent(&mut self, carried: &Carried, count: Count) {
        if carried.is_resend {
            self.counts.add(carried.app, count);
        }
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
            if !view.is_dealt_with(carried.generation, host.now()) {
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
        let stuck: Vec<(u32, Carried)> = self
            .streams
            .iter()
            .filter_map(|(id, stream)| match stream {
                Stream::Held {
                    carried,
                    since_tick,
                } if ticks - since_tick > MOST_HELD_TICKS => Some((*id, *carried)),
                _ => None,
            })
            .collect();
        for (id, carried) in stuck {
            self.count_resent(&carried, Count::ResentOk);
            self.streams.insert(id, Stream::LetGo { at_tick: ticks });
            host.focus(id);
            let _ = host.resume_response();
        }
    }
}

impl Watch {
    /// The body of a held answer was there, and Envoy did not show it.
    fn note_blind(&mut self) {
        if self.is_proven || !self.is_on {
            return;
        }
        self.blind += 1;
        if self.blind >= BLIND_ANSWERS {
            self.is_on = false;
            error!(
                "event=watch_off problem=\"no body arrives while headers are held: set \
                 allow_on_headers_stop_iteration: true beside vm_config, or watch: false\""
            );
        }
    }
}
