//! CPU time and memory of another process, from `/proc`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use procfs::process::Process;

/// CPU time that a process has used, all threads together.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// In user mode. The kernel splits it from the sum by samples, 4 ms apart on most machines.
    pub user: Duration,
    /// In user mode and in the kernel for it.
    pub all: Duration,
}

impl Cpu {
    /// Of a process so far; its resolution is a clock tick, 10 ms on most machines.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = process(pid)?.stat()?;
        let tick = Duration::from_secs(1).as_secs_f64() / procfs::ticks_per_second() as f64;
        let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 * tick);
        Ok(Self {
            user: time(stat.utime),
            all: time(stat.utime + stat.stime),
        })
    }

    /// What was used since an earlier reading, in microseconds for each of `requests`: user, all.
    pub fn per_request(self, earlier: Self, requests: u64) -> (f64, f64) {
        let share = |time: Duration| time.as_secs_f64() * 1e6 / requests as f64;
        (
            share(self.user.saturating_sub(earlier.user)),
            share(self.all.saturating_sub(earlier.all)),
        )
    }
}

/// Anonymous resident memory of a process in bytes: what it allocated and touched, without its binary's pages.
pub fn anonymous_memory(pid: u32) -> Result<u64> {
    let status = process(pid)?.status()?;
    let kib = status.rssanon.context("the kernel tells no RssAnon")?;
    Ok(kib * 1024)
}

fn process(pid: u32) -> Result<Process> {
    Process::new(i32::try_from(pid)?).with_context(|| format!("process {pid} is gone"))
}
