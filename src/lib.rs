//! Every outbound WeChat call leaves Envoy with a live `access_token`.

pub mod config;
pub mod host;
mod json;
pub mod lease;
pub mod message;
pub mod record;
pub mod reply;
pub mod rewrite;
pub mod route;
pub mod secret;
pub mod time;
pub mod token;
pub mod waiters;
pub mod wechat;
pub mod wire;
