//! Which requests are ours, and whose token they get.
//!
//! [`Routes`] is built once from the configuration and asked for every request. It says [`Route::Inject`] only if the
//! host is WeChat's, the path is one that takes an `access_token`, no other kind of token is there, the app is beyond
//! doubt, the caller brought no token of its own to keep, and the answer cannot show him ours. A doubtful path counts as token-free: a call without a
//! token gets an error that says so, a token in the wrong place is out of the house.
//!
//! It neither rewrites (`rewrite`) nor knows tokens: which ones are ours is asked through a closure.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::config::{CallerToken, Config, Hosts};
use crate::reply::Rejection;
use crate::rewrite::{escape, CallerTokens, NamedApp, Scan};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// It gets the token of the app with this index in [`Config::apps`].
    Inject {
        /// Index into the configuration's apps.
        app: usize,
    },
    /// It goes on as it is.
    Pass(Passed),
    /// It is answered here.
    Refuse(Rejection),
}

/// Why a request is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Its `Host` is not ours.
    OtherHost,
    /// Its path takes no `access_token`, or a user's.
    TokenFree,
    /// It carries a token of another kind.
    ForeignToken,
    /// It carries the caller's own token, and that is kept.
    CallerToken,
    /// The configuration excludes its path.
    Excluded,
}

/// The rules, prepared for comparing.
#[derive(Clone, Debug)]
pub struct Routes {
    /// `None`: every host is ours.
    hosts: Option<Vec<HostName>>,
    /// Sorted.
    excluded: Vec<Vec<u8>>,
    allow_rid_info: bool,
    /// The index in the configuration by the appid: there may be a thousand.
    apps: BTreeMap<Vec<u8>, usize>,
    default_app: Option<usize>,
    /// By the index in the configuration.
    caller_tokens: Vec<CallerToken>,
}

#[derive(Clone, Debug)]
struct HostName {
    name: Vec<u8>,
    has_port: bool,
}

impl Routes {
    /// Prepares the rules of `config`.
    pub fn new(config: &Config) -> Routes {
        let hosts = match &config.hosts {
            Hosts::Any => None,
            Hosts::Names(names) => Some(names.iter().map(|name| HostName::new(name)).collect()),
        };
        // Kept in order one by one: few paths, read once, do not need what a sort costs in the .wasm.
        let mut excluded: Vec<Vec<u8>> = Vec::new();
        for path in &config.excluded_paths {
            let path = path.clone().into_bytes();
            excluded.insert(excluded.partition_point(|known| *known < path), path);
        }
        let mut apps = BTreeMap::new();
        for (index, app) in config.apps.iter().enumerate() {
            apps.insert(app.appid.clone().into_bytes(), index);
        }
        Routes {
            hosts,
            excluded,
            allow_rid_info: config.allow_rid_info,
            apps,
            default_app: config.default_app,
            caller_tokens: config.apps.iter().map(|app| app.caller_token).collect(),
        }
    }

    /// The index in the configuration of the app with this appid.
    pub fn app(&self, appid: &[u8]) -> Option<usize> {
        self.apps.get(appid).copied()
    }

