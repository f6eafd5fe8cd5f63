//! WeChat's endpoints: which path is what, how its token is checked, and what it answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::reply::Reply;
use super::report::{Outcome, Rule};
use super::tokens::{Grant, TokenApi, Verdict};
use super::world::{Shared, World};

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
/// Tokens that are not the app's own.
const FOREIGN_TOKENS: [&str; 3] = [
    "component_access_token",
    "suite_access_token",
    "provider_access_token",
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

/// A request whose body has been read.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) parts: Parts,
    pub(super) peer: SocketAddr,
    /// Without Content-Length where one is needed.
    pub(super) no_length: bool,
    pub(super) body_bytes: u64,
    pub(super) body_crc32: u32,
    /// The body's first 64 KiB.
    pub(super) body_head: Vec<u8>,
}

/// A checked business call.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) appid: Option<Arc<str>>,
    pub(super) number: Option<u64>,
    /// The errcode that the token earns, or `None` where it works.
    pub(super) errcode: Option<i64>,
}

/// The parameters of a token call, from the query or from the JSON body.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenParams {
    grant_type: Option<String>,
    pub(super) appid: Option<String>,
    secret: Option<String>,
    #[serde(default)]
    force_refresh: bool,
    #[serde(skip)]
    malformed: bool,
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

impl Received {
    pub(super) fn path(&self) -> &str {
        self.parts.uri.path()
    }

    pub(super) fn target(&self) -> String {
        self.parts
            .uri
            .path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string)
    }

    /// The Host without its port.
    pub(super) fn host(&self) -> String {
        let host = self
            .parts
            .headers
            .get(http::header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        host.rsplit_once(':')
            .map_or(host, |(name, _)| name)
            .to_ascii_lowercase()
    }

    fn values(&self, name: &str) -> Vec<String> {
        let query = self.parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        pairs
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .collect()
    }

    fn value(&self, name: &str) -> Option<String> {
        self.values(name).into_iter().next()
    }
}

impl TokenParams {
    pub(super) fn of(request: &Received, api: TokenApi) -> Self {
        match api {
            TokenApi::Classic => Self {
                grant_type: request.value("grant_type"),
                appid: request.value("appid"),
                secret: request.value("secret"),
                ..Self::default()
            },
            TokenApi::Stable => {
                serde_json::from_slice(&request.body_head).unwrap_or_else(|_| Self {
                    malformed: true,
                    ..Self::default()
                })
            }
        }
    }
}

/// Answers a token call.
pub(super) fn token_call(
    shared: &Shared,
    request: &Received,
    api: TokenApi,
    params: &TokenParams,
) -> (Reply, Outcome, Option<u64>, Option<u64>) {
    let mut world = shared.world();
    match grant(&mut world, request, api, params) {
        Ok(Grant::Granted {
            token,
            number,
            remaining,
            fresh,
        }) => {
            let expires_in = remaining.as_secs();
            let reply =
                Reply::json(&json!({"access_token": token.as_ref(), "expires_in": expires_in}));
            let outcome = if fresh { Outcome::Made } else { Outcome::Same };
            (reply, outcome, Some(number), Some(expires_in))
        }
        Ok(Grant::Refused(errcode)) => (
            error(&world, request, errcode),
            Outcome::Refused(errcode),
            None,
            None,
        ),
        Err(errcode) => (
            error(&world, request, errcode),
            Outcome::Refused(errcode),
            None,
            None,
        ),
    }
}

/// Checks host, tokens and leaks of any call but a token call, and counts what must never happen.
pub(super) fn check(
    shared: &Shared,
    request: &Received,
    endpoint: Endpoint,
    now: Instant,
) -> Checked {
    let mut world = shared.world();
    let world = &mut *world;
    let path = request.path();
    let broken = |world: &mut World, rule, detail: &str, late| {
        shared.violation(world, rule, path, detail, late)
    };
    let tokens = request.values("access_token");
    if tokens.len() > 1 {
        broken(
            world,
            Rule::TwoTokens,
            &format!("{} access_token parameters", tokens.len()),
            None,
        );
    }
    let takes_secrets = matches!(endpoint, Endpoint::Token(_) | Endpoint::TokenFree);
    let secrets = request.values("secret");
    if !takes_secrets && secrets.iter().any(|secret| world.secrets.contains(secret)) {
        broken(
            world,
            Rule::SecretInTarget,
            "an app's secret in the query",
            None,
        );
    }
    let ours = tokens.iter().any(|token| world.book.knows(token));
    let foreign = FOREIGN_TOKENS
        .iter()
        .any(|name| !request.values(name).is_empty());
    if foreign && ours {
        broken(
            world,
            Rule::TokenBesideForeignToken,
            "an app's token beside another kind of token",
            None,
        );
    }
    let nobody = Checked {
        appid: None,
        number: None,
        errcode: None,
    };
    match endpoint {
        Endpoint::Token(_) | Endpoint::Unknown => nobody,
        Endpoint::TokenFree | Endpoint::UserToken => {
            if ours {
                broken(
                    world,
                    Rule::TokenOnTokenFreePath,
                    "an app's token where none belongs",
                    None,
                );
            }
            let missing = endpoint == Endpoint::UserToken && tokens.is_empty();
            Checked {
                errcode: missing.then_some(41001),
                ..nobody
            }
        }
        Endpoint::Business if foreign && tokens.is_empty() => nobody,
        Endpoint::Business => {
            let [token] = tokens.as_slice() else {
                let errcode = Some(if tokens.is_empty() { 41001 } else { 40014 });
                return Checked { errcode, ..nobody };
            };
            let verdict = world.book.verify(token, now);
            if let Verdict::Expired { late, number, .. } = &verdict {
                let detail = format!("token {number} ended {} ms before", late.as_millis());
                broken(world, Rule::ExpiredToken, &detail, Some(*late));
            }
            let checked = Checked::from(verdict);
            let expected = request
                .parts
                .headers
                .get("x-expect-appid")
                .and_then(|value| value.to_str().ok());
            if let (Some(expected), Some(appid)) = (expected, &checked.appid) {
                if expected != appid.as_ref() {
                    broken(
                        world,
                        Rule::WrongApp,
                        &format!("a token of {appid} in place of {expected}"),
                        None,
                    );
                }
            }
            checked
        }
    }
}

