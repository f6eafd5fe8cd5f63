//! What a seed stands for: the configuration, the faults and when they come, and the bug that is planted.

use serde_json::json;

use super::rng::Rng;

/// The apps; the first uses the stable endpoint, the others the classic one, the last with a budget that is soon spent.
pub const APPS: [&str; 3] = ["wxA", "wxB", "wxC"];
/// The app whose budget is small.
pub const THRIFTY: usize = 2;
/// Virtual machines of injectors.
pub const WORKERS: usize = 4;
/// Period of ticks, in milliseconds.
pub const TICK: u64 = 250;
/// Faults begin between these instants; afterwards everything has time to heal.
const FAULTS_FROM: u64 = 4_000;
const FAULTS_TO: u64 = 75_000;
/// A refusal begins no later: it is waited out for more than a minute.
const REFUSED_TO: u64 = 35_000;
/// The run ends here at the earliest.
pub const END: u64 = 165_000;
/// Requests that come later than this must succeed.
pub const HEALED: u64 = END - 6_000;

/// A bug that is planted into host, configuration or WeChat, so that the plugin behaves as if its code had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Writes succeed without compare-and-swap.
    CasLeftOut,
    /// Every `Updated` is lost for ever, and nothing repairs it: the epoch stands still.
    UpdatedLost,
    /// Whoever once held a lease never sees that somebody else took it: neither term nor holder is compared.
    NoLeaseTerm,
    /// The mark of a call on its way is never seen.
    NoInFlightMark,
    /// A rejection is taken for one of the current generation, whichever token it was about.
    NoGenerationCheck,
    /// Rejections cause refreshes more often than the limit allows.
    NoRejectionLimit,
    /// Whoever takes a lease over knows nothing of the limit that its last holder used up.
    LimitForgotten,
    /// The record of the other app is read.
    OtherAppsToken,
    /// Tokens are believed to live longer than they do.
    ExpiryIgnored,
    /// Workers stop looking at deadlines.
    NoDeadlines,
    /// An older token is saved over a newer one.
    OlderTokenSaved,
    /// Whoever takes a lease over knows nothing of the calls that were made that day.
    BudgetForgotten,
    /// Deadlines are those of the wall clock.
    WallDeadlines,
}

/// What happens to the process, its messages or WeChat. Spans are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Messages are lost, in this share of 100.
    Lose { span: u64, percent: u64 },
    /// Messages come twice, the second time late.
    Double { span: u64, late: u64 },
    /// Messages are late.
    Delay { span: u64, late: u64 },
    /// Token calls fail.
    TokenCalls { span: u64, how: TokenFault },
    /// Token calls cannot be sent: the cluster is not there.
    NotSent { span: u64 },
    /// The callback of a token call never comes.
    CallbackLost { span: u64 },
    /// The current token of an app is revoked.
    Revoke { app: usize },
    /// Every business call of an app is rejected, whatever its token.
    Ban { app: usize, span: u64 },
    /// The singleton traps: it is never called again.
    TrapRefresher,
    /// A worker traps; the next request loads it again.
    TrapWorker { worker: usize },
    /// A worker's filter is configured anew; the old one drains.
    Replace { worker: usize },
    /// The thread of one virtual machine does not run.
    Stall { vm: usize, span: u64 },
    /// The whole process does not run, but the clock does.
    Pause { span: u64 },
    /// The wall clock is so many days behind.
    WallBehind { span: u64, days: u64 },
}

/// How a token call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// WeChat says -1.
    SystemError,
    /// WeChat refuses with this errcode: the breaker opens for a minute.
    Refused(i64),
    /// Status 500 with HTML.
    Http500,
    /// Status 200 with half a JSON object.
    HalfReply,
    /// The connection breaks: a callback without headers.
    Reset,
    /// No answer; WeChat never saw the call.
    HangBefore,
    /// No answer, though WeChat made a token.
    HangAfter,
    /// The answer comes just before the timeout.
    Late,
}

/// The parameters of a run. Spans are milliseconds.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How long a token lives.
    pub life: u64,
    /// How long old and new token work together.
    pub overlap: u64,
    /// Lead of a refresh.
    pub lead: u64,
    /// Timeout of a token call.
    pub call_timeout: u64,
    /// Longest wait of a request.
    pub wait: u64,
    /// Limit on refreshes by rejection.
    pub rejected_interval: u64,
    /// Calls a day of the thrifty app.
    pub budget: u32,
    /// When a new day begins, after the faults: an app without budget has a token again.
    pub midnight: u64,
    /// When the singleton comes up.
    pub refresher_at: u64,
    /// How often another virtual machine runs between reading and writing a key, in 100.
    pub preempt: u64,
    /// Pause between two requests, on average.
    pub request_every: u64,
    /// What goes wrong, and when.
    pub faults: Vec<(u64, Fault)>,
}

impl Setup {
    /// The run of a seed: at least 3 faults, and with a planted bug more of those that make it show soon.
    pub fn draw(rng: &mut Rng, mutation: Option<Mutation>) -> Setup {
        let count = 3 + rng.index(6);
        let mut faults: Vec<_> = (0..count)
            .map(|_| {
                let at = rng.between(FAULTS_FROM, FAULTS_TO);
                (at, draw_fault(rng, at))
            })
            .collect();
        // Each is waited out for a minute; two would leave no time for rotations.
        let refusals = faults.iter_mut().filter_map(|(_, fault)| match fault {
            Fault::TokenCalls { how, .. } if matches!(how, TokenFault::Refused(_)) => Some(how),
            _ => None,
        });
        refusals
            .skip(1)
            .for_each(|how| *how = TokenFault::SystemError);
        faults.extend(mutation.into_iter().flat_map(provoke));
        faults.sort_by_key(|(at, _)| *at);
        let life = rng.between(24, 30) * 1_000;
        Setup {
            life,
            overlap: 5_000,
            lead: rng.between(4, 8) * 1_000,
            call_timeout: rng.between(10, 30) * 100,
            wait: rng.between(5, 50) * 100,
            rejected_interval: rng.between(10, 25) * 1_000,
            budget: rng.between(5, 9) as u32,
            midnight: rng.between(98_000, 106_000),
            refresher_at: if rng.chance(25) {
                rng.between(2_000, 15_000)
            } else {
                rng.between(0, 400)
            },
            preempt: 15,
            request_every: rng.between(250, 500),
            faults,
        }
    }

