//! What the process does with messages and token calls on their way, under the faults of the moment.

use super::plan::{Fault, TokenFault};
use super::process::{Answer, Call, Event, Process};

impl Process {
    /// Sets the timer of a virtual machine anew.
    pub fn arm(&mut self, vm: usize) {
        let state = &mut self.vms[vm];
        state.timer += 1;
        let (timer, period) = (state.timer, state.period);
        self.after(period, Event::Tick { vm, timer });
    }

    /// Sends a message through the weather.
    pub fn send(&mut self, queue: usize, message: Vec<u8>) {
        let now = self.now;
        if now < self.weather.lose.0 && self.rng.chance(self.weather.lose.1) {
            return;
        }
        if now < self.weather.double.0 {
            let late = self.rng.between(0, self.weather.double.1);
            self.after(
                late,
                Event::Deliver {
                    queue,
                    message: message.clone(),
                },
            );
        }
        if now < self.weather.delay.0 && self.rng.chance(70) {
            let late = self.rng.between(0, self.weather.delay.1);
            return self.after(late, Event::Deliver { queue, message });
        }
        self.deliver(queue, message);
    }

    /// Sends a token call.
    pub fn dispatch(&mut self, id: u32, call: Call) {
        self.calls.insert(id, call);
        let way = self.rng.between(1, 60);
        self.after(way, Event::CallArrives { call: id });
        let timeout = call.until - self.now;
        if self.now >= self.weather.callback_lost {
            let answer = Answer {
                status: Some(504),
                body: "upstream request timeout".to_owned(),
            };
            self.after(timeout, Event::Reply { call: id, answer });
        }
    }

    /// A token call is at WeChat's door.
    pub fn answer_call(&mut self, id: u32) {
        let Some(call) = self.calls.get(&id).copied() else {
            return;
        };
        let fault = self
            .weather
            .token_calls
            .filter(|(until, _)| self.now < *until)
            .map(|(_, how)| how);
        let text = |status, body: &str| Answer {
            status: Some(status),
            body: body.to_owned(),
        };
        let mut way = self.rng.between(1, 100);
        let answer = match fault {
            Some(TokenFault::HangBefore) => return,
            Some(TokenFault::SystemError) => text(200, r#"{"errcode":-1,"errmsg":"system error"}"#),
            Some(TokenFault::Refused(errcode)) => {
                text(200, &format!(r#"{{"errcode":{errcode},"errmsg":"no"}}"#))
            }
            Some(TokenFault::Http500) => text(500, "<html>"),
            Some(TokenFault::HalfReply) => text(200, r#"{"access_token":"tok"#),
            Some(TokenFault::Reset) => Answer {
                status: None,
                body: String::new(),
            },
            Some(TokenFault::HangAfter) => {
                self.wechat.grant(call.app, call.is_stable, self.now);
                return;
            }
            Some(TokenFault::Late) | None => {
                if fault.is_some() {
                    way = call.until.saturating_sub(self.now + 1);
                }
                text(200, &self.wechat.grant(call.app, call.is_stable, self.now))
            }
        };
        if self.now >= self.weather.callback_lost {
            self.after(way, Event::Reply { call: id, answer });
        }
    }

    /// How far the wall clock is behind now, in milliseconds.
    pub fn wall_behind(&self) -> u64 {
        let (until, days) = self.weather.wall_behind;
        if self.now < until {
            days * 86_400_000
        } else {
            0
        }
    }

    /// Faults that are a kind of weather; the others are handed back.
    pub fn turn_weather(&mut self, fault: Fault) -> Option<Fault> {
        let now = self.now;
        let weather = &mut self.weather;
        match fault {
            Fault::Lose { span, percent } => weather.lose = (now + span, percent),
            Fault::Double { span, late } => weather.double = (now + span, late),
            Fault::Delay { span, late } => weather.delay = (now + span, late),
            Fault::TokenCalls { span, how } => weather.token_calls = Some((now + span, how)),
            Fault::NotSent { span } => weather.not_sent = now + span,
            Fault::CallbackLost { span } => weather.callback_lost = now + span,
            Fault::Revoke { app } => self.wechat.revoke(app, now),
            Fault::Ban { app, span } => self.wechat.ban(app, now + span),
            Fault::Stall { vm, span } => self.stall(vm, span),
            Fault::Pause { span } => self.pause(span),
            Fault::WallBehind { span, days } => weather.wall_behind = (now + span, days),
            other => return Some(other),
        }
        None
    }
}
