//! The server: connections, request bodies, and faults on the wire.
//!
//! hyper speaks HTTP as long as the reply is HTTP. A fault below that (reset, garbage, half a body) makes the service
//! fail, which stops hyper without a word, and then the rest is done on the naked socket.

use std::convert::Infallible;
use std::future::{poll_fn, Future};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::{header, Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::checks;
use super::endpoints::{self, Endpoint};
use super::faults::{Action, Plan};
use super::reply::{Reply, ReplyBody};
use super::report::Outcome;
use super::request::{Received, TokenParams};
use super::seen::Seen;
use super::tokens::TokenApi;
use super::world::{Settled, Shared};

/// How much of a request's body is kept; the rest is only counted and hashed.
const BODY_HEAD: usize = 64 * 1024;

/// How a connection ends when hyper was stopped.
#[derive(Debug)]
enum Ending {
    Close,
    Reset,
    Write(Bytes),
}

type EndingSlot = Arc<Mutex<Ending>>;
type Served = Result<Response<ReplyBody>, CutOff>;

/// The service's error: no reply by HTTP, see the slot.
#[derive(Debug)]
struct CutOff;

/// Accepts connections for ever.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                shared.world().report.connections += 1;
                tokio::spawn(connection(stream, peer, Arc::clone(&shared)));
            }
            // Out of file descriptors: give the open connections a moment to end.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let slot: EndingSlot = Arc::new(Mutex::new(Ending::Close));
    let in_service = Arc::clone(&slot);
    let service = service_fn(
        move |request| -> Pin<Box<dyn Future<Output = Served> + Send>> {
            Box::pin(handle(
                Arc::clone(&shared),
                peer,
                Arc::clone(&in_service),
                request,
            ))
        },
    );
    let mut http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    let served = poll_fn(|context| http.poll_without_shutdown(context)).await;
    let mut stream = http.into_parts().io.into_inner();
    if served.is_ok() {
        let _ = stream.shutdown().await;
        return;
    }
    let ending = std::mem::replace(
        &mut *slot.lock().unwrap_or_else(PoisonError::into_inner),
        Ending::Close,
    );
    match ending {
        Ending::Close => {}
        Ending::Reset => drop(stream.set_zero_linger()),
        Ending::Write(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
    }
}

async fn handle(
    shared: Arc<Shared>,
    peer: SocketAddr,
    slot: EndingSlot,
    request: Request<Incoming>,
) -> Served {
    let request = receive(request, peer).await?;
    checks::check_headers(&shared, &request);
    match Endpoint::of(request.path()) {
        Endpoint::Token(api) => token_call(shared, request, api, &slot).await,
        endpoint => business_call(shared, request, endpoint, &slot).await,
    }
}

async fn receive(request: Request<Incoming>, peer: SocketAddr) -> Result<Received, CutOff> {
    let (parts, mut body) = request.into_parts();
    let chunked = parts.headers.contains_key(header::TRANSFER_ENCODING);
    let no_length = chunked
        || (parts.method == Method::POST && !parts.headers.contains_key(header::CONTENT_LENGTH));
    let mut received = Received {
        parts,
        peer,
        no_length,
        body_bytes: 0,
        body_crc32: 0,
        body_head: Vec::new(),
    };
    let mut crc = crc32fast::Hasher::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| CutOff)?.into_data() else {
            continue;
        };
        received.body_bytes += data.len() as u64;
        crc.update(&data);
        let room = BODY_HEAD - received.body_head.len();
        received
            .body_head
            .extend_from_slice(&data[..data.len().min(room)]);
    }
    received.body_crc32 = crc.finalize();
    Ok(received)
}

async fn token_call(
    shared: Arc<Shared>,
    request: Received,
    api: TokenApi,
    slot: &EndingSlot,
) -> Served {
    let params = TokenParams::of(&request, api);
    let appid = params.appid.clone().unwrap_or_default();
    let guard = shared.enter_token_call(api, &appid, request.path());
    checks::check(&shared, &request, Endpoint::Token(api), Instant::now());
    pass_gate(&shared).await;
    let plan = shared.world().plan(true, &appid, request.path());
    wait(&plan).await;
    let (reply, settled) = if plan.replace.is_some() && !plan.processed {
        (Reply::body(""), Settled::of(Outcome::Pending))
    } else if request.no_length {
        (Reply::length_required(), Settled::of(Outcome::NoLength))
    } else {
        endpoints::token_call(&shared, &request, api, &params)
    };
    if settled.outcome == Outcome::Made {
        guard.count_token();
    }
    let (reply, settled) = match &plan.replace {
        None => (reply, settled),
        Some(action) => {
            let outcome = match action {
                Action::Errcode { code } => Outcome::Refused(*code),
                action => Outcome::Fault(action.name().to_owned()),
            };
            (
                replacement(&shared, &request, action).await,
                Settled { outcome, ..settled },
            )
        }
    };
    guard.settle(settled);
    record(&shared, request, &reply, &plan, None, None);
    drop(guard);
    deliver(reply, plan, slot)
}