    /// The plugin's configuration.
    pub fn configuration(&self, mutation: Option<Mutation>) -> Vec<u8> {
        let ms = |span: u64| format!("{span}ms");
        let interval = match mutation {
            Some(Mutation::NoRejectionLimit) => 10_000,
            _ => self.rejected_interval,
        };
        json!({
            "apps": [
                {"appid": APPS[0], "secret": {"value": "secret-a"}},
                {"appid": APPS[1], "secret": {"value": "secret-b"}, "token_api": "classic", "sole_refresher": true},
                {
                    "appid": APPS[THRIFTY], "secret": {"value": "secret-c"}, "token_api": "classic", "sole_refresher": true,
                    "refresh": {"daily_budget": self.budget},
                },
            ],
            "default_app": APPS[0],
            "weixin": {
                "upstreams": [{"cluster": "wechat_token", "authority": "api.weixin.qq.com"}],
                "timeout": ms(self.call_timeout),
                "hosts": ["api.weixin.qq.com"],
            },
            "wait": {"timeout": ms(self.wait), "max_requests": 8},
            "refresh": {
                "lead": ms(self.lead),
                "jitter": "2s",
                "backoff": {"initial": "500ms", "max": "4s"},
                "rejected_interval": ms(interval),
            },
        })
        .to_string()
        .into_bytes()
    }
}

/// Tokens revoked again and again, messages that come late once more, holders that die.
fn provoke(mutation: Mutation) -> Vec<(u64, Fault)> {
    let revoked = (0..6).flat_map(|n| {
        let at = 15_000 + n * 11_000;
        [
            (at, Fault::Revoke { app: 0 }),
            (at + 300, Fault::Revoke { app: 1 }),
        ]
    });
    match mutation {
        Mutation::NoRejectionLimit => revoked.collect(),
        Mutation::NoGenerationCheck => {
            let double = Fault::Double {
                span: 60_000,
                late: 40_000,
            };
            revoked.take(2).chain([(14_000, double)]).collect()
        }
        Mutation::LimitForgotten => {
            let worker = |worker| Fault::TrapWorker { worker };
            let traps = [
                (17_000, Fault::TrapRefresher),
                (28_000, worker(0)),
                (39_000, worker(1)),
            ];
            revoked.chain(traps).collect()
        }
        Mutation::NoInFlightMark => {
            let late = Fault::TokenCalls {
                span: 60_000,
                how: TokenFault::Late,
            };
            (0..6)
                .map(|n| {
                    (
                        12_000 + n * 10_000,
                        Fault::Stall {
                            vm: WORKERS,
                            span: 6_000,
                        },
                    )
                })
                .chain([(10_000, late)])
                .collect()
        }
        Mutation::WallDeadlines => {
            let (span, days) = (20_000, 1);
            vec![(20_000, Fault::WallBehind { span, days })]
        }
        Mutation::BudgetForgotten => {
            let failing = Fault::TokenCalls {
                span: 40_000,
                how: TokenFault::SystemError,
            };
            let traps = [30_000, 40_000]
                .into_iter()
                .flat_map(|at| (0..WORKERS).map(move |worker| (at, Fault::TrapWorker { worker })));
            traps
                .chain([(20_000, failing), (25_000, Fault::TrapRefresher)])
                .collect()
        }
        _ => Vec::new(),
    }
}

fn draw_fault(rng: &mut Rng, at: u64) -> Fault {
    let span = rng.between(1_000, 12_000);
    let app = rng.index(APPS.len());
    let worker = rng.index(WORKERS);
    match rng.index(19) {
        0 => Fault::Lose { span, percent: 100 },
        1 => Fault::Lose { span, percent: 50 },
        2 => Fault::Double {
            span,
            late: rng.between(1, 40_000),
        },
        3 => Fault::Delay {
            span,
            late: rng.between(1, 40_000),
        },
        4 | 5 => {
            const HOW: [TokenFault; 9] = [
                TokenFault::Refused(40164),
                TokenFault::Refused(45011),
                TokenFault::SystemError,
                TokenFault::Http500,
                TokenFault::HalfReply,
                TokenFault::Reset,
                TokenFault::HangBefore,
                TokenFault::HangAfter,
                TokenFault::Late,
            ];
            let how = match HOW[rng.index(HOW.len())] {
                TokenFault::Refused(_) if at > REFUSED_TO => TokenFault::SystemError,
                how => how,
            };
            Fault::TokenCalls { span, how }
        }
        6 => Fault::NotSent { span },
        7 => Fault::CallbackLost { span },
        8..=10 => Fault::Revoke { app },
        11 => Fault::Ban { app, span },
        12 => Fault::TrapRefresher,
        13 => Fault::TrapWorker { worker },
        14 => Fault::Replace { worker },
        15 | 16 => Fault::Stall {
            vm: rng.index(WORKERS + 1),
            span: rng.between(500, 10_000),
        },
        17 => Fault::Pause {
            span: rng.between(500, 20_000),
        },
        _ => Fault::WallBehind {
            span,
            days: rng.between(1, 400),
        },
    }
}
