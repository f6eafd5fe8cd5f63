//! The keys for neighbours: what is written in the document, and the rules between them and the apps.

use std::collections::BTreeMap;

use super::fields::{Several, Text};
use super::node::{quoted, Later};
use super::redis::{RawMirror, MAX_MIRRORS};
use super::rules::MirrorKey;
use super::{allowing, App, ConfigError};
use crate::store::mirror::{of_app, Mirror, PLACE};
use crate::store::wire::{own_keys, Access};

/// The keys as they stand there.
pub(super) fn mirrors(
    raw: Option<Several<Later<RawMirror>, 0, MAX_MIRRORS>>,
) -> Result<Vec<Mirror>, ConfigError> {
    let raw = raw.map_or_else(Vec::new, Several::into_vec);
    raw.iter()
        .enumerate()
        .map(|(index, raw)| mirror(raw).map_err(|error| error.in_item(index)))
        .collect()
}

fn mirror(raw: &Later<RawMirror>) -> Result<Mirror, ConfigError> {
    if raw.node().as_text().is_some() {
        return Ok(Mirror::plain(
            raw.read_as::<Text<MirrorKey>>()?.into_string(),
        ));
    }
    let raw = raw.read().map_err(|error| ConfigError {
        problem: allowing(error.problem, OBJECT_FORM, MIRROR_FORM),
        ..error
    })?;
    Ok(Mirror {
        key: raw.key.into_string(),
        format: raw.format,
        ttl: raw.ttl.map(|ttl| ttl.duration()),
        expires_at_key: raw.expires_at_key.map(Text::into_string),
    })
}

/// What `node.rs` says of an object with these fields.
const OBJECT_FORM: &str = "an object of key, format, ttl, expires_at_key";
/// What may stand there.
const MIRROR_FORM: &str = "a key as a text, or an object of key, format, ttl, expires_at_key";

/// Checks that every key has one use: `listed` is how many apps the document has, `apps` those that are used.
pub(super) fn check_keys(access: &Access, listed: usize, apps: &[App]) -> Result<(), ConfigError> {
    let mut users = vec!["one of the plugin's own".to_owned()];
    // Key to its place in `users`.
    let mut used = BTreeMap::new();
    if !access.mirrors.is_empty() {
        for app in apps {
            used.extend(own_keys(&access.key_prefix, &app.appid).map(|key| (key, 0)));
        }
    }
    for (index, field, template) in templates(access) {
        let refuse = |key: &str, problem: String| {
            let problem = format!("{} {problem}", quoted(key));
            let error = ConfigError::new(field, problem);
            Err(error.in_item(index).in_field("mirror"))
        };
        if listed > 1 && of_app(template, "") == *template {
            let problem =
                format!("would hold the tokens of {listed} apps; allowed: a key with {PLACE}");
            return refuse(template, problem);
        }
        let user = users.len();
        users.push(format!("mirror[{index}].{field}'s"));
        for app in apps {
            let key = of_app(template, &app.appid);
            if let Some(other) = used.get(&key).and_then(|other: &usize| users.get(*other)) {
                let problem = format!("is {other} already; allowed: each key once");
                return refuse(&key, problem);
            }
            used.insert(key, user);
        }
    }
    Ok(())
}

/// All keys as they stand in the document: which mirror's, in which of its fields.
fn templates(access: &Access) -> impl Iterator<Item = (usize, &'static str, &String)> {
    access
        .mirrors
        .iter()
        .enumerate()
        .flat_map(|(index, mirror)| {
            let end = mirror.expires_at_key.as_ref();
            let end = end.map(|end| (index, "expires_at_key", end));
            [(index, "key", &mirror.key)].into_iter().chain(end)
        })
}
