//! A strict fake WeChat over real sockets.
//!
//! It keeps WeChat's rules for tokens (both endpoints, their overlap and quotas), checks the `access_token` of every
//! business call, answers in WeChat's shapes, does what a script of faults says, and counts everything, above all
//! what must never happen ([`Report::violations`]). Its time can be scaled, so that rotation is really seen.
//!
//! It runs on threads of its own until it is dropped, so tests without a runtime can use it too. What it leaves out:
//! TLS, HTTP/2, WeCom, and the meaning of business calls (they only say what arrived). A `#` in a request's target
//! and what follows it is cut off by the HTTP library before it gets here.

mod checks;
mod control;
mod endpoints;
mod faults;
mod reply;
mod report;
mod request;
mod seen;
mod server;
mod settings;
mod tokens;
mod world;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;

pub use self::control::parse_faults;
pub use self::faults::{Action, Fault, Scope};
pub use self::report::{AppReport, Call, Outcome, Report, Rule, TokenCall, Violation};
pub use self::settings::{App, ErrcodeStyle, ErrorStyle, Quotas, Settings};
pub use self::tokens::{Book, Grant, TokenApi, Verdict};

use self::world::Shared;
use crate::wait;

/// Connections that may wait to be accepted: a herd of a thousand must not meet a full queue.
const BACKLOG: u32 = 4_096;

/// A running fake WeChat; dropping it stops it.
#[derive(Debug)]
pub struct FakeWeChat {
    shared: Arc<Shared>,
    address: SocketAddr,
    control: Option<SocketAddr>,
    runtime: Option<Runtime>,
}

impl FakeWeChat {
    /// Starts it and returns once it listens. Panics where it cannot; see [`Self::try_start`].
    pub async fn start(settings: Settings) -> Self {
        Self::start_blocking(settings)
    }

    /// As [`Self::start`], for callers without a runtime.
    pub fn start_blocking(settings: Settings) -> Self {
        Self::try_start(settings)
            .unwrap_or_else(|error| panic!("the fake WeChat does not start: {error}"))
    }

