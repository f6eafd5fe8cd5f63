//! The files as Istio's own code reads them: it takes all of them, and refuses each with a fault planted in it.

use std::fs;

use anyhow::{bail, ensure, Context, Result};

use super::tools::{check, shipped};

/// Faults, each in the first place where its text stands: unknown fields of Istio's, of Envoy's in a patch and in the
/// bootstrap (where Istio has Envoy ignore them), and of Kubernetes's.
const FAULTS: [(&str, &str); 8] = [
    ("resolution: DNS", "resolutoin: DNS"),
    ("failure_policy: FAIL_RELOAD", "failure_polizy: FAIL_RELOAD"),
    ("singleton: true", "singelton: true"),
    ("containers:", "contianers:"),
    ("pluginName: injector", "pluginNames: injector"),
    ("tcp_health_check: {}", "tcp_health_cheque: {}"),
    ("retry_on: retriable-headers", "retry_if: retriable-headers"),
    (
        "max_request_bytes: 22020096",
        "max_request_octets: 22020096",
    ),
];

/// Checks these shipped files; a line for what was seen.
pub(super) async fn read(names: &[&str]) -> Result<Vec<String>> {
    let files: Vec<_> = names.iter().map(|name| shipped(name)).collect();
    let taken = check(&files).await?.len();
    ensure!(taken >= files.len(), "{taken} objects in {files:?}");
    let folder = tempfile::tempdir()?;
    let mut refused = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file)?;
        let mut is_planted = false;
        for (good, bad) in FAULTS.into_iter().filter(|(good, _)| text.contains(good)) {
            let planted = folder.path().join("planted.yaml");
            fs::write(&planted, text.replacen(good, bad, 1))?;
            let word = bad.split(':').next().unwrap_or(bad);
            match check(&[planted]).await {
                Ok(_) => bail!("{}: {bad:?} was taken", file.display()),
                Err(error) => {
                    let error = format!("{error:#}");
                    ensure!(error.contains(word), "{word} is not named: {error}");
                }
            }
            refused.push(word);
            is_planted = true;
        }
        is_planted
            .then_some(())
            .with_context(|| format!("{}: no fault to plant in it", file.display()))?;
    }
    Ok(vec![format!(
        "Istio takes all {taken} objects; refused when planted: {}",
        refused.join(", ")
    )])
}
