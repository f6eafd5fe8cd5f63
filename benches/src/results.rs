//! Everything a run found, as it is written to `latest.json`.

use serde::{Deserialize, Serialize};

use crate::apps::Apps;
use crate::herd::Herd;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::ratios::Ratios;
use crate::redis::Redis;
use crate::targets::Target;
use crate::user::User;
use crate::watch::Watch;
use crate::Options;

/// A run's results; a section that was not asked for is absent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Where they come from.
    pub machine: Machine,
    /// Interleaved rounds.
    pub rounds: usize,
    /// Requests in a round.
    pub requests: u64,
    /// Repetitions of the herd and memory sections.
    pub repetitions: usize,
    /// Whether this was a smoke test, whose numbers mean nothing.
    pub quick: bool,
    /// Size of the plugin's .wasm.
    pub wasm_bytes: Option<u64>,
    /// What was to be reached.
    pub targets: Vec<Target>,
    /// CPU a request.
    pub ratios: Option<Ratios>,
    /// What a user sees.
    pub user: Option<User>,
    /// What looking at answers costs.
    pub watch: Option<Watch>,
    /// Release of parked requests.
    pub herd: Option<Herd>,
    /// Memory of a worker's VM.
    pub memory: Option<Memory>,
    /// From one app to a thousand.
    pub apps: Option<Apps>,
    /// With Redis and without.
    #[serde(default)]
    pub redis: Option<Redis>,
}

impl Results {
    /// Nothing measured yet.
    pub fn new(options: &Options, machine: Machine, wasm_bytes: Option<u64>) -> Self {
        Self {
            machine,
            rounds: options.rounds,
            requests: options.requests,
            repetitions: options.repetitions,
            quick: options.quick,
            wasm_bytes,
            targets: Vec::new(),
            ratios: None,
            user: None,
            watch: None,
            herd: None,
            memory: None,
            apps: None,
            redis: None,
        }
    }
}
