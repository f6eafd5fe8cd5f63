//! WeChat's endpoints: which path is what, and what it answers.

use std::sync::Arc;
use std::time::Instant;

use http::Method;
use serde_json::json;

use super::checks::Checked;
use super::reply::Reply;
use super::report::Outcome;
use super::request::{Received, TokenParams};
use super::tokens::{Grant, TokenApi};
use super::world::{Settled, Shared, World};

/// The first part of the paths that WeChat has; others are a 404.
const FAMILIES: [&str; 16] = [
    "/cgi-bin/",
    "/wxa/",
    "/datacube/",
    "/card/",
    "/customservice/",
    "/wxaapi/",
    "/channels/",
    "/tcb/",
    "/cv/",
    "/sec/",
    "/shop/",
    "/product/",
    "/semantic/",
    "/union/",
    "/intp/",
    "/bizwifi/",
];
/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// One of the two token endpoints.
    Token(TokenApi),
    /// Takes no token.
    TokenFree,
    /// Takes the user's own token.
    UserToken,
    /// Wants the app's token.
    Business,
    /// Not WeChat's.
    Unknown,
}

impl Endpoint {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/cgi-bin/token" => Self::Token(TokenApi::Classic),
            "/cgi-bin/stable_token" => Self::Token(TokenApi::Stable),
            "/sns/jscode2session"
            | "/cgi-bin/component/api_component_token"
            | "/cgi-bin/clear_quota/v2" => Self::TokenFree,
            _ if path.starts_with("/sns/oauth2/") => Self::TokenFree,
            _ if path.starts_with("/sns/") => Self::UserToken,
            _ if FAMILIES.iter().any(|family| path.starts_with(family)) => Self::Business,
            _ => Self::Unknown,
        }
    }
}

/// Answers a token call.
pub(super) fn token_call(
    shared: &Shared,
    request: &Received,
    api: TokenApi,
    params: &TokenParams,
) -> (Reply, Settled) {
    let mut world = shared.world();
    let errcode = match grant(&mut world, request, api, params) {
        Ok(Grant::Granted {
            token,
            number,
            remaining,
            fresh,
        }) => {
            let expires_in = remaining.as_secs();
            let reply = json!({"access_token": token.as_ref(), "expires_in": expires_in});
            let outcome = if fresh { Outcome::Made } else { Outcome::Same };
            let settled = Settled {
                outcome,
                token: Some(number),
                expires_in: Some(expires_in),
            };
            return (Reply::json(&reply), settled);
        }
        Ok(Grant::Refused(errcode)) | Err(errcode) => errcode,
    };
    (
        error(&mut world, request, errcode),
        Settled::of(Outcome::Refused(errcode)),
    )
}

/// Answers any call but a token call.
pub(super) fn answer(
    shared: &Shared,
    request: &Received,
    endpoint: Endpoint,
    checked: &Checked,
) -> Reply {
    let mut world = shared.world();
    if endpoint == Endpoint::Unknown {
        return Reply::page(404);
    }
    if let Some(errcode) = checked.errcode {
        return error(&mut world, request, errcode);
    }
    let app = checked
        .appid
        .as_ref()
        .and_then(|appid| world.apps.get(appid));
    if app.is_some_and(|app| {
        !app.ip_whitelist.is_empty() && !app.ip_whitelist.contains(&request.peer.ip())
    }) {
        return error(&mut world, request, 40164);
    }
    match request.path() {
        "/sns/jscode2session" => Reply::json(&json!({
            "openid": "oFakeOpenId0001", "session_key": "AAAAAAAAAAAAAAAAAAAAAA==", "unionid": "uFakeUnionId01",
            "query": request.parts.uri.query().map(|query| world.redact(query)),
        })),
        "/cgi-bin/getcallbackip" | "/cgi-bin/get_api_domain_ip" => {
            Reply::json(&json!({"ip_list": ["127.0.0.1"]}))
        }
        "/cgi-bin/ticket/getticket" => Reply::ok(&json!({
            "expires_in": 7200,
            "ticket": format!("kgt8ON7yVITDhtdwci0qe-{}", checked.appid.as_deref().unwrap_or_default()),
        })),
        path if path.starts_with("/wxa/getwxacode") => {
            let size = request
                .value("size")
                .and_then(|size| size.parse().ok())
                .unwrap_or(usize::MAX);
            Reply::png(shared.png.slice(..size.min(shared.png.len())))
        }
        path if path.eq_ignore_ascii_case("/cgi-bin/openapi/rid/get") => {
            match world.refused(request) {
                Some(query) => Reply::ok(&json!({"request": {"request_url": query}})),
                None => error(&mut world, request, 76001),
            }
        }
        path => echo(&world, request, checked, path.starts_with("/cgi-bin/echo")),
    }
}

fn grant(
    world: &mut World,
    request: &Received,
    api: TokenApi,
    params: &TokenParams,
) -> Result<Grant, i64> {
    match api {
        TokenApi::Classic if request.parts.method != Method::GET => return Err(43001),
        TokenApi::Stable if request.parts.method != Method::POST => return Err(43002),
        _ if params.malformed => return Err(47001),
        _ => {}
    }
    if params.grant_type.as_deref() != Some("client_credential") {
        return Err(40002);
    }
    let appid = params
        .appid
        .as_deref()
        .filter(|appid| !appid.is_empty())
        .ok_or(41002)?;
    let secret = params
        .secret
        .as_deref()
        .filter(|secret| !secret.is_empty())
        .ok_or(41004)?;
    let (appid, app) = world.apps.get_key_value(appid).ok_or(40013)?;
    if !app.secrets.iter().any(|valid| valid == secret) {
        return Err(world.settings.wrong_secret);
    }
    if !app.ip_whitelist.is_empty() && !app.ip_whitelist.contains(&request.peer.ip()) {
        return Err(40164);
    }
    let (appid, now) = (Arc::clone(appid), Instant::now());
    Ok(match api {
        TokenApi::Classic => world.book.call_classic(&appid, now),
        TokenApi::Stable => world.book.call_stable(&appid, params.force_refresh, now),
    })
}

/// An error in the style of the settings; 40164 names the caller's address. Its `rid` can be asked for.
pub(super) fn error(world: &mut World, request: &Received, errcode: i64) -> Reply {
    let ip = request.peer.ip();
    let detail =
        (errcode == 40164).then(|| format!("invalid ip {ip} ipv6 ::ffff:{ip}, not in whitelist"));
    let rid = world.refuse(request);
    Reply::error(errcode, detail.as_deref(), &rid, world.settings.error_style)
}

/// What WeChat got, for the tests to compare with what was sent.
fn echo(world: &World, request: &Received, checked: &Checked, whole: bool) -> Reply {
    let mut value = json!({
        "appid": checked.appid.as_deref(),
        "token": checked.number,
        "method": request.parts.method.as_str(),
        "path": request.path(),
        "query": request.parts.uri.query().map(|query| world.redact(query)),
        "host": request.host(),
        "body_bytes": request.body_bytes,
        "body_crc32": format!("{:08x}", request.body_crc32),
    });
    if whole {
        value["headers"] = json!(world.show_headers(&request.parts.headers));
        value["body"] = json!(world.redact(&String::from_utf8_lossy(&request.body_head)));
    }
    Reply::ok(&value)
}