async fn business_call(
    shared: Arc<Shared>,
    request: Received,
    endpoint: Endpoint,
    slot: &EndingSlot,
) -> Served {
    let at = Instant::now();
    let checked = checks::check(&shared, &request, endpoint, at);
    let appid = checked.appid.clone();
    let app = appid.as_deref().unwrap_or_default();
    let plan = shared.world().plan(false, app, request.path());
    wait(&plan).await;
    let reply = match &plan.replace {
        Some(action) => replacement(&shared, &request, action).await,
        None if request.no_length => Reply::length_required(),
        None => endpoints::answer(&shared, &request, endpoint, &checked),
    };
    let reply = match request.accepts_gzip() && shared.world().settings.gzip {
        true => reply.compressed(),
        false => reply,
    };
    if endpoint == Endpoint::Business {
        let mut world = shared.world();
        let report = &mut world.report;
        report.business_calls += 1;
        match reply.errcode {
            Some(0) if plan.replace.is_none() => report.business_ok += 1,
            Some(errcode) if errcode != 0 => {
                *report.business_errcodes.entry(errcode).or_default() += 1
            }
            _ => {}
        }
        if let (Some(appid), None) = (&appid, checked.errcode) {
            let app = report.apps.entry(appid.to_string()).or_default();
            app.business_live += 1;
            if let Some(number) = checked.number {
                let last = app.last_used_ms.entry(number).or_default();
                *last = shared.ms(at).max(*last);
            }
        }
    }
    record(&shared, request, &reply, &plan, appid, checked.number);
    deliver(reply, plan, slot)
}

/// The reply of a fault that is still HTTP; the others are only named here and done in [`deliver`].
async fn replacement(shared: &Shared, request: &Received, action: &Action) -> Reply {
    match action {
        Action::Hang => std::future::pending().await,
        Action::Status { code } => Reply::page(*code),
        Action::TextHtml => Reply::gbk_page(),
        Action::Body { text } => Reply::body(text),
        Action::Errcode { code } => endpoints::error(&mut shared.world(), request, *code),
        _ => Reply::body(""),
    }
}

fn record(
    shared: &Shared,
    request: Received,
    reply: &Reply,
    plan: &Plan,
    appid: Option<Arc<str>>,
    token: Option<u64>,
) {
    let result = match (&plan.replace, reply.errcode) {
        (Some(Action::Errcode { code }), _) => code.to_string(),
        (Some(action), _) => format!("fault:{}", action.name()),
        (None, Some(errcode)) => errcode.to_string(),
        (None, None) => reply.status.to_string(),
    };
    let (path, target) = (request.path().to_owned(), request.target());
    let seen = Seen {
        at: Instant::now(),
        method: request.parts.method,
        target,
        headers: request.parts.headers,
        body_bytes: request.body_bytes,
        body_crc32: request.body_crc32,
        appid,
        token,
        result,
    };
    shared.world().record(&path, seen);
}

fn deliver(reply: Reply, plan: Plan, slot: &EndingSlot) -> Served {
    let ending = match plan.replace {
        Some(Action::Reset) => Ending::Reset,
        Some(Action::Close) => Ending::Close,
        Some(Action::Garbage) => Ending::Write(Bytes::from_static(
            b"\x00\xff\x16\x03 this is not HTTP \x80\r\n\r\n",
        )),
        _ if plan.half_body => Ending::Write(reply.into_raw(true)),
        _ if plan.close => Ending::Write(reply.into_raw(false)),
        _ => return Ok(reply.into_response(plan.cuts.as_deref(), plan.stall)),
    };
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = ending;
    Err(CutOff)
}

async fn pass_gate(shared: &Shared) {
    /// Counts itself in the report for as long as it lives, also when the caller hangs up.
    struct Held<'a>(&'a Shared);
    impl Drop for Held<'_> {
        fn drop(&mut self) {
            let mut world = self.0.world();
            world.report.token_calls_held = world.report.token_calls_held.saturating_sub(1);
        }
    }
    let mut gate = shared.gate.subscribe();
    if *gate.borrow() {
        shared.world().report.token_calls_held += 1;
        let _held = Held(shared);
        // An error means that the server is going down.
        let _ = gate.wait_for(|held| !held).await;
    }
}

async fn wait(plan: &Plan) {
    if !plan.latency.is_zero() {
        tokio::time::sleep_until(tokio::time::Instant::now() + plan.latency).await;
    }
}

impl std::fmt::Display for CutOff {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the connection ends without a reply")
    }
}

impl std::error::Error for CutOff {}
