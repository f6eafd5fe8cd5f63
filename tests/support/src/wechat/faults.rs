//! Scripted faults: what goes wrong, on which calls, how often or how long.
//!
//! A script is a list. Of the faults that match a call, the first one with an [`Action`] that replaces the reply wins
//! and only it is used up, so that "reset once, then 500 once" is two entries; those that merely change the reply
//! (latency, cuts, half a body, a late body, close) all apply.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// One scripted fault, in JSON such as `{"on":"token","action":{"errcode":{"code":-1}},"times":3}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which calls it hits.
    pub on: Scope,
    /// Only calls of this app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appid: Option<String>,
    /// Only paths that begin so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What goes wrong.
    pub action: Action,
    /// How many calls it hits; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// How long it lasts from the moment it is armed, in milliseconds; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// How many matching calls go well before the first one is hit.
    #[serde(default)]
    pub after: u64,
    /// WeChat does its work (a token is made, the quota is used) and only the reply is lost.
    #[serde(default)]
    pub processed: bool,
}

/// Which calls a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The two token endpoints.
    Token,
    /// Every other endpoint.
    Business,
    /// All of them.
    Any,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// The reply comes late.
    Latency {
        /// By so many milliseconds.
        ms: u64,
    },
    /// No reply ever; the connection stays open until the caller closes it.
    Hang,
    /// The connection is reset (RST).
    Reset,
    /// The connection is closed without a reply.
    Close,
    /// Bytes that are not HTTP, then close.
    Garbage,
    /// A page in `text/html; charset=gbk`, status 200.
    TextHtml,
    /// An empty body, status 200.
    Empty,
    /// This body as `application/json`, status 200.
    Body {
        /// The body.
        text: String,
    },
    /// An HTTP status with a small page.
    Status {
        /// The status, such as 502.
        code: u16,
    },
    /// A WeChat error.
    Errcode {
        /// Its errcode.
        code: i64,
    },
    /// The right reply, of which only a part arrives although Content-Length promises all; then close.
    HalfBody,
    /// The right reply as a chunked body, cut at these positions (bytes from the body's start), each part flushed.
    Cuts {
        /// The positions.
        at: Vec<usize>,
    },
    /// The right reply, its headers at once and its body late.
    Stall {
        /// By so many milliseconds.
        ms: u64,
    },
    /// The right reply; then the connection is closed without having said so.
    KeepaliveClose,
}

/// The armed faults.
#[derive(Debug, Default)]
pub struct Script {
    armed: Vec<Armed>,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    until: Option<Instant>,
    to_skip: u64,
    left: Option<u64>,
}

/// What the script says about one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// How late the reply comes.
    pub latency: Duration,
    /// What replaces the reply.
    pub replace: Option<Action>,
    /// Whether the call does its work although its reply is replaced.
    pub processed: bool,
    /// Only a part of the body arrives.
    pub half_body: bool,
    /// Where the body is cut into chunks.
    pub cuts: Option<Vec<usize>>,
    /// How long after the headers the body comes.
    pub stall: Duration,
    /// Close after the reply.
    pub close: bool,
    /// The names of what applies, for the report.
    pub names: Vec<&'static str>,
}

impl Fault {
    /// A fault on the token endpoints, without limit.
    pub fn on_token(action: Action) -> Self {
        Self::new(Scope::Token, action)
    }

    /// A fault on the business endpoints, without limit.
    pub fn on_business(action: Action) -> Self {
        Self::new(Scope::Business, action)
    }

    /// A fault without limit.
    pub fn new(on: Scope, action: Action) -> Self {
        Self {
            on,
            appid: None,
            path: None,
            action,
            times: None,
            for_ms: None,
            after: 0,
            processed: false,
        }
    }

    /// Only the next `times` calls.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Only for so long.
    #[must_use]
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.for_ms = Some(duration.as_millis() as u64);
        self
    }

    /// Only after so many calls that go well.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.after = calls;
        self
    }

    /// Only calls of this app.
    #[must_use]
    pub fn of(mut self, appid: &str) -> Self {
        self.appid = Some(appid.to_owned());
        self
    }

    /// Only paths that begin so.
    #[must_use]
    pub fn at(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// WeChat does its work, only the reply is lost.
    #[must_use]
    pub fn processed(mut self) -> Self {
        self.processed = true;
        self
    }
}

impl Action {
    /// Its name, as in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Close => "close",
            Self::Garbage => "garbage",
            Self::TextHtml => "text_html",
            Self::Empty => "empty",
            Self::Body { .. } => "body",
            Self::Status { .. } => "status",
            Self::Errcode { .. } => "errcode",
            Self::HalfBody => "half_body",
            Self::Cuts { .. } => "cuts",
            Self::Stall { .. } => "stall",
            Self::KeepaliveClose => "keepalive_close",
        }
    }
}