    /// Starts it, or says why not: an address in use, mostly.
    pub fn try_start(settings: Settings) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.threads.max(1))
            .thread_name("fake-wechat")
            .enable_all()
            .build()?;
        let (listen, control) = (settings.listen, settings.control);
        let shared = Arc::new(Shared::new(settings));
        let mut fake = Self {
            shared,
            address: listen,
            control: None,
            runtime: Some(runtime),
        };
        fake.listen(listen, control)?;
        Ok(fake)
    }

    /// Adds an app, or gives one other secrets or another whitelist.
    pub fn put_app(&self, app: App) {
        self.shared.world().put_app(app);
    }

    /// Replaces an app's secrets, as an operator does on WeChat's site. Panics for an unknown app.
    pub fn set_secrets(&self, appid: &str, secrets: &[&str]) {
        let app = App {
            secrets: secrets.iter().map(ToString::to_string).collect(),
            ..self.app(appid)
        };
        self.put_app(app);
    }

    /// Replaces an app's IP whitelist; empty lets everybody in. Panics for an unknown app.
    pub fn set_ip_whitelist(&self, appid: &str, whitelist: &[IpAddr]) {
        self.put_app(App {
            ip_whitelist: whitelist.to_vec(),
            ..self.app(appid)
        });
    }

    /// Changes how errors are written.
    pub fn set_error_style(&self, style: ErrorStyle) {
        self.shared.world().settings.error_style = style;
    }

    /// Arms a fault behind those that are there.
    pub fn arm(&self, fault: Fault) {
        self.shared.world().script.arm(fault, Instant::now());
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.shared.world().script.clear();
    }

    /// Holds every token call that comes from now on, until [`Self::release`].
    pub fn hold_token_calls(&self) {
        self.shared.gate.send_replace(true);
    }

    /// Lets the held token calls go on.
    pub fn release(&self) {
        self.shared.gate.send_replace(false);
    }

    /// How many token calls are held now.
    pub fn held(&self) -> u32 {
        self.shared.world().report.token_calls_held
    }

    /// Waits until at least so many token calls are held; panics after the deadline.
    pub async fn wait_for_held(&self, calls: u32, deadline: Duration) {
        wait::until(deadline, &format!("{calls} held token calls"), || {
            self.held() >= calls
        })
        .await;
    }

    /// Makes the app's current tokens fail with `errcode` (40001, 40014 or 42001) from now on; the next token call
    /// makes a new one.
    pub fn revoke(&self, appid: &str, errcode: i64) {
        self.shared.world().book.revoke(appid, errcode);
    }

    /// Somebody else calls the token endpoint: with [`TokenApi::Classic`] that replaces the current token. It is not
    /// in the report. Returns the token; panics for an unknown app or where the quota is used up.
    pub fn issue_elsewhere(&self, appid: &str, api: TokenApi) -> String {
        let appid: Arc<str> = self.app(appid).appid.into();
        let now = Instant::now();
        let book = &mut self.shared.world().book;
        let grant = match api {
            TokenApi::Classic => book.call_classic(&appid, now),
            TokenApi::Stable => book.call_stable(&appid, false, now),
        };
        match grant {
            Grant::Granted { token, .. } => token.to_string(),
            Grant::Refused(errcode) => panic!("{appid} gets no token: {errcode}"),
        }
    }

    /// Takes in a token that a caller got by itself; it works for one lifetime. Returns its number.
    pub fn accept_token(&self, appid: &str, token: &str) -> u64 {
        let appid = Arc::from(appid);
        self.shared
            .world()
            .book
            .accept(&appid, token, Instant::now())
    }

    /// Forgets what was counted, the violations and the faults. Tokens go on working.
    pub fn reset(&self) {
        self.shared.world().reset(false);
    }

    /// Forgets every token too: all that were handed out are unknown (40014) from now on.
    pub fn reset_tokens(&self) {
        self.shared.world().reset(true);
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The API's URL for a path that begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where the control API listens.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        self.shared.report()
    }

    /// The last `tail` calls, oldest first (4,096 are kept), with tokens and secrets shortened.
    pub fn calls(&self, tail: usize) -> Vec<Call> {
        self.shared.calls(tail)
    }

    /// As [`Self::calls`], with tokens and secrets as they came: to compare with what was sent, never to be shown, so the
    /// control API does not have it.
    pub fn raw_calls(&self, tail: usize) -> Vec<Call> {
        self.shared.raw_calls(tail)
    }

    /// Every token ever handed out and every secret that was ever valid, to look for in logs.
    pub fn leaks(&self) -> Vec<String> {
        self.shared.leaks()
    }

    /// Every token ever handed out, oldest first.
    pub fn tokens(&self) -> Vec<String> {
        self.shared.world().book.tokens()
    }

    fn listen(&mut self, api: SocketAddr, control: Option<SocketAddr>) -> io::Result<()> {
        let Some(runtime) = &self.runtime else {
            return Ok(());
        };
        let _entered = runtime.enter();
        let listener = bind(api)?;
        self.address = listener.local_addr()?;
        runtime.spawn(server::serve(listener, Arc::clone(&self.shared)));
        if let Some(control) = control {
            let listener = bind(control)?;
            self.control = Some(listener.local_addr()?);
            runtime.spawn(control::serve(listener, Arc::clone(&self.shared)));
        }
        Ok(())
    }

    fn app(&self, appid: &str) -> App {
        self.shared
            .world()
            .apps
            .get(appid)
            .unwrap_or_else(|| panic!("no app {appid}"))
            .clone()
    }
}

impl Drop for FakeWeChat {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not the runtime's own drop: that blocks, which is forbidden within another runtime.
            runtime.shutdown_background();
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The CRC-32 of a body as the fake's answers write it (`body_crc32`): eight lower-case hexadecimal digits.
pub fn crc32(body: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(body))
}
