//! Callers that call without a pause while something happens, and must not notice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use support::client::{Client, ClientError};
use tokio::task::JoinSet;

use crate::world::{World, HOST};

const CALLERS: usize = 4;

/// Some callers.
pub(crate) struct Load {
    callers: JoinSet<()>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    is_over: AtomicBool,
    good: AtomicU64,
    /// Calls that were made once more because their connection was closed before an answer began, as HTTP allows.
    repeated: AtomicU64,
}

impl Load {
    /// Begins to call.
    pub(crate) fn start(world: &World) -> Load {
        let counts = Arc::<Counts>::default();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let url = world.url("/cgi-bin/echo");
            callers.spawn(call(url, world.client.clone(), Arc::clone(&counts)));
        }
        Load { callers, counts }
    }

    /// Ends it; each call must have got a good answer, and hardly any have been made twice. The number of calls.
    pub(crate) async fn end(mut self) -> u64 {
        self.counts.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            if let Err(failed) = ended {
                std::panic::resume_unwind(failed.into_panic());
            }
        }
        let good = self.counts.good.load(Ordering::Relaxed);
        let repeated = self.counts.repeated.load(Ordering::Relaxed);
        assert!(
            good > 0 && repeated <= good / 100 + CALLERS as u64,
            "{repeated} of {good}"
        );
        good
    }
}

async fn call(url: String, client: Client, counts: Arc<Counts>) {
    let headers = [("host", HOST)];
    while !counts.is_over.load(Ordering::Relaxed) {
        let mut sent = client.get_with(&url, &headers).await;
        if let Err(ClientError::Broken(_)) = sent {
            counts.repeated.fetch_add(1, Ordering::Relaxed);
            sent = client.get_with(&url, &headers).await;
        }
        let answer = sent.unwrap();
        let status = answer.status;
        assert_eq!(answer.errcode(), Some(0), "{status} {}", answer.text());
        counts.good.fetch_add(1, Ordering::Relaxed);
    }
}
