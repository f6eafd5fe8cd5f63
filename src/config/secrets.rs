//! Secrets of the document: in place, or from the environment. No error repeats what stands there: whoever gets the form
//! wrong has most likely put the secret where its key should be.

use super::fields::{check_length, check_text, Rule};
use super::node::Later;
use super::raw::{RawSecret, MAX_SECRETS};
use super::rules::AppSecret;
use super::{allowing, ConfigError};
use crate::secret::Secret;

/// Looks an environment variable up.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One secret, or a list of them.
pub(super) fn secrets(
    raw: &Later<RawSecret<AppSecret>>,
    env: Env<'_>,
) -> Result<Vec<Secret>, ConfigError> {
    let listed = raw.node().is_list();
    let raw = raw
        .read_list()
        .map_err(|error| without_secret(error, SECRET_FORM))?;
    check_length(raw.len(), 1, MAX_SECRETS).map_err(|problem| ConfigError::new("", problem))?;
    raw.into_iter()
        .enumerate()
        .map(|(index, raw)| {
            secret(raw, env, SECRET_FORM).map_err(|error| match listed {
                true => error.in_item(index),
                false => error,
            })
        })
        .collect()
}

/// One secret alone.
pub(super) fn one_secret<R: Rule>(
    raw: &Later<RawSecret<R>>,
    env: Env<'_>,
) -> Result<Secret, ConfigError> {
    let raw = raw
        .read()
        .map_err(|error| without_secret(error, ONE_SECRET))?;
    secret(raw, env, ONE_SECRET)
}

/// Replaces an error about a key that is not known by one that does not name the key.
fn without_secret(error: ConfigError, form: &str) -> ConfigError {
    let (item, key) = match error.field.split_once('.') {
        Some((item, key)) if item.starts_with('[') => (item, key),
        _ if error.field.starts_with('[') => (error.field.as_str(), ""),
        _ => ("", error.field.as_str()),
    };
    match key {
        "env" | "value" => error,
        "" => ConfigError::new(item, allowing(error.problem, OBJECT_FORM, form)),
        _ => ConfigError::new(
            item,
            format!("has a field that is not known (not shown); allowed: {form}"),
        ),
    }
}

fn secret<R: Rule>(raw: RawSecret<R>, env: Env<'_>, form: &str) -> Result<Secret, ConfigError> {
    match (raw.env, raw.value) {
        (None, Some(value)) => Ok(Secret::new(value.into_string())),
        (Some(name), None) => secret_of_env::<R>(name.as_str(), env)
            .map_err(|problem| ConfigError::new("env", problem)),
        (env, _) => {
            let number = if env.is_some() { "both" } else { "neither" };
            let problem = format!("has {number} of env and value; allowed: {form}");
            Err(ConfigError::new("", problem))
        }
    }
}

fn secret_of_env<R: Rule>(name: &str, env: Env<'_>) -> Result<Secret, String> {
    let Some(value) = env(name) else {
        return Err(format!(
            "the environment variable {name} is not there; \
             it must be in vm_config.environment_variables.host_env_keys and set on the host"
        ));
    };
    check_text::<R>(&value)
        .map_err(|problem| format!("in the environment variable {name} {problem}"))?;
    Ok(Secret::new(value))
}

/// What a secret looks like where there is one.
const ONE_SECRET: &str = "{env: NAME} or {value: …}";
/// What secrets look like where there may be several.
pub(super) const SECRET_FORM: &str = "{env: NAME} or {value: …}, or a list of them";
/// What `node.rs` says of an object with these two fields.
const OBJECT_FORM: &str = "an object of env, value";
