//! The configuration from outside: what a good document means, and how each wrong one is refused.

// Helpers may panic like the tests that they serve; clippy excuses only functions with `#[test]`.
#![allow(clippy::panic, clippy::indexing_slicing)]

#[path = "config/good.rs"]
mod good;
#[path = "config/good_documents.rs"]
mod good_documents;
#[path = "config/never_panics.rs"]
mod never_panics;
#[path = "config/skip.rs"]
mod skip;
#[path = "config/structs.rs"]
mod structs;
#[path = "config/wrong.rs"]
mod wrong;
#[path = "config/wrong_documents.rs"]
mod wrong_documents;
#[path = "config/wrong_redis.rs"]
mod wrong_redis;
#[path = "config/wrong_values.rs"]
mod wrong_values;

use serde_json::Value;
use wechat_token::config::{Config, ConfigError, Role};

/// What the environment of these tests holds.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "WECHAT_SECRET" => "secret-of-the-shop",
        "WECHAT_SECRET_OLD" => "old-secret-of-the-shop",
        "EMPTY_SECRET" => "",
        "LINE_FEED_SECRET" => "MARKER-7f3a9c\n",
        _ => return None,
    };
    Some(value.to_owned())
}

fn parse_text(document: &str, role: Role) -> Result<Config, ConfigError> {
    Config::parse(document.as_bytes(), &env, role)
}

fn parse(document: &Value) -> Result<Config, ConfigError> {
    parse_text(&document.to_string(), Role::Refresher)
}
