//! The steps of the shared store on a real Redis: what the script does, what errors look like.

// Helpers may panic like the tests that they serve; clippy excuses only functions with `#[test]`.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

#[path = "store/bed.rs"]
mod bed;
#[path = "store/likeness.rs"]
mod likeness;
#[path = "store/mirrors.rs"]
mod mirrors;
#[path = "mesh/model.rs"]
#[allow(dead_code)] // the mesh's tests use more of it
mod model;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use support::redis::Redis;
use wechat_token::secret::Secret;
use wechat_token::store::mirror::Mirror;
use wechat_token::store::wire::{Access, Login};
use wechat_token::store::{Mirrored, Outcome, Problem, Step, Version};
use wechat_token::time::UnixMillis;

use self::bed::{access, bed, value, Bed, APPID, LIFE, LOCK, ME, NONE, OTHER, RECORD};

#[test]
fn an_empty_store_says_so_and_tells_the_time() {
    let bed = bed();
    let answer = bed.read();
    assert_eq!(
        (
            answer.outcome,
            answer.version,
            value(&answer),
            answer.locked_for
        ),
        (Outcome::Read, NONE, None, None)
    );
    let [seconds, _]: [u64; 2] = bed.redis.run(&["TIME"]);
    assert!(answer.clock.0.abs_diff(seconds * 1_000) < 10_000);
}

#[test]
fn who_has_the_lock_publishes_and_gives_it_back() {
    let bed = bed();
    assert_eq!(bed.outcome(&bed.lock(ME, NONE)), Outcome::Locked);
    assert_eq!(bed.outcome(&bed.lock(OTHER, NONE)), Outcome::Busy);
    let held = bed.read().locked_for.unwrap();
    assert!(
        held > Duration::from_secs(12) && held <= Duration::from_secs(14),
        "{held:?}"
    );
    let answer = bed.step(&bed.publish(ME, NONE, 1, "t1")).unwrap();
    assert_eq!(answer.outcome, Outcome::Published);
    assert!(answer.version.0 >= answer.clock.0 - 5 && answer.version.0 <= answer.clock.0);
    let answer = bed.read();
    assert_eq!((value(&answer), answer.locked_for), (Some("t1"), None));
    let token = answer.token.unwrap();
    assert_eq!(token.life, LIFE);
    assert!(token.left <= LIFE && token.left > LIFE - Duration::from_secs(10));
}

#[test]
fn a_lock_that_was_lost_on_the_way_is_found_by_asking_again() {
    let bed = bed();
    assert_eq!(bed.outcome(&bed.lock(ME, NONE)), Outcome::Locked);
    assert_eq!(bed.outcome(&bed.lock(ME, NONE)), Outcome::Locked);
}

#[test]
fn the_same_publication_is_made_once() {
    let bed = bed();
    let version = bed.give(NONE, 1, "t1");
    let again = bed.step(&bed.publish(ME, NONE, 1, "t1")).unwrap();
    assert_eq!(
        (again.outcome, again.version),
        (Outcome::Published, version)
    );
}

#[test]
fn whoever_is_late_finds_the_newer_version_and_changes_nothing() {
    let bed = bed();
    let first = bed.give(NONE, 1, "t1");
    let second = bed.give(first, 2, "t2");
    assert!(second > first);
    let lock = bed.step(&bed.lock(OTHER, first)).unwrap();
    assert_eq!((lock.outcome, value(&lock)), (Outcome::Newer, Some("t2")));
    assert_eq!(lock.locked_for, None);
    let publication = bed.step(&bed.publish(OTHER, first, 3, "t3")).unwrap();
    assert_eq!(
        (publication.outcome, value(&publication)),
        (Outcome::Newer, Some("t2"))
    );
    assert_eq!(bed.read().version, second);
}

#[test]
fn without_a_fence_a_token_is_published_unless_somebody_else_has_one() {
    let bed = bed();
    assert_eq!(bed.outcome(&bed.lock(OTHER, NONE)), Outcome::Locked);
    assert_eq!(bed.outcome(&bed.publish(ME, NONE, 1, "t1")), Outcome::Busy);
    assert_eq!(value(&bed.read()), None);
    bed.redis.run::<()>(&["DEL", LOCK]);
    assert_eq!(
        bed.outcome(&bed.publish(ME, NONE, 1, "t1")),
        Outcome::Published
    );
    assert_eq!(value(&bed.read()), Some("t1"));
}

