//! Callers that never pause: whatever happens to tokens meanwhile, none of them may notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::task::JoinHandle;

use super::{good, CALLERS, ECHO};
use crate::deployment::Running;
use crate::wechat::HOST;

/// Calls without a pause, until told to stop or one is not good.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Result<u64>>>,
}

impl Load {
    pub(super) fn start(running: &Running) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |_| {
            let (client, url) = (running.client.clone(), running.url(ECHO));
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.get_with(&url, &[("host", HOST)]).await?;
                    good(&answer).with_context(|| format!("call {calls} of a caller"))?;
                    calls += 1;
                }
                Ok(calls)
            })
        };
        Self {
            callers: (0..CALLERS).map(caller).collect(),
            stop,
        }
    }

    /// Whether a caller has ended by itself.
    pub(super) fn is_over(&self) -> bool {
        self.callers.iter().any(JoinHandle::is_finished)
    }

    /// Ends it; the number of calls, all of them good.
    pub(super) async fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut calls = 0;
        for caller in self.callers {
            calls += caller.await??;
        }
        Ok(calls)
    }
}
