//! The load: callers that send one random call after the other and know what the right answer to each is.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use support::client::Answer;
use support::wechat::crc32;
use tokio::task::JoinSet;

use crate::bed::{Bed, APPS, WECHAT};
use crate::outcome::{Outcome, Tally};

/// Callers at once.
const CALLERS: u64 = 12;
/// The longest pause of a caller between two calls.
const PAUSE_MS: u64 = 40;
/// The largest picture that the fake WeChat has, and the largest body that is sent.
const LARGEST: usize = 3 * 1024 * 1024;

/// One call and what belongs to it.
#[derive(Debug)]
struct Call {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    wanted: Wanted,
    /// The caller hangs up after so long.
    patience: Option<Duration>,
}

/// What the right answer is.
#[derive(Debug)]
enum Wanted {
    /// An echo of the call with this app's token.
    Echo(&'static str),
    /// A picture of so many bytes.
    Picture(usize),
    /// Success, on a path that takes no token.
    NoToken,
    /// The plugin's refusal of an app that it does not know.
    UnknownApp,
}

/// Runs all callers until `over` is done; they end their last calls. `seed` says what they send.
pub(crate) async fn load(bed: &Arc<Bed>, seed: u64, over: impl Future<Output = ()>) -> Tally {
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let (bed, stop) = (Arc::clone(bed), Arc::clone(&stop));
        let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(CALLERS).wrapping_add(number));
        callers.spawn(async move {
            let mut tally = Tally::default();
            while !stop.load(Ordering::Relaxed) {
                let call = Call::random(&mut rng);
                tally.add(call.send(&bed).await);
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..PAUSE_MS))).await;
            }
            tally
        });
    }
    over.await;
    stop.store(true, Ordering::Relaxed);
    let mut tally = Tally::default();
    while let Some(ended) = callers.join_next().await {
        match ended {
            Ok(one) => tally.merge(one),
            Err(error) => tally.add(Outcome::Wrong(format!("a caller: {error}"))),
        }
    }
    tally
}

/// So many calls of one app at once, none of which hangs up.
pub(crate) async fn herd(bed: &Arc<Bed>, appid: &'static str, size: u64) -> Tally {
    let mut calls = JoinSet::new();
    for number in 0..size {
        let bed = Arc::clone(bed);
        calls.spawn(async move { Call::read(appid, number, true).send(&bed).await });
    }
    let mut tally = Tally::default();
    calls
        .join_all()
        .await
        .into_iter()
        .for_each(|outcome| tally.add(outcome));
    tally
}

impl Call {
    fn random(rng: &mut StdRng) -> Self {
        let appid = APPS[rng.random_range(0..APPS.len())];
        let number = rng.random_range(0..u64::MAX);
        let by_header = rng.random_bool(0.5);
        let mut call = match rng.random_range(0..100) {
            0..55 => Self::read(appid, number, by_header),
            55..80 => Self::write(appid, number, rng.random_range(0..16 * 1024)),
            80..82 => Self::write(appid, number, rng.random_range(0..LARGEST)),
            82..94 => Self::picture(appid, rng.random_range(16..64 * 1024)),
            94..95 => Self::picture(appid, rng.random_range(16..LARGEST)),
            95..98 => Self::without_token(number),
            _ => Self::of_no_app(number),
        };
        if rng.random_bool(0.02) {
            call.patience = Some(Duration::from_millis(rng.random_range(0..50)));
        }
        call
    }

    fn read(appid: &'static str, number: u64, by_header: bool) -> Self {
        let target = format!("/cgi-bin/user/info?openid=o{number}");
        match by_header {
            true => Self::new("GET", target, Wanted::Echo(appid)).of(appid),
            // The parameter is the plugin's, and is not sent on.
            false if appid == APPS[0] => Self::new("GET", target, Wanted::Echo(appid)),
            false => Self::new(
                "GET",
                format!("{target}&from_appid={appid}"),
                Wanted::Echo(appid),
            ),
        }
    }

