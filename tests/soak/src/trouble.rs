//! What goes wrong: drawn from the seed, brought about, and what its callers may see of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::RngExt as _;
use rustix::process::{kill_process, Pid, Signal};
use support::wechat::{Action, Fault, TokenApi};

use crate::bed::{Bed, APPS, CLASSIC, OVERLAP, SECRETS, WECHAT};
use crate::caller::herd;
use crate::outcome::{Outcome, Tally, REJECTED};

/// The header by which a build with the feature `trap` traps.
const TRAP: &str = "x-wechat-token-trap";
/// Reasons of the plugin's for having no token.
const NO_TOKEN: [&str; 4] = ["wait_timeout", "wait_overflow", "unavailable", "refused"];

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// Token calls fail, or WeChat does its work and only the reply is lost.
    TokenCalls(Fault),
    /// Business calls fail.
    BusinessCalls(Fault),
    /// The token of an app is rejected from now on.
    Revoked(&'static str, i64),
    /// The same, and many callers at once meet it while the token endpoint is slow.
    Herd(&'static str, u64),
    /// Somebody else calls the classic endpoint: our token is replaced.
    RenewedElsewhere,
    /// WeChat takes another secret from now on.
    SecretReplaced(&'static str, &'static str),
    /// The process is stopped for so long.
    Paused(Duration),
    /// A worker's virtual machine traps.
    WorkerTraps,
    /// The refresher's virtual machine traps: for good, Envoy never loads a singleton again.
    RefresherTraps,
}

/// Troubles in random order, but each kind as often as the others' shares say, however short the run. The refresher's trap is not among them: all that comes after
/// it runs without one.
#[derive(Debug, Default)]
pub(crate) struct Deck(Vec<u32>);

impl Deck {
    pub(crate) fn draw(&mut self, rng: &mut StdRng) -> Trouble {
        if self.0.is_empty() {
            self.0.extend(0..15);
            self.0.shuffle(rng);
        }
        let card = self.0.pop().unwrap_or_default();
        let appid = APPS[rng.random_range(0..APPS.len())];
        match card {
            0..4 => Trouble::TokenCalls(token_fault(rng, appid)),
            4..8 => Trouble::BusinessCalls(business_fault(rng)),
            8 => Trouble::Revoked(appid, REJECTED[rng.random_range(0..REJECTED.len())]),
            9..11 => Trouble::Herd(appid, rng.random_range(50..300)),
            11 => Trouble::RenewedElsewhere,
            12 => Trouble::SecretReplaced(appid, SECRETS[rng.random_range(0..SECRETS.len())]),
            13 => Trouble::Paused(Duration::from_millis(rng.random_range(100..3_000))),
            _ => Trouble::WorkerTraps,
        }
    }
}

impl Trouble {
    /// Brings it about; returns what became of the calls that it made itself.
    pub(crate) async fn happen(&self, bed: &Arc<Bed>) -> Result<Tally> {
        let fake = &bed.fake;
        match self {
            Self::TokenCalls(fault) | Self::BusinessCalls(fault) => fake.arm(fault.clone()),
            Self::Revoked(appid, errcode) => fake.revoke(appid, *errcode),
            Self::Herd(appid, size) => {
                // Held for less than the plugin's timeout of a token call.
                fake.arm(
                    Fault::on_token(Action::Latency { ms: 1_000 })
                        .of(appid)
                        .times(1),
                );
                fake.revoke(appid, 40001);
                return Ok(herd(bed, appid, *size).await);
            }
            Self::RenewedElsewhere => {
                drop(fake.issue_elsewhere(CLASSIC, TokenApi::Classic));
                // Ours goes on working for a while: the trouble is over only when it does no more.
                tokio::time::sleep(OVERLAP).await;
            }
            Self::SecretReplaced(appid, secret) => fake.set_secrets(appid, &[secret]),
            Self::Paused(duration) => pause(bed, *duration).await?,
            Self::WorkerTraps => return Ok(trap(bed, "injector").await),
            Self::RefresherTraps => return Ok(trap(bed, "refresher").await),
        }
        Ok(Tally::default())
    }

    /// Whether a caller may see this while it lasts, and until everything is well again.
    pub(crate) fn may(&self, outcome: &Outcome) -> bool {
        let rejected =
            || matches!(outcome, Outcome::Errcode(errcode) if REJECTED.contains(errcode));
        let no_token =
            || matches!(outcome, Outcome::Refused(reason) if NO_TOKEN.contains(&reason.as_str()));
        let broken = || matches!(outcome, Outcome::Cut | Outcome::Status(408 | 500..));
        match self {
            // A reply that is lost on its way can have ended the token that everybody has.
            Self::TokenCalls(fault) => no_token() || (fault.processed && rejected()),
            Self::BusinessCalls(fault) => match &fault.action {
                Action::Errcode { code } => *outcome == Outcome::Errcode(*code),
                Action::Status { code } => *outcome == Outcome::Status(*code),
                Action::TextHtml | Action::Empty => *outcome == Outcome::Odd,
                Action::Latency { .. } | Action::Cuts { .. } | Action::Stall { .. } => false,
                _ => broken(),
            },
            // By the limit on refreshes, which hits tokens that live for seconds often.
            Self::Revoked(..) | Self::Herd(..) | Self::RenewedElsewhere => rejected(),
            Self::SecretReplaced(..) | Self::RefresherTraps => false,
            Self::Paused(_) => rejected() || no_token() || broken(),
            Self::WorkerTraps => no_token() || broken(),
        }
    }

    /// How long it stops the process.
    pub(crate) fn pause(&self) -> Duration {
        match self {
            Self::Paused(duration) => *duration,
            _ => Duration::ZERO,
        }
    }

    /// Whether the plugin's counts are whole afterwards: what a VM had counted and not handed over yet dies with it.
    pub(crate) fn keeps_counts(&self) -> bool {
        !matches!(self, Self::WorkerTraps)
    }
}

fn token_fault(rng: &mut StdRng, appid: &str) -> Fault {
    let action = match rng.random_range(0..14) {
        0 => Action::Latency {
            ms: rng.random_range(100..1_900),
        },
        1 => Action::Hang,
        2 => Action::Reset,
        3 => Action::Close,
        4 => Action::Garbage,
        5 => Action::TextHtml,
        6 => Action::Empty,
        7 => Action::Status {
            code: [500, 502, 503][rng.random_range(0..3)],
        },
        8 => Action::Errcode { code: -1 },
        9 => Action::HalfBody,
        10 => Action::Cuts {
            at: vec![1, rng.random_range(2..40), rng.random_range(40..100)],
        },
        11 => Action::Stall {
            ms: rng.random_range(100..1_900),
        },
        12 => Action::Body {
            text: r#"{"access_token":"","expires_in":7200}"#.to_owned(),
        },
        _ => Action::KeepaliveClose,
    };
    let mut fault = Fault::on_token(action).times(rng.random_range(1..8));
    if rng.random_bool(0.5) {
        fault = fault.of(appid);
    }
    fault.processed = rng.random_bool(0.3);
    fault
}

fn business_fault(rng: &mut StdRng) -> Fault {
    let action = match rng.random_range(0..11) {
        0 => Action::Latency {
            ms: rng.random_range(10..500),
        },
        1 => Action::Reset,
        2 => Action::Close,
        3 => Action::Garbage,
        4 => Action::TextHtml,
        5 => Action::Empty,
        6 => Action::Status {
            code: [500, 502, 504][rng.random_range(0..3)],
        },
        7 => Action::Errcode {
            code: [48001, 45009, 40003, -1][rng.random_range(0..4)],
        },
        8 => Action::HalfBody,
        9 => Action::Cuts {
            at: vec![1, rng.random_range(2..40), rng.random_range(40..600)],
        },
        _ => Action::Stall {
            ms: rng.random_range(10..2_000),
        },
    };
    Fault::on_business(action).times(rng.random_range(1..200))
}

async fn pause(bed: &Bed, duration: Duration) -> Result<()> {
    let pid = i32::try_from(bed.envoy.pid()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| anyhow::anyhow!("Envoy has no process id"))?;
    kill_process(pid, Signal::STOP)?;
    tokio::time::sleep(duration).await;
    kill_process(pid, Signal::CONT)?;
    Ok(())
}

async fn trap(bed: &Bed, whose: &str) -> Tally {
    let headers = [("host", WECHAT), (TRAP, whose)];
    let sent = bed
        .client
        .get_with(&bed.url("/cgi-bin/echo"), &headers)
        .await;
    let mut tally = Tally::default();
    tally.add(match sent {
        Ok(answer) if answer.errcode() == Some(0) => Outcome::Good,
        sent => Outcome::of_failure(&sent),
    });
    tally
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = |formatter: &mut fmt::Formatter<'_>, whose: &str, fault: &Fault| {
            let processed = if fault.processed { ", processed" } else { "" };
            let times = fault.times.unwrap_or_default();
            write!(formatter, "{whose} {:?} x{times}{processed}", fault.action)
        };
        match self {
            Self::TokenCalls(what) => fault(formatter, "token", what),
            Self::BusinessCalls(what) => fault(formatter, "business", what),
            Self::Revoked(appid, errcode) => write!(formatter, "revoked {appid} {errcode}"),
            Self::Herd(appid, size) => write!(formatter, "herd {appid} {size}"),
            Self::RenewedElsewhere => formatter.write_str("renewed elsewhere"),
            Self::SecretReplaced(appid, _) => write!(formatter, "secret replaced {appid}"),
            Self::Paused(duration) => write!(formatter, "paused {duration:?}"),
            Self::WorkerTraps => formatter.write_str("worker traps"),
            Self::RefresherTraps => formatter.write_str("refresher traps"),
        }
    }
}
