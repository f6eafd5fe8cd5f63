use super::*;
use crate::config::Role;
use crate::host::fake::FakeHost;
use crate::record::{queue_name, Holder};
use crate::secret::Secret;
use crate::token::Token;
use std::time::Duration;

const WECHAT: (&str, &str) = (":authority", "api.weixin.qq.com");

/// A worker with two apps: `wxa` is the default and replaces callers' tokens, `wxb` keeps them.
struct Worker {
    host: FakeHost,
    injector: Injector,
    streams: u32,
}

fn worker(on_unavailable: &str) -> Worker {
    let document = format!(
        r#"{{"apps": [{{"appid": "wxa", "caller_token": "replace"}}, {{"appid": "wxb"}}], "default_app": "wxa",
            "on_unavailable": {{"action": "{on_unavailable}"}}}}"#
    );
    let config = Config::parse(document.as_bytes(), &|_| None, Role::Injector).unwrap();
    let host = FakeHost::new("injector", &document);
    let injector = Injector::new(&host, Rc::new(config));
    Worker {
        host,
        injector,
        streams: 0,
    }
}

impl Worker {
    /// A token of `app` comes into the record, and the worker hears of it.
    fn publish(&mut self, appid: &str, generation: u64, token: &str) {
        let now = self.host.now();
        self.write(
            appid,
            &AppRecord {
                term: 1,
                generation: Generation(generation),
                token: Some(Token {
                    value: Secret::new(token),
                    granted_at: now,
                    deadline: now.after(Duration::from_secs(7_200)),
                }),
                holder: Holder {
                    slot: 0,
                    ..Holder::default()
                },
                ..AppRecord::default()
            },
        );
        self.injector.handle_updated(&self.host, appid, 0);
    }

    fn write(&self, appid: &str, record: &AppRecord) {
        let present = self.host.shared(&app_key(appid));
        let cas = present.map_or(crate::host::Cas::ABSENT, |(_, cas)| cas);
        self.host
            .set_shared(&app_key(appid), &record.encode(), cas)
            .unwrap();
    }

    /// An attempt: a new stream that finds the headers as the one before left them.
    fn attempt(&mut self) -> (u32, Option<Flow>) {
        self.streams += 1;
        self.injector.handle_begin(self.streams);
        let flow = self.injector.handle_request(&self.host, self.streams);
        (self.streams, flow)
    }

    /// A request leaves and is answered with 40001.
    fn reject(&mut self) {
        let (stream, _) = self.attempt();
        {
            let state = &mut *self.host.0.borrow_mut();
            state.response = [(":status".to_owned(), b"200".to_vec())].into();
            state.body = br#"{"errcode":40001}"#.to_vec();
        }
        self.injector.handle_response(&self.host, stream, false);
        self.injector.handle_response_body(&self.host, stream, true);
        self.injector.handle_end(stream);
    }

    fn tick(&mut self) {
        let mut metrics = Metrics::default();
        self.injector.handle_tick(&self.host, &mut metrics);
        metrics.flush(&self.host);
    }

    fn path(&self) -> String {
        self.host.request(":path").unwrap()
    }
}

#[test]
fn an_attempt_that_left_without_our_token_is_known_again_when_envoy_retries_it() {
    for named_by in ["header", "query"] {
        for (on_unavailable, path) in [
            ("pass", "/cgi-bin/a?k=v"),
            ("fail", "/cgi-bin/a?k=v"),
            ("fail", "/cgi-bin/a?k=v&access_token=the-callers-own"),
        ] {
            let what = format!("{named_by}, {on_unavailable}, {path}");
            let mut w = worker(on_unavailable);
            w.publish("wxa", 1, "token-of-a");
            let query = format!("{path}&from_appid=wxb");
            match named_by {
                "header" => {
                    w.host
                        .set_request(&[WECHAT, (":path", path), ("x-wechat-appid", "wxb")])
                }
                _ => w.host.set_request(&[WECHAT, (":path", &query)]),
            }
            // The first attempt gets no token: it goes on without one, keeps its own, or is answered 503 in the end.
            let (stream, _) = w.attempt();
            w.host.later(Duration::from_secs(6));
            w.tick();
            w.injector.handle_end(stream);
            // Envoy's route retries on 5xx or a connection failure.
            w.attempt();
            assert!(!w.path().contains("token-of-a"), "{what}: {}", w.path());
            w.tick();
            w.publish("wxb", 1, "token-of-b");
            let expected = match path.contains("the-callers-own") {
                true => "access_token=the-callers-own",
                false => "access_token=token-of-b",
            };
            w.attempt();
            assert!(w.path().contains(expected), "{what}: {}", w.path());
        }
    }
}