    fn write(appid: &'static str, number: u64, size: usize) -> Self {
        let target = format!("/cgi-bin/message/custom/send?n={number}");
        let mut call = Self::new("POST", target, Wanted::Echo(appid)).of(appid);
        let bytes = number.to_le_bytes();
        call.body = bytes.iter().copied().cycle().take(size).collect();
        call
    }

    fn picture(appid: &'static str, size: usize) -> Self {
        let target = format!("/wxa/getwxacodeunlimit?size={size}");
        Self::new("GET", target, Wanted::Picture(size)).of(appid)
    }

    fn without_token(number: u64) -> Self {
        let target = format!("/sns/jscode2session?js_code={number}&grant_type=authorization_code");
        Self::new("GET", target, Wanted::NoToken)
    }

    fn of_no_app(number: u64) -> Self {
        let mut call = Self::new(
            "GET",
            format!("/cgi-bin/user/info?n={number}"),
            Wanted::UnknownApp,
        );
        call.headers
            .push(("x-wechat-appid", "wxnoneofours00000".to_owned()));
        call
    }

    fn new(method: &'static str, target: String, wanted: Wanted) -> Self {
        let mut headers = vec![("host", WECHAT.to_owned())];
        if let Wanted::Echo(appid) = wanted {
            // The fake WeChat counts a token of another app as what must never be.
            headers.push(("x-expect-appid", appid.to_owned()));
        }
        Self {
            method,
            target,
            headers,
            body: Vec::new(),
            wanted,
            patience: None,
        }
    }

    fn of(mut self, appid: &str) -> Self {
        self.headers.push(("x-wechat-appid", appid.to_owned()));
        self
    }

    async fn send(&self, bed: &Bed) -> Outcome {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let url = bed.url(&self.target);
        let sending = bed
            .client
            .call(self.method, &url, &headers, self.body.clone().into());
        let sent = match self.patience {
            None => sending.await,
            Some(patience) => match tokio::time::timeout(patience, sending).await {
                Ok(sent) => sent,
                Err(_) => return Outcome::HungUp,
            },
        };
        match &sent {
            Ok(answer) if self.is_right(answer) => Outcome::Good,
            sent => Outcome::of_failure(sent),
        }
    }

    fn is_right(&self, answer: &Answer) -> bool {
        match self.wanted {
            Wanted::Echo(appid) => answer.status == 200 && self.is_echo(appid, answer),
            Wanted::Picture(size) => {
                let body = &answer.body;
                answer.status == 200
                    && answer.header("content-type") == Some("image/png")
                    && body.len() == size
                    && body.starts_with(b"\x89PNG\r\n\x1a\n")
                    && body.iter().skip(8).all(|byte| *byte == 0x5a)
            }
            Wanted::NoToken => {
                let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let query = self.target.split_once('?').map(|(_, query)| query);
                answer.status == 200 && body["query"].as_str() == query
            }
            Wanted::UnknownApp => {
                answer.status == 400 && answer.header("x-wechat-token-error") == Some("unknown_app")
            }
        }
    }

    /// Whether WeChat got this call, whole and with this app's token.
    fn is_echo(&self, appid: &str, answer: &Answer) -> bool {
        let echo: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let own = own_parameters(query);
        let arrived = own_parameters(echo["query"].as_str().unwrap_or_default());
        echo["errcode"] == 0
            && echo["appid"] == appid
            && echo["method"] == self.method
            && echo["path"] == path
            && arrived == own
            && echo["body_bytes"] == self.body.len()
            && echo["body_crc32"] == crc32(&self.body)
    }
}

/// The parameters that are neither the plugin's nor the token.
fn own_parameters(query: &str) -> Vec<(String, String)> {
    let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
    pairs
        .filter(|(name, _)| name != "from_appid" && name != "access_token")
        .collect()
}
