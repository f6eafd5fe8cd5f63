//! What every call is checked for: its token, its Host, and what must never happen.

use std::sync::Arc;
use std::time::Instant;

use super::endpoints::Endpoint;
use super::report::Rule;
use super::request::Received;
use super::tokens::Verdict;
use super::world::{Shared, World};

/// Tokens that are not the app's own.
const FOREIGN_TOKENS: [&str; 3] = [
    "component_access_token",
    "suite_access_token",
    "provider_access_token",
];

/// A checked business call.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) appid: Option<Arc<str>>,
    pub(super) number: Option<u64>,
    /// The errcode that the token earns, or `None` where it works.
    pub(super) errcode: Option<i64>,
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
