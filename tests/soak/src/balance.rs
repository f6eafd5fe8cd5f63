//! The books: what callers sent must be what Envoy took, what the plugin decided on and what WeChat got.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::bed::Bed;
use crate::outcome::{Outcome, Tally};

/// How long it may take until nothing is under way any more. What waits in a virtual machine that trapped is ended after 12 s.
const QUIET_WITHIN: Duration = Duration::from_secs(30);
/// The plugin hands its counts to Envoy every 250 ms: what has not changed for longer than that is all.
const LOOKS_APART: Duration = Duration::from_millis(400);

/// Counts since the start, in a moment in which nothing is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Books {
    /// Requests that Envoy took from callers.
    taken: u64,
    /// Requests that it sent again.
    retried: u64,
    /// Requests that the plugin gave a token or let pass.
    sent_on: u64,
    /// Those that it answered itself.
    answered: u64,
    /// Those that it saw come again after a rejection.
    resent: u64,
    /// Calls that WeChat got, token calls left out.
    arrived: u64,
}

impl Books {
    /// Reads them once no request is under way and all counts have settled; says what is still moving otherwise.
    pub(crate) async fn close(bed: &Bed) -> Result<Self, String> {
        let deadline = Instant::now() + QUIET_WITHIN;
        let mut before = None;
        loop {
            let stats = bed.envoy.stats("").await;
            let active = value(&stats, "http.wechat.downstream_rq_active")
                + value(&stats, "cluster.wechat_api.upstream_rq_active");
            let books = Self::read(bed, &stats);
            if active == 0 && before == Some(books) {
                return Ok(books);
            }
            if Instant::now() > deadline {
                return Err(format!("{active} requests hang in Envoy, {books:?}"));
            }
            before = Some(books);
            tokio::time::sleep(LOOKS_APART).await;
        }
    }

    fn read(bed: &Bed, stats: &BTreeMap<String, u64>) -> Self {
        let report = bed.fake.report();
        Self {
            taken: value(stats, "http.wechat.downstream_rq_total"),
            retried: value(stats, "cluster.wechat_api.upstream_rq_retry"),
            sent_on: sum(stats, "wechat_token_injected_total")
                + sum(stats, "wechat_token_passed_total"),
            answered: sum(stats, "wechat_token_local_replies_total"),
            resent: sum(stats, "wechat_token_resent_total"),
            arrived: report.requests - report.token_calls,
        }
    }

    /// What is wrong with the books of the time since `before`, in which callers saw `tally`. With a VM that trapped the plugin's
    /// own counts are not whole.
    pub(crate) fn faults_since(
        &self,
        before: &Self,
        tally: &Tally,
        has_counts: bool,
    ) -> Vec<String> {
        let taken = self.taken - before.taken;
        let retried = self.retried - before.retried;
        let arrived = self.arrived - before.arrived;
        let sent_on = self.sent_on.saturating_sub(before.sent_on);
        let answered = self.answered.saturating_sub(before.answered);
        let resent = self.resent.saturating_sub(before.resent);
        // Who hangs up may do so before Envoy has the request, while it waits in the plugin, or later.
        let hung_up = tally.count(|outcome| *outcome == Outcome::HungUp);
        // What breaks off may do so on its way to WeChat.
        let broken = tally.count(|outcome| matches!(outcome, Outcome::Cut | Outcome::Status(_)));
        let sent = tally.total();
        let mut faults = Vec::new();
        let mut equal = |what: &str, more: u64, less: u64, slack: u64| {
            if less > more || more - less > slack {
                faults.push(format!(
                    "{what}: {more} and {less}, with {slack} that may be missing"
                ));
            }
        };
        equal("calls sent, and taken by Envoy", sent, taken, hung_up);
        if has_counts {
            equal(
                "taken or sent again by Envoy, and decided on by the plugin",
                taken + retried,
                sent_on + answered,
                hung_up,
            );
            equal(
                "sent on by the plugin, and arrived at WeChat",
                sent_on,
                arrived,
                hung_up + broken,
            );
            equal(
                "sent again by Envoy, and seen again by the plugin",
                retried,
                resent,
                hung_up,
            );
        }
        faults
    }
}

/// One of Envoy's own.
fn value(stats: &BTreeMap<String, u64>, name: &str) -> u64 {
    stats.get(name).copied().unwrap_or_default()
}

/// One of the plugin's, whose names also have the app or the reason in them.
fn sum(stats: &BTreeMap<String, u64>, name: &str) -> u64 {
    let named = stats.iter().filter(|(full, _)| full.contains(name));
    named.map(|(_, value)| value).sum()
}
