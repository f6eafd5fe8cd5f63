//! What Envoy Gateway says of the manifests in their status.

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::schemas::documents;

/// Kinds that get no status in a translation: their part in it is seen in what comes out.
const WITHOUT: [&str; 3] = ["EnvoyProxy", "GatewayClass", "Namespace"];

/// Fails with the first condition that is not as it should be, and where a manifest has none. The kinds that have conditions, all of them good.
pub(super) fn all_good(manifests: &str, made: &Value) -> Result<Vec<String>> {
    let mut good = Vec::new();
    for (list, resources) in made["resources"].as_object().into_iter().flatten() {
        let one = std::slice::from_ref(resources);
        for resource in resources.as_array().map_or(one, Vec::as_slice) {
            let mut seen = 0;
            check(&resource["status"], &mut seen)
                .with_context(|| format!("{list} {}", resource["metadata"]["name"]))?;
            if seen > 0 {
                good.push(resource["kind"].as_str().unwrap_or(list).to_owned());
            }
        }
    }
    // Whether a patch fitted is known only when it was made.
    for (gateway, xds) in made["xds"].as_object().into_iter().flatten() {
        check(&xds["patch_policies"], &mut 0).with_context(|| format!("patches of {gateway}"))?;
    }
    for document in documents(manifests)? {
        let kind = document["kind"].as_str().unwrap_or_default();
        ensure!(
            WITHOUT.contains(&kind) || good.iter().any(|good| good == kind),
            "the {kind} has no status: nothing was made of it"
        );
    }
    Ok(good)
}

fn check(status: &Value, seen: &mut usize) -> Result<()> {
    match status {
        Value::Object(fields) => {
            if let (Some(kind), Some(is_so)) = (fields.get("type"), fields.get("status")) {
                // These are good when false.
                let wanted = !matches!(kind.as_str(), Some("Conflicted" | "OverlappingTLSConfig"));
                let message = fields.get("message").unwrap_or(&Value::Null);
                ensure!((is_so == "True") == wanted, "{kind} is {is_so}: {message}");
                *seen += 1;
            }
            fields.values().try_for_each(|value| check(value, seen))
        }
        Value::Array(items) => items.iter().try_for_each(|item| check(item, seen)),
        _ => Ok(()),
    }
}
