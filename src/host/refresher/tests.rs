use std::time::Duration;

use crate::host::fake::FakeHost;
use crate::host::root::Root;
use crate::host::{Cas, Host};
use crate::message::Message;
use crate::record::{app_key, queue_name, AppRecord};
use crate::status::{note_key, Failed, Note};
use crate::token::Generation;

const S: Duration = Duration::from_secs(1);
const ONE_APP: &str = r#"{"apps": [{"appid": "wxa", "secret": {"value": "s"}}]}"#;
const ONE_CLASSIC_APP: &str = r#"{"apps": [{"appid": "wxa", "secret": {"value": "s"}, "token_api": "classic", "sole_refresher": true}]}"#;
const GRANT: &str = r#"{"access_token": "token", "expires_in": 7200}"#;

fn root(host: &FakeHost, role: &'static str, id: u32) -> Root {
    host.0.borrow_mut().role = role;
    Root::configure(host, id).unwrap()
}

/// Time passes for those that live.
fn pass(host: &FakeHost, seconds: u32, roots: &mut [&mut Root]) {
    for _ in 0..seconds * 4 {
        host.later(S / 4);
        for root in roots.iter_mut() {
            root.handle_tick(host);
        }
    }
}

fn record(host: &FakeHost) -> AppRecord {
    let (bytes, _) = host.shared(&app_key("wxa")).unwrap();
    AppRecord::decode(&bytes).unwrap()
}

/// WeChat answers the last call.
fn answer(host: &FakeHost, root: &mut Root, reply: &str) {
    let call = host.0.borrow().calls.len();
    host.0.borrow_mut().reply = reply.to_owned();
    root.handle_callout(host, u32::try_from(call).unwrap(), 1);
}

#[test]
fn the_new_holder_of_a_lease_is_told_of_rejected_tokens() {
    let host = FakeHost::new("refresher", ONE_APP);
    host.0.borrow_mut().clusters.push("wechat_token");
    let mut singleton = root(&host, "refresher", 1);
    singleton.handle_tick(&host);
    answer(&host, &mut singleton, GRANT);
    let mut heir = root(&host, "injector", 2);
    let mut worker = root(&host, "injector", 3);
    // The singleton traps: it is never called again.
    heir.handle_tick(&host);
    pass(&host, 5, &mut [&mut heir]);
    worker.handle_tick(&host);

    host.set_request(&[(":authority", "api.weixin.qq.com"), (":path", "/cgi-bin/a")]);
    host.0
        .borrow_mut()
        .response
        .insert(":status".to_owned(), b"200".to_vec());
    host.0.borrow_mut().body = br#"{"errcode":40001}"#.to_vec();
    let injector = worker.server.as_mut().unwrap();
    injector.handle_begin(9);
    injector.handle_request(&host, 9);
    injector.handle_response(&host, 9, false);
    injector.handle_response_body(&host, 9, true);

    let told = |slot: u32| {
        let rejected = Message::Rejected {
            appid: "wxa".to_owned(),
            generation: Generation(1),
        };
        let state = host.0.borrow();
        state.queues[&queue_name(slot)].contains(&rejected.encode())
    };
    assert_eq!((told(0), told(1)), (false, true), "slot 1 is the heir's");
}