    /// Decides about a request with this `:method`, this `:authority`, this `:path` and these `x-wechat-appid` headers. `is_own(app, token)` says whether `token` is one that we gave out for `app`, now or before:
    /// a request that Envoy sends again carries the first attempt's.
    ///
    /// The first attempt has also removed what named the app, so a token of ours names it as well.
    pub fn decide(
        &self,
        method: &[u8],
        authority: &[u8],
        scan: &Scan<'_>,
        header: &NamedApp<'_>,
        is_own: impl Fn(usize, &[u8]) -> bool,
    ) -> Route {
        if !self.is_our_host(authority) {
            return Route::Pass(Passed::OtherHost);
        }
        let kind = PathKind::of(scan);
        // Whoever answers a TRACE sends back what he got, a token too.
        if method == b"TRACE" || kind == PathKind::TokenFree {
            return Route::Pass(Passed::TokenFree);
        }
        if self.is_excluded(scan.path()) {
            return Route::Pass(Passed::Excluded);
        }
        if scan.has_foreign_token() {
            return Route::Pass(Passed::ForeignToken);
        }
        let has_token = scan.caller_tokens() == CallerTokens::Values;
        let app = match self.named_app(scan.from_appid(), header) {
            Err(rejection) => return Route::Refuse(rejection),
            Ok(Some(app)) => app,
            Ok(None) => {
                let owner = if has_token && self.apps.len() > 1 {
                    self.owner(scan, &is_own)
                } else {
                    None
                };
                match owner.or(self.default_app) {
                    Some(app) => app,
                    None if has_token && self.keeps_all_caller_tokens() => {
                        return Route::Pass(Passed::CallerToken)
                    }
                    None => return Route::Refuse(Rejection::AppMissing),
                }
            }
        };
        let keeps = self.caller_tokens.get(app) != Some(&CallerToken::Replace);
        if has_token && keeps && !scan.token_values().all(|token| is_own(app, &token)) {
            return Route::Pass(Passed::CallerToken);
        }
        if kind == PathKind::ShowsToken && !self.allow_rid_info {
            return Route::Refuse(Rejection::ShowsToken);
        }
        Route::Inject { app }
    }

    fn is_our_host(&self, authority: &[u8]) -> bool {
        self.hosts
            .as_ref()
            .is_none_or(|hosts| hosts.iter().any(|host| host.matches(authority)))
    }

    fn is_excluded(&self, path: &[u8]) -> bool {
        self.excluded
            .binary_search_by(|excluded| excluded.as_slice().cmp(path))
            .is_ok()
    }

    /// The app that header and query name; `None` if neither is there. An empty name is an unknown app, not the default:
    /// it comes from a template that was not filled in.
    fn named_app(
        &self,
        query: &NamedApp<'_>,
        header: &NamedApp<'_>,
    ) -> Result<Option<usize>, Rejection> {
        let appid = match (header, query) {
            (NamedApp::Absent, NamedApp::Absent) => return Ok(None),
            (NamedApp::Conflict, _) | (_, NamedApp::Conflict) => {
                return Err(Rejection::AppConflict)
            }
            (NamedApp::One(header), NamedApp::One(query)) if header != query => {
                return Err(Rejection::AppConflict)
            }
            (NamedApp::One(appid), _) | (NamedApp::Absent, NamedApp::One(appid)) => appid,
        };
        self.app(appid).map(Some).ok_or(Rejection::UnknownApp)
    }

    /// The app whose token the path carries first: that is where ours stands in a request that is sent again. Linear in the
    /// apps, and so for one token only: a path has room for thousands.
    fn owner(&self, scan: &Scan<'_>, is_own: impl Fn(usize, &[u8]) -> bool) -> Option<usize> {
        let token = scan.token_values().next()?;
        (0..self.apps.len()).find(|&app| is_own(app, &token))
    }

    fn keeps_all_caller_tokens(&self) -> bool {
        self.caller_tokens
            .iter()
            .all(|&kept| kept == CallerToken::Keep)
    }
}

impl HostName {
    fn new(name: &str) -> HostName {
        let behind_brackets = name.rsplit(']').next().unwrap_or_default();
        HostName {
            name: name.as_bytes().to_ascii_lowercase(),
            has_port: behind_brackets.contains(':'),
        }
    }

    /// The whole name, whatever its case, and any port if the configuration names none. Nothing else may stand before
    /// or behind it: no user, no further label, no trailing dot (Envoy's virtual hosts do not match that either).
    fn matches(&self, authority: &[u8]) -> bool {
        let Some((host, rest)) = authority.split_at_checked(self.name.len()) else {
            return false;
        };
        host.eq_ignore_ascii_case(&self.name)
            && match rest {
                [] => true,
                [b':', port @ ..] => {
                    !self.has_port
                        && (1..=5).contains(&port.len())
                        && port.iter().all(u8::is_ascii_digit)
                }
                _ => false,
            }
    }
}

