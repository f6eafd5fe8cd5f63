//! WeChat refuses token calls, or cannot be reached: how often a mesh asks.

use std::time::Duration;

use wechat_token::keeper::Event;
use wechat_token::token;
use wechat_token::wechat::Failure;

use super::rig::{granted, rig, Rig, S};

fn errcode(errcode: i64) -> Failure {
    Failure::Errcode {
        errcode,
        rid: None,
        refused_ip: None,
        errmsg: String::new(),
    }
}

impl Rig {
    /// Lets time pass while every call fails like this; how many calls each Envoy made.
    fn pass_refused(&mut self, span: Duration, failure: &Failure) -> Vec<usize> {
        self.holds_calls = true;
        let end = self.now.after(span);
        let mut calls = vec![0; self.envoys.len()];
        while self.now < end {
            self.pass(Duration::from_millis(250));
            for (envoy, calls) in calls.iter_mut().enumerate() {
                let made = self
                    .done(envoy)
                    .iter()
                    .filter(|word| **word == "call")
                    .count();
                for _ in 0..made {
                    *calls += 1;
                    self.handle(envoy, Event::Token(token::Event::Failed(failure)));
                }
            }
        }
        calls
    }
}

#[test]
fn while_wechat_refuses_the_mesh_asks_as_often_as_one_envoy_would() {
    for code in [-1, 45011] {
        let mut alone = rig(1);
        let one: usize = alone.pass_refused(720 * S, &errcode(code)).iter().sum();
        let mut rig = rig(20);
        let calls = rig.pass_refused(720 * S, &errcode(code));
        let many: usize = calls.iter().sum();
        assert!(
            many <= 2 * one,
            "{code}: {one} calls of one, {calls:?} of twenty"
        );
        // It is over: whoever has the lock makes the next call, and all have its token.
        rig.holds_calls = false;
        rig.pass(90 * S);
        assert!(
            rig.tokens().iter().all(Option::is_some),
            "{code}: {:?}",
            rig.tokens()
        );
        assert_eq!(rig.calls.len(), many + 1, "{code}");
    }
}

#[test]
fn an_envoy_that_dies_with_a_kept_lock_is_succeeded_within_a_minute() {
    let mut rig = rig(2);
    let refused = errcode(-1);
    let calls = rig.pass_refused(240 * S, &refused);
    let owner = usize::from(calls[1] > calls[0]);
    rig.envoys.remove(owner);
    let calls = rig.pass_refused(66 * S, &refused);
    assert!(calls[0] >= 1, "{calls:?}");
}

#[test]
fn what_concerns_one_envoy_alone_keeps_nobody_else_from_calling() {
    for failure in [
        errcode(40164),
        errcode(40125),
        Failure::Unreachable("no connection"),
        Failure::Http(502),
    ] {
        let mut rig = rig(2);
        rig.holds_calls = true;
        rig.tick(0);
        rig.handle(0, Event::Token(token::Event::Failed(&failure)));
        assert!(!rig.store().is_locked(), "{failure}");
        rig.tick(1);
        assert_eq!(rig.done(1), ["read", "lock", "call"], "{failure}");
        rig.handle(1, granted(1));
        assert_eq!(rig.store().token(), Some("t1"), "{failure}");
    }
}

#[test]
fn a_kept_lock_is_given_back_when_a_token_is_there() {
    let mut rig = rig(1);
    rig.pass_refused(20 * S, &errcode(-1));
    assert!(rig.store().is_locked());
    rig.holds_calls = false;
    rig.pass(90 * S);
    assert_eq!(rig.store().token(), rig.token(0));
    assert!(!rig.store().is_locked());
}
