//! Every outbound WeChat call leaves Envoy with a live `access_token`: a proxy-wasm plugin.
//!
//! ```text
//!  service ── plain HTTP, no token ──► Envoy ──► injector (a VM per worker) ──► api.weixin.qq.com …?access_token=TOKEN
//!                                                  │ Want, Rejected  ▲ Updated
//!                                                  ▼                 │
//!                                                refresher (singleton VM) ── token call ──► WeChat
//! ```
//!
//! One .wasm has all roles; Envoy's `root_id` says which. They meet in shared data (the truth: [`record`]) and in queues
//! (hints: [`message`]).
//!
//! The core decides and does no I/O; it gets time and luck as arguments:
//!
//! - [`config`]: the document, parsed strictly; [`secret`], [`time`]: newtypes
//! - [`token`]: the life cycle of a token; [`lease`]: who may renew it
//! - [`store`]: Redis, where all Envoys agree; [`resp`]: its protocol; [`keeper`]: life cycle and store together
//! - [`wechat`]: token calls and replies, errcodes, the look at an answer
//! - [`route`]: which requests are ours; [`rewrite`]: the token in the path; [`reply`]: our own replies
//! - [`metrics`]: what is counted; [`status`]: what is shown; [`throttle`]: how much is logged
//! - [`waiters`]: requests that wait; [`record`], [`message`], [`wire`]: what virtual machines exchange
//!
//! The shell acts: [`host`] has the contexts, generic over a `Host` trait, and `host/abi.rs` as the only file that speaks
//! to Envoy.

pub mod config;
pub mod host;
mod json;
pub mod keeper;
pub mod lease;
pub mod message;
pub mod metrics;
pub mod record;
pub mod reply;
pub mod resp;
pub mod rewrite;
pub mod route;
pub mod secret;
pub mod status;
pub mod store;
pub mod throttle;
pub mod time;
pub mod token;
pub mod waiters;
pub mod wechat;
pub mod wire;