impl Script {
    /// Arms a fault behind those that are there.
    pub fn arm(&mut self, fault: Fault, now: Instant) {
        let until = fault.for_ms.map(|ms| now + Duration::from_millis(ms));
        self.armed.push(Armed {
            until,
            to_skip: fault.after,
            left: fault.times,
            fault,
        });
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.armed.clear();
    }

    /// The faults that are still armed.
    pub fn faults(&self) -> Vec<Fault> {
        self.armed
            .iter()
            .map(|armed| Fault {
                times: armed.left,
                ..armed.fault.clone()
            })
            .collect()
    }

    /// What happens to a call; `token` tells whether it is one of the token endpoints.
    pub fn plan(&mut self, token: bool, appid: &str, path: &str, now: Instant) -> Plan {
        let mut plan = Plan::default();
        if self.armed.is_empty() {
            return plan;
        }
        self.armed
            .retain(|armed| armed.left != Some(0) && armed.until.is_none_or(|until| now < until));
        for armed in self
            .armed
            .iter_mut()
            .filter(|armed| armed.fault.matches(token, appid, path))
        {
            if replaces(&armed.fault.action) && plan.replace.is_some() {
                continue;
            }
            if armed.to_skip > 0 {
                armed.to_skip -= 1;
                continue;
            }
            if let Some(left) = &mut armed.left {
                *left -= 1;
            }
            plan.add(&armed.fault);
        }
        plan
    }
}

impl Fault {
    fn matches(&self, token: bool, appid: &str, path: &str) -> bool {
        let scope = match self.on {
            Scope::Token => token,
            Scope::Business => !token,
            Scope::Any => true,
        };
        scope
            && self.appid.as_deref().is_none_or(|wanted| wanted == appid)
            && self
                .path
                .as_deref()
                .is_none_or(|wanted| path.starts_with(wanted))
    }
}

impl Plan {
    fn add(&mut self, fault: &Fault) {
        self.names.push(fault.action.name());
        match &fault.action {
            Action::Latency { ms } => self.latency += Duration::from_millis(*ms),
            Action::HalfBody => self.half_body = true,
            Action::Cuts { at } => self.cuts = Some(at.clone()),
            Action::Stall { ms } => self.stall += Duration::from_millis(*ms),
            Action::KeepaliveClose => self.close = true,
            action => {
                self.replace = Some(action.clone());
                self.processed = fault.processed;
            }
        }
    }
}

fn replaces(action: &Action) -> bool {
    !matches!(
        action,
        Action::Latency { .. }
            | Action::HalfBody
            | Action::Cuts { .. }
            | Action::Stall { .. }
            | Action::KeepaliveClose
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_that_replace_are_used_up_in_order_and_modifiers_all_apply() {
        let now = Instant::now();
        let mut script = Script::default();
        script.arm(Fault::on_token(Action::Latency { ms: 5 }), now);
        script.arm(Fault::on_token(Action::Reset).times(1), now);
        script.arm(Fault::on_token(Action::Status { code: 500 }).times(1), now);
        assert_eq!(
            script.plan(false, "wx1", "/cgi-bin/x", now),
            Plan::default()
        );
        let first = script.plan(true, "wx1", "/cgi-bin/token", now);
        assert_eq!(
            (first.replace, first.latency),
            (Some(Action::Reset), Duration::from_millis(5))
        );
        assert_eq!(
            script.plan(true, "wx1", "/cgi-bin/token", now).replace,
            Some(Action::Status { code: 500 })
        );
        assert_eq!(
            script.plan(true, "wx1", "/cgi-bin/token", now).replace,
            None
        );
    }

    #[test]
    fn a_fault_ends_with_its_time_and_hits_only_its_app_and_path() {
        let now = Instant::now();
        let mut script = Script::default();
        let fault = Fault::on_business(Action::Empty)
            .of("wx1")
            .at("/wxa/")
            .lasting(Duration::from_secs(1));
        script.arm(fault.after(1), now);
        let hit = |script: &mut Script, appid, path, now| {
            script.plan(false, appid, path, now).replace.is_some()
        };
        assert!(!hit(&mut script, "wx2", "/wxa/a", now), "another app");
        assert!(!hit(&mut script, "wx1", "/cgi-bin/a", now), "another path");
        assert!(
            !hit(&mut script, "wx1", "/wxa/a", now),
            "the first one goes well"
        );
        assert!(hit(&mut script, "wx1", "/wxa/a", now));
        assert!(
            !hit(&mut script, "wx1", "/wxa/a", now + Duration::from_secs(1)),
            "its time is over"
        );
    }
}
