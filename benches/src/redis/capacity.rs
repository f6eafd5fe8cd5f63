//! How many of the plugin's requests one Redis does: each on a connection of its own, with a run of the script.

use std::time::Instant;

use anyhow::{ensure, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use wechat_token::store::wire::{Access, Login};
use wechat_token::store::Step;

use super::Store;
use crate::bed::appid;
use crate::cpu::Cpu;
use crate::stats::Spread;
use crate::{progress, Options};

/// Requests that are on their way at once.
const AT_ONCE: u64 = 32;
const PREFIX: &str = "wechat-token:";

/// What one Redis does of the plugin's requests.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Capacity {
    /// User and kernel CPU of Redis for one request, in microseconds.
    pub all_us: Spread,
    /// Requests in a second, the load on the same machine.
    pub rate: Spread,
    /// Bytes that are sent for one.
    pub sent: usize,
    /// Bytes that come back.
    pub received: usize,
}

/// Reads a record as the plugin does.
pub(super) async fn measure(options: &Options, store: &Store) -> Result<Capacity> {
    let access = Access {
        login: Login::default(),
        key_prefix: PREFIX.to_owned(),
        mirrors: Vec::new(),
    };
    let appid = appid(0);
    let record = format!("{PREFIX}{{{appid}}}:token");
    let (token, seen) = ("7".repeat(136), "7".repeat(256));
    let fields = ["version", "1700000000000", "nonce", "0123456789abcdef"];
    let words = ["HSET", &record].into_iter().chain(fields);
    let words = words.chain(["token", &token, "life", "7200000", "seen", &seen]);
    store.server.run::<()>(&words.collect::<Vec<_>>());
    store.server.run::<()>(&["PEXPIRE", &record, "7000000"]);
    let request = access.request(&appid, &Step::Read);
    let received = ask(store.server.address(), &request).await?;
    let requests = (options.requests / 2).max(AT_ONCE);
    let (mut cpu, mut rates) = (Vec::new(), Vec::new());
    let rounds = options.rounds.div_ceil(2);
    for round in 0..rounds {
        progress(&format!("steps at Redis: round {} of {rounds}", round + 1));
        let (before, begin) = (Cpu::of(store.server.pid())?, Instant::now());
        let mut running = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (request, address) = (request.clone(), store.server.address());
            running.spawn(async move {
                for _ in 0..requests / AT_ONCE {
                    ask(address, &request).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        rates.push(requests as f64 / begin.elapsed().as_secs_f64());
        cpu.push(Cpu::of(store.server.pid())?.per_request(before, requests).1);
    }
    Ok(Capacity {
        all_us: Spread::of(&cpu),
        rate: Spread::of(&rates),
        sent: request.len(),
        received,
    })
}

/// One request, until Redis closes; how much came back.
async fn ask(address: std::net::SocketAddr, request: &[u8]) -> Result<usize> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    stream.shutdown().await?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await?;
    // The script's answer, and the one to QUIT.
    ensure!(
        reply.starts_with(b"*") && reply.ends_with(b"+OK\r\n"),
        "not the script's answer"
    );
    Ok(reply.len())
}
