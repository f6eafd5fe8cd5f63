//! A real Redis, and steps sent to it as Envoy sends them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use support::redis::Redis;
use wechat_token::secret::Secret;
use wechat_token::store::wire::{Access, Login};
use wechat_token::store::{Answer, Nonce, Outcome, Problem, Step, Version};
use wechat_token::time::UnixMillis;

pub(crate) const PREFIX: &str = "wechat-token:";
pub(crate) const APPID: &str = "wx0123456789abcdef";
pub(crate) const RECORD: &str = "wechat-token:{wx0123456789abcdef}:token";
pub(crate) const LOCK: &str = "wechat-token:{wx0123456789abcdef}:lock";
pub(crate) const ME: Nonce = Nonce(0xa);
pub(crate) const OTHER: Nonce = Nonce(0xb);
pub(crate) const LIFE: Duration = Duration::from_secs(7_200);
pub(crate) const NONE: Version = Version(0);

/// A Redis, and who talks to it.
pub(crate) struct Bed {
    pub(crate) redis: Redis,
    pub(crate) access: Access,
}

pub(crate) fn bed() -> Bed {
    Bed {
        redis: Redis::start(&[]),
        access: access(Login::default()),
    }
}

pub(crate) fn access(login: Login) -> Access {
    Access {
        login,
        key_prefix: PREFIX.to_owned(),
        mirrors: Vec::new(),
    }
}

impl Bed {
    /// One step over a connection of its own that is half-closed behind the request, as Envoy does it.
    pub(crate) fn step(&self, step: &Step) -> Result<Answer, Problem> {
        let mut socket = TcpStream::connect(self.redis.address()).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket.write_all(&self.access.request(APPID, step)).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).unwrap();
        self.access.read_answer(step.writes_mirrors(), &bytes)
    }

    pub(crate) fn outcome(&self, step: &Step) -> Outcome {
        self.step(step).unwrap().outcome
    }

    pub(crate) fn read(&self) -> Answer {
        self.step(&Step::Read).unwrap()
    }

    /// A second ahead on Redis's clock.
    pub(crate) fn soon(&self) -> UnixMillis {
        UnixMillis(self.read().clock.0 + 1_000)
    }

    pub(crate) fn lock(&self, owner: Nonce, known: Version) -> Step {
        Step::Lock {
            owner,
            known,
            ttl: Duration::from_secs(14),
            deadline: self.soon(),
        }
    }

    pub(crate) fn publish(&self, owner: Nonce, known: Version, nonce: u64, token: &str) -> Step {
        Step::Publish {
            owner,
            known,
            deadline: self.soon(),
            nonce: Nonce(nonce),
            token: Secret::new(token),
            left: LIFE,
            life: LIFE,
        }
    }

    /// Locks and publishes; the version that it got.
    pub(crate) fn give(&self, known: Version, nonce: u64, token: &str) -> Version {
        assert_eq!(self.outcome(&self.lock(ME, known)), Outcome::Locked);
        let answer = self.step(&self.publish(ME, known, nonce, token)).unwrap();
        assert_eq!(answer.outcome, Outcome::Published);
        answer.version
    }
}

pub(crate) fn value(answer: &Answer) -> Option<&str> {
    answer.token.as_ref().map(|token| token.value.expose())
}
