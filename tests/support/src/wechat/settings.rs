//! What a fake WeChat is started with: its apps, its rules' numbers and the shape of its errors.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::faults::Fault;

/// WeChat's real token lifetime in seconds; the other windows are scaled against it.
const REAL_LIFETIME: f64 = 7200.0;
/// The window before a token's end in which WeChat hands out the next one, and in which both work, in seconds.
const REAL_OVERLAP: f64 = 300.0;
/// The least distance between two forced refreshes of the stable endpoint, in seconds.
const REAL_FORCE_GAP: f64 = 30.0;

/// Everything a fake WeChat is started with. `Settings::default()` is the real one's behaviour with no app.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where WeChat's API listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where the control API listens; `None`: in-process control only.
    pub control: Option<SocketAddr>,
    /// The apps that exist.
    pub apps: Vec<App>,
    /// How long a token lives, in real time.
    pub token_lifetime: Duration,
    /// The last part of a token's life, in which the stable endpoint hands out the next one; and how long a replaced
    /// token goes on working.
    pub overlap: Duration,
    /// The least distance between two forced refreshes.
    pub force_gap: Duration,
    /// Characters in a token, 32 to 512.
    pub token_length: usize,
    /// How many token calls are allowed.
    pub quotas: Quotas,
    /// How errors are written.
    pub error_style: ErrorStyle,
    /// Answers to business calls are compressed for those who accept gzip.
    pub gzip: bool,
    /// The errcode of a wrong secret: 40001 (what WeChat mostly says) or 40125.
    pub wrong_secret: i64,
    /// Host values (without port) that may arrive; empty: any. Another one is a violation.
    pub hosts: Vec<String>,
    /// Size of the pictures that `/wxa/getwxacode*` answers, in bytes.
    pub png_bytes: usize,
    /// How many token calls of one app may be in flight at once before it counts as a violation.
    pub parallel_token_calls: u32,
    /// Threads of the server's own runtime.
    pub threads: usize,
    /// Faults that are armed from the start.
    pub faults: Vec<Fault>,
}

/// One WeChat app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct App {
    /// The app's id, such as `wx0123456789abcdef`.
    pub appid: String,
    /// Every secret that is valid now.
    pub secrets: Vec<String>,
    /// The addresses that may call; empty: any.
    #[serde(default)]
    pub ip_whitelist: Vec<IpAddr>,
}

/// How many token calls are allowed in a window. The windows are real time, they are not scaled with the lifetime.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Calls of `/cgi-bin/token` in a day.
    pub classic_per_day: u64,
    /// Calls of `/cgi-bin/stable_token` in a minute.
    pub stable_per_minute: u64,
    /// Calls of `/cgi-bin/stable_token` in a day.
    pub stable_per_day: u64,
    /// Refreshes by `force_refresh` in a day; the others hand out the current token.
    pub forced_per_day: u64,
    /// How long a minute lasts.
    pub minute: Duration,
    /// How long a day lasts.
    pub day: Duration,
}

/// How errors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorStyle {
    /// `text/plain` in place of `application/json; encoding=utf-8`.
    pub text_plain: bool,
    /// Where and how the errcode stands.
    pub errcode: ErrcodeStyle,
}

/// Where and how the errcode stands in an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrcodeStyle {
    /// `{"errcode":40001,…}`
    #[default]
    Number,
    /// `{"errcode":"40001",…}`
    Text,
    /// `{"base_resp":{"errcode":40001,…}}`
    BaseResp,
}

impl App {
    /// An app with one secret, callable from anywhere.
    pub fn new(appid: &str, secret: &str) -> Self {
        Self {
            appid: appid.to_owned(),
            secrets: vec![secret.to_owned()],
            ip_whitelist: Vec::new(),
        }
    }
}

impl Settings {
    /// Adds an app with one secret.
    #[must_use]
    pub fn with_app(mut self, appid: &str, secret: &str) -> Self {
        self.apps.push(App::new(appid, secret));
        self
    }

    /// Sets the token lifetime and scales the windows of 300 s and 30 s in proportion (7200 s is the real one).
    #[must_use]
    pub fn with_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime;
        self.overlap = lifetime.mul_f64(REAL_OVERLAP / REAL_LIFETIME);
        self.force_gap = lifetime.mul_f64(REAL_FORCE_GAP / REAL_LIFETIME);
        self
    }

    /// Sets the overlap by itself, after [`Self::with_token_lifetime`].
    #[must_use]
    pub fn with_overlap(mut self, overlap: Duration) -> Self {
        self.overlap = overlap;
        self
    }

    /// Opens the control API on a free port of the loopback.
    #[must_use]
    pub fn with_control(mut self) -> Self {
        self.control = Some(loopback());
        self
    }

    /// Arms a fault from the start.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: loopback(),
            control: None,
            apps: Vec::new(),
            token_lifetime: Duration::from_secs_f64(REAL_LIFETIME),
            overlap: Duration::from_secs_f64(REAL_OVERLAP),
            force_gap: Duration::from_secs_f64(REAL_FORCE_GAP),
            token_length: 136,
            quotas: Quotas::default(),
            error_style: ErrorStyle::default(),
            gzip: false,
            wrong_secret: 40001,
            hosts: Vec::new(),
            png_bytes: 3 * 1024 * 1024,
            parallel_token_calls: 1,
            threads: 2,
            faults: Vec::new(),
        }
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            classic_per_day: 2_000,
            stable_per_minute: 10_000,
            stable_per_day: 500_000,
            forced_per_day: 20,
            minute: Duration::from_secs(60),
            day: Duration::from_secs(24 * 3600),
        }
    }
}
