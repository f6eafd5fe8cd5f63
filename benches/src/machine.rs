//! Where the numbers come from: the machine, the Envoy, the day.

use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use procfs::Current as _;
use serde::{Deserialize, Serialize};

use crate::Options;

/// What a reader must know of the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The CPU's name.
    pub cpu: String,
    /// How many cores there are.
    pub cores: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// The kernel.
    pub kernel: String,
    /// Envoy's version and build.
    pub envoy: String,
    /// When the run began, in UTC.
    pub date: String,
    /// Load average of the minute before the run; above 0.5 the machine was not quiet.
    pub load: f64,
}

/// Reads them.
pub fn facts(options: &Options) -> Result<Machine> {
    let cpus = procfs::CpuInfo::current()?;
    let envoy = Command::new(support::envoy::binary(&options.envoy))
        .arg("--version")
        .output()
        .context("Envoy does not start")?;
    let envoy = String::from_utf8_lossy(&envoy.stdout);
    let build = envoy.split_whitespace().last().unwrap_or_default();
    Ok(Machine {
        cpu: cpus.model_name(0).unwrap_or("unknown").to_owned(),
        cores: cpus.num_cores(),
        memory: procfs::Meminfo::current()?.mem_total,
        kernel: procfs::sys::kernel::Version::current().map_or_else(
            |_| "unknown".to_owned(),
            |version| format!("{}.{}.{}", version.major, version.minor, version.patch),
        ),
        // HASH/VERSION/STATE/TYPE/TLS
        envoy: build.split('/').skip(1).collect::<Vec<_>>().join(" "),
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        load: f64::from(procfs::LoadAverage::current()?.one),
    })
}