#[test]
fn a_lock_is_given_back_by_its_owner_only() {
    let bed = bed();
    assert_eq!(bed.outcome(&bed.lock(ME, NONE)), Outcome::Locked);
    let release = |owner| Step::Release {
        owner,
        deadline: bed.soon(),
    };
    bed.step(&release(OTHER)).unwrap();
    assert!(bed.read().locked_for.is_some());
    bed.step(&release(ME)).unwrap();
    assert_eq!(bed.read().locked_for, None);
}

#[test]
fn after_its_deadline_no_step_changes_anything() {
    let bed = bed();
    let past = UnixMillis(bed.read().clock.0 - 1);
    let mut lock = bed.lock(ME, NONE);
    if let Step::Lock { deadline, .. } = &mut lock {
        *deadline = past;
    }
    assert_eq!(bed.outcome(&lock), Outcome::Late);
    assert_eq!(bed.read().locked_for, None);
    assert_eq!(bed.outcome(&bed.lock(ME, NONE)), Outcome::Locked);
    let mut publication = bed.publish(ME, NONE, 1, "t1");
    if let Step::Publish { deadline, .. } = &mut publication {
        *deadline = past;
    }
    assert_eq!(bed.outcome(&publication), Outcome::Late);
    let release = Step::Release {
        owner: ME,
        deadline: past,
    };
    assert_eq!(bed.outcome(&release), Outcome::Late);
    let answer = bed.read();
    assert_eq!(value(&answer), None);
    assert!(answer.locked_for.is_some());
}

#[test]
fn a_step_that_redis_comes_to_after_a_pause_is_refused() {
    let bed = bed();
    let lock = bed.access.request(APPID, &bed.lock(ME, NONE));
    bed.redis.freeze();
    let mut socket = TcpStream::connect(bed.redis.address()).unwrap();
    socket.write_all(&lock).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    // Longer than the second that the step was given: this is what the test is about, not a wait for something.
    std::thread::sleep(Duration::from_millis(1_200));
    bed.redis.thaw();
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    assert_eq!(
        bed.access.read_answer(false, &bytes).unwrap().outcome,
        Outcome::Late
    );
    assert_eq!(bed.read().locked_for, None);
}

#[test]
fn versions_rise_after_a_flush_and_over_a_redis_whose_clock_is_behind() {
    let bed = bed();
    let version = bed.give(NONE, 1, "t1");
    bed.redis.run::<()>(&["FLUSHALL"]);
    assert!(bed.give(version, 2, "t2") > version);
    // Known from a Redis whose clock was an hour ahead.
    let ahead = Version(version.0 + 3_600_000);
    assert_eq!(bed.give(ahead, 3, "t3"), Version(ahead.0 + 1));
}

#[test]
fn a_token_leaves_the_store_when_it_dies() {
    let bed = bed();
    let mut publication = bed.publish(ME, NONE, 1, "t1");
    if let Step::Publish { left, .. } = &mut publication {
        *left = Duration::from_millis(50);
    }
    assert_eq!(bed.outcome(&publication), Outcome::Published);
    let gone = support::wait::blocking(Duration::from_secs(5), || value(&bed.read()).is_none());
    assert!(gone);
    assert_eq!(bed.read().version, NONE);
}

#[test]
fn a_record_without_an_end_is_no_token_and_is_replaced() {
    let bed = bed();
    let version = bed.give(NONE, 1, "t1");
    bed.redis.run::<()>(&["PERSIST", RECORD]);
    let answer = bed.read();
    assert_eq!((answer.version, value(&answer)), (version, None));
    bed.give(version, 2, "t2");
    assert_eq!(value(&bed.read()), Some("t2"));
}

#[test]
fn what_redis_refuses_is_told_by_its_code() {
    let refused = |bed: &Bed, code: &str| {
        let problem = bed.step(&bed_lock()).unwrap_err();
        assert_eq!(problem, Problem::Refused(code.to_owned()), "{problem}");
    };
    let bed = bed();
    bed.redis.run::<()>(&["SET", RECORD, "something else"]);
    refused(&bed, "WRONGTYPE");
    bed.redis.run::<()>(&["FLUSHALL"]);
    bed.redis.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    refused(&bed, "OOM");
    bed.redis.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    bed.redis
        .run::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    refused(&bed, "NOREPLICAS");
    bed.redis
        .run::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    bed.redis.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    refused(&bed, "READONLY");
    // What it has can still be read.
    bed.read();
}

