//! CPU time and memory of another process, from `/proc`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use procfs::process::Process;

/// CPU time that a process has used, all threads together.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// In user mode, in clock ticks of 10 ms on most machines. The kernel measures the sum and splits it by samples
    /// (4 ms apart on most machines), so this wanders where [`Self::all`] does not.
    pub user: Duration,
    /// In user mode and in the kernel for it, measured by the scheduler to the nanosecond.
    pub all: Duration,
}

impl Cpu {
    /// Of a process so far.
    pub fn of(pid: u32) -> Result<Self> {
        let process = process(pid)?;
        let user = process.stat()?.utime as f64 / procfs::ticks_per_second() as f64;
        let mut all = 0;
        for thread in process.tasks()? {
            all += thread?.schedstat()?.sum_exec_runtime;
        }
        Ok(Self {
            user: Duration::from_secs_f64(user),
            all: Duration::from_nanos(all),
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

fn process(pid: u32) -> Result<Process> {
    Process::new(i32::try_from(pid)?).with_context(|| format!("process {pid} is gone"))
}
