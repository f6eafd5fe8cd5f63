//! Tokens, secrets and panics in what Envoy wrote: its log and its access log, some millions of lines after an hour.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use support::envoy::workspace;

use crate::bed::Bed;

/// Keeps the log of a run that failed, and says where.
pub(crate) fn keep(bed: &Bed, seed: u64) -> Result<PathBuf> {
    let kept = workspace().join(format!("target/soak-{seed}.log"));
    std::fs::copy(log(bed), &kept).with_context(|| kept.display().to_string())?;
    Ok(kept)
}

/// Says what stands in the log that must not.
pub(crate) fn search(bed: &Bed) -> Result<Vec<String>> {
    let leaks: HashSet<String> = bed.fake.leaks().into_iter().collect();
    let log = log(bed);
    let file = File::open(&log).with_context(|| log.display().to_string())?;
    let (mut found, mut lines) = (Vec::new(), 0_u64);
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        lines += 1;
        let words = line.split(|byte| !is_word(*byte));
        for word in words.filter_map(|word| std::str::from_utf8(word).ok()) {
            if leaks.contains(word) {
                found.push(format!(
                    "line {lines} of Envoy's log holds a token or a secret"
                ));
            }
        }
        let line = String::from_utf8_lossy(&line);
        // The traps on command are panics too.
        if line.contains("panicked") && !line.contains("src/host/trap.rs") {
            found.push(format!("Envoy's log: {line}"));
        }
    }
    println!(
        "soak: {} tokens and secrets looked for in {lines} lines of log",
        leaks.len()
    );
    Ok(found)
}

fn log(bed: &Bed) -> PathBuf {
    bed.envoy.directory().join("envoy.log")
}

/// What tokens and secrets consist of.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}
