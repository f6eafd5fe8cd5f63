//! Every outbound WeChat call leaves Envoy with a live `access_token`.

pub mod config;
pub mod secret;
pub mod time;
