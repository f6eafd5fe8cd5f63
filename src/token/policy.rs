//! What the state machine of a token needs to know of the configuration, without how the configuration is written.

use std::time::Duration;

use super::Backoff;
use crate::config::{App, Config, TokenApi};

/// What the machine needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long before its end a token is refreshed.
    pub lead: Duration,
    /// A random part of this is taken off the lead.
    pub jitter: Duration,
    /// Pauses after transient failures.
    pub backoff: Backoff,
    /// The limit on refreshes by rejection.
    pub rejected_interval: Duration,
    /// How many secrets there are to try; at least one.
    pub secrets: usize,
    /// How many upstreams there are to try; at least one.
    pub upstreams: usize,
    /// Calls a day; none on the endpoint that may be called freely.
    pub daily_budget: Option<u32>,
    /// Timeout of one call.
    pub call_timeout: Duration,
}

impl Policy {
    /// The policy of `app`. The configuration has checked all bounds; a back-off that were still wrong becomes the
    /// default one.
    pub fn new(config: &Config, app: &App) -> Policy {
        let refresh = &app.refresh;
        Policy {
            lead: refresh.lead,
            jitter: refresh.jitter,
            backoff: Backoff::try_new(refresh.backoff_initial, refresh.backoff_max)
                .unwrap_or_default(),
            rejected_interval: refresh.rejected_interval,
            secrets: app.secrets.len().max(1),
            upstreams: config.upstreams.len().max(1),
            daily_budget: (app.token_api == TokenApi::Classic).then_some(refresh.daily_budget),
            call_timeout: config.call_timeout,
        }
    }
}