#[test]
fn a_request_that_gets_a_token_loses_what_named_its_app() {
    let mut w = worker("fail");
    w.publish("wxb", 1, "token-of-b");
    w.host.set_request(&[
        WECHAT,
        (":path", "/cgi-bin/a?from_appid=wxb"),
        ("x-wechat-appid", "wxb"),
    ]);
    assert_eq!(w.attempt().1, Some(Flow::Continue));
    assert_eq!(w.path(), "/cgi-bin/a?access_token=token-of-b");
    assert_eq!(w.host.request("x-wechat-appid"), None);
}

#[test]
fn a_rejection_that_was_dealt_with_is_told_again_when_the_limit_is_over() {
    let mut w = worker("fail");
    w.publish("wxa", 1, "token-of-a");
    let queue = w.host.register_queue(&queue_name(0)).unwrap();
    let mut record = AppRecord::decode(&w.host.shared(&app_key("wxa")).unwrap().0).unwrap();
    record.settled = Generation(1);
    record.rejected_not_before = w.host.now().after(Duration::from_secs(60));
    w.write("wxa", &record);
    w.injector.handle_updated(&w.host, "wxa", 0);
    for (later, is_told) in [(0, false), (59, false), (1, true)] {
        w.host.later(Duration::from_secs(later));
        w.host.set_request(&[WECHAT, (":path", "/cgi-bin/a")]);
        w.reject();
        assert_eq!(w.host.dequeue(queue).is_some(), is_told, "after {later} s");
    }
}

#[test]
fn a_callers_token_is_kept_out_of_the_log_of_a_request_that_is_refused_or_waits() {
    for appid in ["wxa", "wxunknown"] {
        let mut w = worker("fail");
        let path = "/cgi-bin/a?access_token=the-callers-own&secret=s3cr3t";
        w.host
            .set_request(&[WECHAT, (":path", path), ("x-wechat-appid", appid)]);
        assert_eq!(w.attempt().1, Some(Flow::HoldAll), "{appid}");
        let logged = w.host.request("x-envoy-original-path");
        let expected = "/cgi-bin/a?access_token=&secret=";
        assert_eq!(logged.as_deref(), Some(expected), "{appid}");
    }
}