/// What a path means for tokens. To be on the safe side upper and lower case count as the same, and what may stand before such a path:
/// as a downstream filter the plugin sees `/wechat/sns/userinfo` before the route makes `/sns/userinfo` of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PathKind {
    /// It takes none of ours.
    TokenFree,
    /// It takes one, and the answer may show one.
    ShowsToken,
    /// It takes one.
    Usual,
}

impl PathKind {
    fn of(scan: &Scan<'_>) -> PathKind {
        let path = scan.path();
        if scan.is_plain() {
            PathKind::of_plain(path)
        } else {
            PathKind::after_all(path)
        }
    }

    fn of_plain(path: &[u8]) -> PathKind {
        let ends_with = |known: &[u8]| {
            let end = path.len().checked_sub(known.len());
            end.and_then(|at| path.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(known))
        };
        if TOKEN_FREE.iter().any(|known| ends_with(known)) {
            return PathKind::TokenFree;
        }
        let mut kind = PathKind::Usual;
        for segment in path.split(|&byte| byte == b'/') {
            if segment.eq_ignore_ascii_case(SNS) {
                return PathKind::TokenFree;
            }
            if segment.eq_ignore_ascii_case(RID) {
                kind = PathKind::ShowsToken;
            }
        }
        kind
    }

    /// For paths that some server on the way could read in another way: escapes (also of escapes), `//`, dot segments,
    /// `;` parameters, backslashes. With any segment `sns` in it such a path is token-free, with any `rid` it may show a token; otherwise its usual
    /// reading counts.
    #[cold]
    fn after_all(path: &[u8]) -> PathKind {
        let decoded = decode_fully(path);
        let mut segments: Vec<&[u8]> = Vec::new();
        let mut has_rid = false;
        for segment in decoded.split(|&byte| byte == b'/' || byte == b'\\') {
            let segment = essence(segment);
            if segment.eq_ignore_ascii_case(SNS) {
                return PathKind::TokenFree;
            }
            has_rid |= segment.eq_ignore_ascii_case(RID);
            match segment {
                b"" | b"." => {}
                b".." => {
                    segments.pop();
                }
                _ => segments.push(segment),
            }
        }
        let mut usual = Vec::with_capacity(decoded.len() + 1);
        for segment in segments {
            usual.push(b'/');
            usual.extend_from_slice(segment);
        }
        match PathKind::of_plain(&usual) {
            PathKind::Usual if has_rid => PathKind::ShowsToken,
            kind => kind,
        }
    }
}

/// A segment without what a lenient server would cut off: space and control characters around it, and everything from
/// `;`, `?`, `#` or a control character on.
fn essence(segment: &[u8]) -> &[u8] {
    let start = segment
        .iter()
        .position(|&byte| byte > b' ')
        .unwrap_or(segment.len());
    let segment = segment.get(start..).unwrap_or_default();
    let length = segment
        .iter()
        .position(|&byte| byte <= b' ' || matches!(byte, b';' | b'?' | b'#'))
        .unwrap_or(segment.len());
    segment.get(..length).unwrap_or_default()
}

/// Percent-decodes until nothing is left to decode (`%2573` is `s`), in one pass: a decoded byte may complete another
/// escape, which then ends where the output ends.
fn decode_fully(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for &byte in path {
        out.push(byte);
        while let [.., b'%', high, low] = *out {
            let Some(decoded) = escape(high, low) else {
                break;
            };
            out.truncate(out.len() - 3);
            out.push(decoded);
        }
    }
    out
}

/// Under a segment of this name a token is a user's.
const SNS: &[u8] = b"sns";

/// Paths, or their ends, that take no token besides those with `sns`.
const TOKEN_FREE: &[&[u8]] = &[
    b"/cgi-bin/token",
    b"/cgi-bin/stable_token",
    b"/cgi-bin/component/api_component_token",
    b"/cgi-bin/clear_quota/v2",
];

/// Below a segment of this name the answer may show the request of an earlier error with its token: `/cgi-bin/openapi/rid/get`,
/// <https://developers.weixin.qq.com/doc/offiaccount/openApi/get_rid_info.html>.
const RID: &[u8] = b"rid";
