//! The rows of the benchmark: which filter stands in the way of a request, and what it must be seen to do.

use anyhow::{bail, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What stands in the way of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    /// Nothing.
    Plain,
    /// A Wasm filter that does nothing.
    Noop,
    /// The same once more, so that the measurement's own spread shows.
    NoopAgain,
    /// The plugin as shipped, watching answers.
    Plugin,
    /// The Lua filter that a user would write.
    Lua,
    /// Envoy's `header_mutation`, adding a query parameter.
    HeaderMutation,
    /// Envoy's `credential_injector`, adding a header.
    CredentialInjector,
}

impl Row {
    /// Every row, in the order of the tables.
    pub const ALL: [Self; 7] = [
        Self::Plain,
        Self::Noop,
        Self::NoopAgain,
        Self::Plugin,
        Self::Lua,
        Self::HeaderMutation,
        Self::CredentialInjector,
    ];

    /// How tables and the picture call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Plain => "plain Envoy",
            Self::Noop => "no-op Wasm",
            Self::NoopAgain => "no-op Wasm, again",
            Self::Plugin => "this plugin, watch on",
            Self::Lua => "Lua filter",
            Self::HeaderMutation => "header_mutation",
            Self::CredentialInjector => "credential_injector",
        }
    }

    /// Its entry in `benches/envoy/filters.yaml`; `None` for plain Envoy.
    pub fn filter(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Noop | Self::NoopAgain => Some("noop"),
            Self::Plugin => Some("plugin"),
            Self::Lua => Some("lua"),
            Self::HeaderMutation => Some("header_mutation"),
            Self::CredentialInjector => Some("credential_injector"),
        }
    }

    /// Checks what the row did to a request: a row that does not do its work would measure nothing. `path` is what
    /// came out of the filters, `credential` the header that only `credential_injector` sets.
    pub fn check(self, path: &str, credential: &str) -> Result<()> {
        let injects = matches!(self, Self::Plugin | Self::Lua | Self::HeaderMutation);
        if path.contains("access_token=") != injects {
            bail!("{}: path {path:?} was not expected", self.title());
        }
        if credential.len() > 1 && self != Self::CredentialInjector {
            bail!("{}: header {credential:?} was not expected", self.title());
        }
        if credential.len() <= 1 && self == Self::CredentialInjector {
            bail!("{}: sets no header", self.title());
        }
        Ok(())
    }
}
