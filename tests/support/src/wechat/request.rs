//! A request as the endpoints see it: its head, its counted and hashed body, its parameters.

use std::net::SocketAddr;

use http::request::Parts;
use serde::Deserialize;

use super::tokens::TokenApi;

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

/// The parameters of a token call, from the query or from the JSON body.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenParams {
    pub(super) grant_type: Option<String>,
    pub(super) appid: Option<String>,
    pub(super) secret: Option<String>,
    #[serde(default)]
    pub(super) force_refresh: bool,
    #[serde(skip)]
    pub(super) malformed: bool,
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

    pub(super) fn accepts_gzip(&self) -> bool {
        let accepted = self.parts.headers.get(http::header::ACCEPT_ENCODING);
        accepted.is_some_and(|codings| codings.as_bytes().windows(4).any(|part| part == b"gzip"))
    }

    /// Every value of this query parameter, names and values decoded.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        let query = self.parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        pairs
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .collect()
    }

    /// Its first value.
    pub(super) fn value(&self, name: &str) -> Option<String> {
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