/// A configuration of this many apps.
fn many_apps(count: usize) -> String {
    let apps: Vec<String> = (0..count)
        .map(|n| format!(r#"{{"appid": "wx{n}", "secret": {{"value": "s"}}}}"#))
        .collect();
    format!(r#"{{"apps": [{}]}}"#, apps.join(","))
}

#[test]
fn rejected_tokens_of_many_apps_do_not_make_as_many_calls_at_once() {
    let host = FakeHost::new("refresher", &many_apps(40));
    host.0.borrow_mut().clusters.push("wechat_token");
    let mut singleton = root(&host, "refresher", 1);
    singleton.handle_tick(&host);
    for call in 1..=40 {
        host.0.borrow_mut().reply = GRANT.to_owned();
        singleton.handle_callout(&host, call, 1);
    }
    assert_eq!(host.0.borrow().calls.len(), 40);
    host.later(100 * S);
    singleton.handle_tick(&host);
    let queue = host.resolve_queue(&queue_name(0)).unwrap();
    for app in 0..40 {
        let rejected = Message::Rejected {
            appid: format!("wx{app}"),
            generation: Generation(1),
        };
        host.enqueue(queue, &rejected.encode()).unwrap();
    }
    singleton.handle_queue(&host);
    assert_eq!(host.0.borrow().calls.len(), 40 + 32, "no more at once");
}

#[test]
fn calls_whose_callback_never_comes_do_not_block_the_others() {
    let host = FakeHost::new("refresher", &many_apps(40));
    host.0.borrow_mut().clusters.push("wechat_token");
    let mut singleton = root(&host, "refresher", 1);
    singleton.handle_tick(&host);
    assert_eq!(host.0.borrow().calls.len(), 32, "no more at once");
    pass(&host, 10, &mut [&mut singleton]);
    assert!(
        host.0.borrow().calls.len() >= 40,
        "{}",
        host.0.borrow().calls.len()
    );
}

#[test]
fn the_mark_of_a_dead_holders_call_outlives_what_its_heir_publishes() {
    let host = FakeHost::new("refresher", ONE_APP);
    host.0.borrow_mut().clusters.push("wechat_token");
    let mut singleton = root(&host, "refresher", 1);
    singleton.handle_tick(&host);
    answer(&host, &mut singleton, GRANT);
    let mut heir = root(&host, "injector", 2);
    heir.handle_tick(&host);
    // WeChat rejects the token, and the singleton's call for the next one hangs.
    let rejected = |root: &mut Root, host: &FakeHost, slot: u32| {
        let message = Message::Rejected {
            appid: "wxa".to_owned(),
            generation: Generation(1),
        };
        let queue = host.resolve_queue(&queue_name(slot)).unwrap();
        host.enqueue(queue, &message.encode()).unwrap();
        root.handle_queue(host);
    };
    host.later(100 * S);
    singleton.handle_tick(&host);
    rejected(&mut singleton, &host, 0);
    assert_eq!(host.0.borrow().calls.len(), 2);
    let mark = record(&host).in_flight_until;
    assert!(mark > host.now());
    // It stalls; the heir takes over, and must not call yet. The limit settles the next rejection.
    pass(&host, 4, &mut [&mut heir]);
    assert_eq!(record(&host).term, 2, "taken over");
    rejected(&mut heir, &host, 1);
    assert_eq!(record(&host).settled, Generation(1));
    assert_eq!(record(&host).in_flight_until, mark);
}

#[test]
fn what_is_no_record_is_replaced_and_the_token_fetched() {
    let host = FakeHost::new("refresher", ONE_APP);
    host.0.borrow_mut().clusters.push("wechat_token");
    let other_version = {
        let mut bytes = AppRecord::default().encode();
        bytes[0] += 1;
        bytes
    };
    host.set_shared(&app_key("wxa"), &other_version, Cas::ABSENT)
        .unwrap();
    let mut singleton = root(&host, "refresher", 1);
    singleton.handle_tick(&host);
    answer(&host, &mut singleton, GRANT);
    let record = record(&host);
    assert_eq!((record.term, record.generation), (1, Generation(1)));
    assert!(record.token.is_some());
}

#[test]
fn a_pause_of_the_whole_process_costs_nobody_a_lease() {
    let host = FakeHost::new("refresher", ONE_APP);
    host.0.borrow_mut().clusters.push("wechat_token");
    let mut singleton = root(&host, "refresher", 1);
    let mut worker = root(&host, "injector", 2);
    // The worker is first and finds no holder.
    worker.handle_tick(&host);
    singleton.handle_tick(&host);
    answer(&host, &mut singleton, GRANT);
    for _ in 0..2 {
        host.later(8 * S);
        worker.handle_tick(&host);
        singleton.handle_tick(&host);
        pass(&host, 2, &mut [&mut worker, &mut singleton]);
    }
    assert_eq!(record(&host).term, 1);
}

#[test]
fn a_process_whose_ticks_are_all_late_moves_no_lease_and_replaces_a_dead_holder() {
    let host = FakeHost::new("refresher", ONE_APP);
    host.0.borrow_mut().clusters.push("wechat_token");
    let mut singleton = root(&host, "refresher", 1);
    let mut worker = root(&host, "injector", 2);
    singleton.handle_tick(&host);
    answer(&host, &mut singleton, GRANT);
    for _ in 0..10 {
        host.later(3 * S);
        worker.handle_tick(&host);
        singleton.handle_tick(&host);
    }
    assert_eq!(record(&host).term, 1);
    for _ in 0..2 {
        host.later(3 * S);
        worker.handle_tick(&host);
    }
    assert_eq!(record(&host).term, 2);
}

#[test]
fn it_is_told_who_keeps_a_token_and_how_it_is() {
    let host = FakeHost::new("refresher", ONE_CLASSIC_APP);
    host.0.borrow_mut().clusters.push("wechat_token");
    let mut singleton = root(&host, "refresher", 1);
    singleton.handle_tick(&host);
    host.later(Duration::from_millis(30));
    answer(&host, &mut singleton, GRANT);
    pass(&host, 2, &mut [&mut singleton]);
    let last = |metric: &str| host.told(&format!("wechat_token_{metric}")).last().copied();
    let held = |holder: &str| last(&format!("lease_held.app=wxa.holder={holder}"));
    assert_eq!((held("singleton"), held("worker")), (Some(1), Some(0)));
    assert_eq!(last("lease_term.app=wxa"), Some(1));
    assert_eq!(last("generation.app=wxa"), Some(1));
    assert_eq!(last("breaker_open.app=wxa"), Some(0));
    assert_eq!(last("budget_left.app=wxa"), Some(999));
    assert_eq!(last("refreshes_total.app=wxa.result=renewed"), Some(1));
    assert_eq!(host.told("wechat_token_refresh_millis"), [30]);
    let beats = last("heartbeats_total.holder=singleton");
    assert!(beats >= Some(2), "{beats:?}");
    let told = host.told("wechat_token_generation.app=wxa").len();

    // It traps, and a worker takes its place.
    let mut heir = root(&host, "injector", 2);
    pass(&host, 5, &mut [&mut heir]);
    assert_eq!((held("singleton"), held("worker")), (Some(0), Some(1)));
    assert_eq!(last("lease_term.app=wxa"), Some(2));
    assert_eq!(last("heartbeats_total.holder=singleton"), beats);
    assert!(last("heartbeats_total.holder=worker") >= Some(1));
    // Only what changed is told again, and all of it by the new one.
    assert_eq!(host.told("wechat_token_generation.app=wxa").len(), told + 1);
}

#[test]
fn a_refusal_is_counted_by_its_errcode_and_opens_the_breaker() {
    for (reply, label) in [
        (r#"{"errcode":40164,"errmsg":"x"}"#, ".errcode=40164"),
        (r#"{"errcode":99999,"errmsg":"x"}"#, ".errcode=other"),
        ("", ""),
    ] {
        let host = FakeHost::new("refresher", ONE_APP);
        host.0.borrow_mut().clusters.push("wechat_token");
        let mut singleton = root(&host, "refresher", 1);
        singleton.handle_tick(&host);
        answer(&host, &mut singleton, reply);
        pass(&host, 1, &mut [&mut singleton]);
        let failed = "wechat_token_refreshes_total.app=wxa.result=failed";
        assert_eq!(host.told(&format!("{failed}{label}")), [1], "{reply}");
        let is_open = host.told("wechat_token_breaker_open.app=wxa").pop();
        assert_eq!(
            is_open,
            Some(u64::from(label == ".errcode=40164")),
            "{reply}"
        );
        let (note, _) = host.shared(&note_key("wxa")).unwrap();
        let failed = Note::decode(&note).and_then(|note| note.failed).unwrap();
        assert_eq!(failed.errcode.is_some(), !label.is_empty(), "{reply}");
        assert!(!failed.detail.is_empty(), "{reply}");
    }
}

fn noted(host: &FakeHost) -> Note {
    let (note, _) = host.shared(&note_key("wxa")).unwrap();
    Note::decode(&note).unwrap()
}

#[test]
fn a_reply_that_never_came_is_told_in_words() {
    let host = FakeHost::new("refresher", ONE_APP);
    host.0.borrow_mut().clusters.push("wechat_token");
    let mut singleton = root(&host, "refresher", 1);
    pass(&host, 10, &mut [&mut singleton]);
    let Failed {
        errcode, detail, ..
    } = noted(&host).failed.unwrap();
    assert_eq!(errcode, None);
    assert_eq!(detail, "unreachable=\"the reply never came\"");
}

#[test]
fn what_redis_said_is_not_told_as_the_failure_of_a_token_call() {
    let document =
        r#"{"apps": [{"appid": "wxa", "secret": {"value": "s"}}], "redis": {"when_down": "hold"}}"#;
    let host = FakeHost::new("refresher", document);
    let mut singleton = root(&host, "refresher", 1);
    pass(&host, 10, &mut [&mut singleton]);
    let note = noted(&host);
    assert_eq!(note.failed.unwrap().detail, "withheld");
    let problem = note.store.unwrap().problem.unwrap();
    assert!(problem.contains("its cluster is not there"), "{problem}");
}

#[test]
fn the_time_of_a_failed_call_ends_when_it_failed_and_not_with_the_next_tick() {
    let host = FakeHost::new("refresher", ONE_APP);
    host.0.borrow_mut().clusters.push("wechat_token");
    let mut singleton = root(&host, "refresher", 1);
    singleton.handle_tick(&host);
    host.later(Duration::from_millis(3));
    let call = u32::try_from(host.0.borrow().calls.len()).unwrap();
    singleton.handle_callout(&host, call, 0);
    pass(&host, 1, &mut [&mut singleton]);
    assert_eq!(host.told("wechat_token_refresh_millis"), [3]);
}