#[test]
fn a_path_full_of_tokens_is_not_compared_with_every_app() {
    let apps: Vec<String> = (0..1_000)
        .map(|n| format!(r#"{{"appid": "wx{n}"}}"#))
        .collect();
    let document = format!(r#"{{"apps": [{}], "default_app": "wx0"}}"#, apps.join(","));
    let config = Config::parse(document.as_bytes(), &|_| None, Role::Injector).unwrap();
    let routes = Routes::new(&config);
    let path = format!("/a?{}", "access_token=x&".repeat(4_000));
    let compared = std::cell::Cell::new(0);
    let is_own = |_: usize, _: &[u8]| {
        compared.set(compared.get() + 1);
        false
    };
    let scanned = scan(path.as_bytes());
    routes.decide(
        b"GET",
        b"api.weixin.qq.com",
        &scanned,
        &NamedApp::Absent,
        is_own,
    );
    assert!(compared.get() <= 5_000, "{}", compared.get());
}

#[test]
fn only_bodies_that_were_there_all_the_time_end_the_watch() {
    for (ticks_until_body, is_ended) in [(0, true), (1, false)] {
        let mut w = worker("fail");
        w.publish("wxa", 1, "t1");
        for _ in 0..5 {
            w.host.set_request(&[WECHAT, (":path", "/cgi-bin/a")]);
            let (stream, _) = w.attempt();
            w.host.0.borrow_mut().response = [(":status".to_owned(), b"200".to_vec())].into();
            let held = w.injector.handle_response(&w.host, stream, false);
            let expected = if w.injector.watch.is_on {
                Flow::Hold
            } else {
                Flow::Continue
            };
            assert_eq!(held, Some(expected));
            for _ in 0..5 + ticks_until_body {
                w.tick();
            }
            let flow = w.injector.handle_response_body(&w.host, stream, true);
            assert_eq!(flow, Some(Flow::Continue));
        }
        assert_eq!(
            !w.injector.watch.is_on, is_ended,
            "after {ticks_until_body} ticks"
        );
    }
}

#[test]
fn a_request_that_waited_and_cannot_be_read_any_more_is_answered_and_not_forgotten() {
    let mut w = worker("fail");
    w.host.set_request(&[WECHAT, (":path", "/cgi-bin/a")]);
    assert_eq!(w.attempt().1, Some(Flow::HoldAll));
    w.host.set_request(&[]);
    w.publish("wxa", 1, "t1");
    assert_eq!(w.host.0.borrow().replies, [503]);
    assert!(w.injector.waiters.is_empty());
}

#[test]
fn requests_that_were_sent_again_are_counted_by_what_became_of_them() {
    for (what, answer, result) in [
        ("an answer", Some((r#"{"errcode":0}"#, true)), "ok"),
        ("one that is not looked at", Some(("", false)), "ok"),
        (
            "rejected again",
            Some((r#"{"errcode":40001}"#, true)),
            "rejected",
        ),
        ("no answer", None, "no_answer"),
    ] {
        let mut w = worker("fail");
        w.publish("wxa", 1, "token-1");
        w.host.set_request(&[WECHAT, (":path", "/cgi-bin/a")]);
        w.reject();
        w.publish("wxa", 2, "token-2");
        let (stream, flow) = w.attempt();
        assert_eq!(flow, Some(Flow::Continue), "{what}");
        if let Some((body, has_body)) = answer {
            w.host.0.borrow_mut().body = body.as_bytes().to_vec();
            w.injector.handle_response(&w.host, stream, !has_body);
            if has_body {
                w.injector.handle_response_body(&w.host, stream, true);
            }
        }
        w.injector.handle_end(stream);
        w.tick();
        for known in ["ok", "rejected", "no_answer"] {
            let counted = w
                .host
                .told(&format!("wechat_token_resent_total.app=wxa.result={known}"));
            let expected: &[u64] = if known == result { &[1] } else { &[] };
            assert_eq!(counted, expected, "{what}: {known}");
        }
        assert_eq!(
            w.host.told("wechat_token_injected_total.app=wxa"),
            [2],
            "{what}"
        );
    }
}

#[test]
fn it_is_told_how_long_requests_waited_but_not_those_who_hung_up() {
    let mut w = worker("fail");
    w.host.set_request(&[WECHAT, (":path", "/cgi-bin/a")]);
    w.attempt();
    let (impatient, _) = w.attempt();
    w.host.later(Duration::from_millis(400));
    w.injector.handle_end(impatient);
    w.publish("wxa", 1, "token-1");
    w.tick();
    assert_eq!(w.host.told("wechat_token_parked_total.app=wxa"), [2]);
    assert_eq!(w.host.told("wechat_token_wait_millis"), [400]);
}

#[test]
fn a_trace_which_is_sent_back_as_it_came_gets_no_token() {
    for (method, path) in [("GET", "/a?access_token=token-1"), ("TRACE", "/a")] {
        let mut w = worker("fail");
        w.publish("wxa", 1, "token-1");
        w.host
            .set_request(&[WECHAT, (":method", method), (":path", "/a")]);
        assert_eq!(w.attempt().1, Some(Flow::Continue), "{method}");
        assert_eq!(w.path(), path, "{method}");
    }
}
