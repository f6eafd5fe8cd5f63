//! The keys for neighbours: what is written in the document, and the rules between them and the apps.

use std::collections::BTreeMap;

use super::fields::{Several, Text};
use super::node::{quoted, Later};
use super::redis::{RawMirror, MAX_MIRRORS};
use super::rules::MirrorKey;
use super::{App, ConfigError};
use crate::store::mirror::{Format, Mirror, PLACE};
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
        return Ok(Mirror {
            key: raw.read_as::<Text<MirrorKey>>()?.into_string(),
            format: Format::default(),
            ttl: None,
            expires_at_key: None,
        });
    }
    let raw = raw.read().map_err(|error| ConfigError {
        problem: error.problem.replace(OBJECT_FORM, MIRROR_FORM),
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
const OBJECT_FORM: &str = "allowed: an object of";
/// What may stand there.
const MIRROR_FORM: &str = "allowed: a key as a text, or an object of";

/// Checks that every key has one use: `listed` is how many apps the document has, `apps` those that are used.
pub(super) fn check_keys(access: &Access, listed: usize, apps: &[App]) -> Result<(), ConfigError> {
    let mut uses = BTreeMap::new();
    if !access.mirrors.is_empty() {
        for app in apps {
            for key in own_keys(&access.key_prefix, &app.appid) {
                uses.insert(key, "one of the plugin's own".to_owned());
            }
        }
    }
    for (index, mirror) in access.mirrors.iter().enumerate() {
        let fields = [
            ("key", Some(&mirror.key)),
            ("expires_at_key", mirror.expires_at_key.as_ref()),
        ];
        for (field, key) in fields {
            let Some(key) = key else {
                continue;
            };
            let refuse = |problem| {
                Err(ConfigError::new(field, problem)
                    .in_item(index)
                    .in_field("mirror"))
            };
            if listed > 1 && !key.contains(PLACE) {
                let key = quoted(key);
                return refuse(format!(
                    "{key} would hold the tokens of {listed} apps; allowed: a key with {PLACE}"
                ));
            }
            for app in apps {
                let key = key.replace(PLACE, &app.appid);
                let what = format!("mirror[{index}].{field}'s");
                if let Some(other) = uses.get(&key) {
                    let key = quoted(&key);
                    return refuse(format!("{key} is {other} already; allowed: each key once"));
                }
                uses.insert(key, what);
            }
        }
    }
    Ok(())
}