/// Checks what holds for every call: its Host and that no header holds a token or a secret.
pub(super) fn check_headers(shared: &Shared, request: &Received) {
    let host = request.host();
    let mut world = shared.world();
    let world = &mut *world;
    world.report.requests += 1;
    if !world.settings.hosts.is_empty() && !world.settings.hosts.contains(&host) {
        shared.violation(world, Rule::WrongHost, request.path(), &host, None);
    }
    match world.report.hosts.get_mut(&host) {
        Some(count) => *count += 1,
        None => drop(world.report.hosts.insert(host, 1)),
    }
    for (name, value) in &request.parts.headers {
        if world.leaks(value.as_bytes()) {
            shared.violation(
                world,
                Rule::LeakInHeader,
                request.path(),
                name.as_str(),
                None,
            );
        }
    }
}

/// Answers any call but a token call.
pub(super) fn answer(
    shared: &Shared,
    request: &Received,
    endpoint: Endpoint,
    checked: &Checked,
) -> Reply {
    let world = shared.world();
    if endpoint == Endpoint::Unknown {
        return Reply::page(404);
    }
    if let Some(errcode) = checked.errcode {
        return error(&world, request, errcode);
    }
    let app = checked
        .appid
        .as_ref()
        .and_then(|appid| world.apps.get(appid));
    if app.is_some_and(|app| {
        !app.ip_whitelist.is_empty() && !app.ip_whitelist.contains(&request.peer.ip())
    }) {
        return error(&world, request, 40164);
    }
    match request.path() {
        "/sns/jscode2session" => Reply::json(&json!({
            "openid": "oFakeOpenId0001", "session_key": "AAAAAAAAAAAAAAAAAAAAAA==", "unionid": "uFakeUnionId01",
            "query": request.parts.uri.query().map(|query| world.redact(query)),
        })),
        "/cgi-bin/getcallbackip" | "/cgi-bin/get_api_domain_ip" => {
            Reply::json(&json!({"ip_list": ["127.0.0.1"]}))
        }
        "/cgi-bin/ticket/getticket" => Reply::json(&json!({
            "errcode": 0, "errmsg": "ok", "expires_in": 7200,
            "ticket": format!("kgt8ON7yVITDhtdwci0qe-{}", checked.appid.as_deref().unwrap_or_default()),
        })),
        path if path.starts_with("/wxa/getwxacode") => {
            let size = request
                .value("size")
                .and_then(|size| size.parse().ok())
                .unwrap_or(usize::MAX);
            Reply::png(shared.png.slice(..size.min(shared.png.len())))
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

/// An error in the style of the settings; 40164 names the caller's address.
pub(super) fn error(world: &World, request: &Received, errcode: i64) -> Reply {
    let ip = request.peer.ip();
    let detail =
        (errcode == 40164).then(|| format!("invalid ip {ip} ipv6 ::ffff:{ip}, not in whitelist"));
    Reply::error(errcode, detail.as_deref(), world.settings.error_style)
}

/// What WeChat got, for the tests to compare with what was sent.
fn echo(world: &World, request: &Received, checked: &Checked, whole: bool) -> Reply {
    let mut value = json!({
        "errcode": 0,
        "errmsg": "ok",
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
    Reply::json(&value)
}

impl From<Verdict> for Checked {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Live { appid, number } => Self {
                appid: Some(appid),
                number: Some(number),
                errcode: None,
            },
            Verdict::Unknown => Self {
                appid: None,
                number: None,
                errcode: Some(40014),
            },
            Verdict::Expired { appid, number, .. } => Self {
                appid: Some(appid),
                number: Some(number),
                errcode: Some(42001),
            },
            Verdict::Stale {
                appid,
                number,
                errcode,
            } => Self {
                appid: Some(appid),
                number: Some(number),
                errcode: Some(errcode),
            },
        }
    }
}