#[test]
fn a_replica_that_may_not_answer_says_that_its_master_is_gone() {
    let bed = Bed {
        redis: Redis::start(&["--replica-serve-stale-data", "no"]),
        access: access(Login::default()),
    };
    bed.redis.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    let problem = bed.step(&Step::Read).unwrap_err();
    assert_eq!(problem, Problem::Refused("MASTERDOWN".to_owned()));
}

#[test]
fn a_node_of_a_cluster_says_that_the_keys_are_elsewhere() {
    let bed = Bed {
        redis: Redis::start(&["--cluster-enabled", "yes"]),
        access: access(Login::default()),
    };
    let problem = bed.step(&Step::Read).unwrap_err();
    assert_eq!(problem, Problem::Refused("CLUSTERDOWN".to_owned()));
    assert!(problem.to_string().contains("Redis Cluster"), "{problem}");
}

#[test]
fn a_password_a_user_and_a_database_are_used() {
    let secret = |text| Some(Secret::new(text));
    let login = |username, password| Login {
        username,
        password,
        database: 3,
    };
    let mut bed = Bed {
        redis: Redis::start(&["--requirepass", "admin"]),
        access: access(login(None, secret("admin"))),
    };
    bed.give(NONE, 1, "t1");
    let in_database: i64 = bed.redis.run(&[
        "EVAL",
        "redis.call('SELECT', 3) return redis.call('EXISTS', KEYS[1])",
        "1",
        RECORD,
    ]);
    assert_eq!(in_database, 1);
    bed.access = access(Login::default());
    assert_eq!(
        bed.step(&Step::Read).unwrap_err(),
        Problem::Refused("NOAUTH".to_owned())
    );
    bed.access = access(login(secret("plugin"), secret("wrong")));
    assert_eq!(
        bed.step(&Step::Read).unwrap_err(),
        Problem::Refused("WRONGPASS".to_owned())
    );
}

#[test]
fn the_acl_of_the_documentation_is_enough_and_not_too_much() {
    let document = std::fs::read_to_string("docs/redis.md").unwrap();
    let lines = document
        .lines()
        .map(|line| line.trim().replace("PASSWORD", "pw"));
    let lines: Vec<_> = lines
        .filter(|line| line.starts_with("ACL SETUSER "))
        .collect();
    let [user, neighbours] = lines.as_slice() else {
        panic!("docs/redis.md: two lines ACL SETUSER: {lines:?}");
    };
    let mut bed = bed();
    let allow = |redis: &Redis, line: &str| {
        redis.run::<()>(&line.split_whitespace().collect::<Vec<_>>());
    };
    allow(&bed.redis, user);
    bed.access = access(Login {
        username: Some(Secret::new("wechat-token")),
        password: Some(Secret::new("pw")),
        database: 0,
    });
    bed.give(NONE, 1, "t1");
    let elsewhere = Access {
        key_prefix: "elsewhere:".to_owned(),
        ..bed.access.clone()
    };
    let alien = elsewhere.request(APPID, &Step::Read);
    let mut socket = TcpStream::connect(bed.redis.address()).unwrap();
    socket.write_all(&alien).unwrap();
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    let problem = bed.access.read_answer(false, &bytes).unwrap_err();
    assert_eq!(problem, Problem::Refused("NOPERM".to_owned()));
    // Neighbours' keys need more, and are no matter of the store.
    bed.access.mirrors = vec![Mirror::plain("wechat:access_token:{appid}")];
    let refused = Some(Mirrored::Refused("NOPERM".to_owned()));
    assert_eq!(mirrors::write(&bed, LIFE).mirrored, refused);
    allow(&bed.redis, neighbours);
    assert_eq!(mirrors::write(&bed, LIFE).mirrored, Some(Mirrored::Done));
    bed.access.mirrors = vec![Mirror::plain("elsewhere")];
    assert_eq!(mirrors::write(&bed, LIFE).mirrored, refused);
}

/// A step that wants to write, with a deadline far ahead.
fn bed_lock() -> Step {
    Step::Lock {
        owner: ME,
        known: NONE,
        ttl: Duration::from_secs(14),
        deadline: UnixMillis(u64::from(u32::MAX) * 1_000),
    }
}
