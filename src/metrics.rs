//! The plugin's metrics as one table: name, kind, labels, meaning. What is not in it cannot be counted, and the table in
//! the README is made of it.
//!
//! The ABI knows no labels, so a label is part of the name as `.label=value`; `stats_tags` in the bootstrap turn it into a
//! label (`envoy/envoy.yaml`). Cardinality is bounded: by the apps of the configuration, and for each label by the values
//! given here. Units are those of Prometheus, but for the histograms: Envoy takes whole numbers only, so they count
//! milliseconds.

use crate::reply::Rejection;
use crate::wechat::errcode;

/// Kinds of metrics; the numbers are those of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Only rises.
    Counter = 0,
    /// Is set.
    Gauge = 1,
    /// Keeps how values are spread.
    Histogram = 2,
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // `row` says what each means
pub enum Metric {
    Injected,
    Passed,
    Parked,
    Wait,
    LocalReplies,
    Rejected,
    Resent,
    Missing,
    Refreshes,
    Refresh,
    Remaining,
    Generation,
    BreakerOpen,
    BudgetLeft,
    Heartbeats,
    LeaseTerm,
    LeaseHeld,
    RedisRequests,
    NeighboursSeen,
}

/// What is told of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name in Prometheus.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// The labels in their order.
    pub labels: &'static [Label],
    /// For the README.
    pub meaning: &'static str,
}

/// A label and its values.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// The name.
    pub name: &'static str,
    /// All values; empty where they come from elsewhere (an app's `name`, WeChat's errcodes).
    pub values: &'static [&'static str],
}

impl Metric {
    /// All metrics, in the order of the README.
    pub const ALL: [Metric; 19] = [
        Metric::Injected,
        Metric::Passed,
        Metric::Parked,
        Metric::Wait,
        Metric::LocalReplies,
        Metric::Rejected,
        Metric::Resent,
        Metric::Missing,
        Metric::Refreshes,
        Metric::Refresh,
        Metric::Remaining,
        Metric::Generation,
        Metric::BreakerOpen,
        Metric::BudgetLeft,
        Metric::Heartbeats,
        Metric::LeaseTerm,
        Metric::LeaseHeld,
        Metric::RedisRequests,
        Metric::NeighboursSeen,
    ];

    /// The name under which Envoy keeps the series with these values of the labels, in the labels' order. A label with an
    /// empty value is left out.
    pub fn series(self, values: &[&str]) -> String {
        let row = self.row();
        let mut name = row.name.to_owned();
        for (label, value) in row.labels.iter().zip(values) {
            if !value.is_empty() {
                for part in [".", label.name, "=", value] {
                    name.push_str(part);
                }
            }
        }
        name
    }

    /// What is told of it.
    #[inline(always)] // so that the .wasm is without what it does not use: the meanings
    pub const fn row(self) -> Row {
        use Kind::{Counter, Gauge, Histogram};
        let (name, kind, labels, meaning): (_, _, &'static [Label], _) = match self {
            Metric::Injected => (
                "wechat_token_injected_total",
                Counter,
                &[APP],
                "requests that left with a token; a resent one counts again",
            ),
            Metric::Passed => (
                "wechat_token_passed_total",
                Counter,
                &[WHY_PASSED],
                "requests that went on without a token of ours",
            ),
            Metric::Parked => (
                "wechat_token_parked_total",
                Counter,
                &[APP],
                "requests that had to wait",
            ),
            Metric::Wait => (
                "wechat_token_wait_millis",
                Histogram,
                &[],
                "how long they waited, until they went on or were answered; those whose caller hung up are not in it",
            ),
            Metric::LocalReplies => (
                "wechat_token_local_replies_total",
                Counter,
                &[WHY_ANSWERED],
                "replies that the plugin made itself",
            ),
            Metric::Rejected => (
                "wechat_token_rejected_total",
                Counter,
                &[APP],
                "answers in which WeChat rejected the token",
            ),
            Metric::Resent => (
                "wechat_token_resent_total",
                Counter,
                &[APP, RESENT],
                "requests that Envoy sent again after a rejection, by what WeChat answered then",
            ),
            Metric::Missing => (
                "wechat_token_missing_total",
                Counter,
                &[APP],
                "answers in which WeChat missed the token (41001) although one was put in: something behind the plugin takes it out",
            ),
            Metric::Refreshes => (
                "wechat_token_refreshes_total",
                Counter,
                &[APP, REFRESHED, ERRCODE],
                "outcomes of refreshing; `errcode` where WeChat refused with one, `other` for those not in the table of docs/operations.md",
            ),
            Metric::Refresh => (
                "wechat_token_refresh_millis",
                Histogram,
                &[],
                "how long token calls took, failed ones too",
            ),
            Metric::Remaining => (
                "wechat_token_remaining_seconds",
                Gauge,
                &[APP],
                "what is left of the token's life; 0 without one",
            ),
            Metric::Generation => (
                "wechat_token_generation",
                Gauge,
                &[APP],
                "rises with every new token",
            ),
            Metric::BreakerOpen => (
                "wechat_token_breaker_open",
                Gauge,
                &[APP],
                "1 while WeChat refuses for good or failed 8 times in a row: nobody waits, and a single trial comes later",
            ),
            Metric::BudgetLeft => (
                "wechat_token_budget_left",
                Gauge,
                &[APP],
                "what is left today of `refresh.daily_budget`; classic endpoint only",
            ),
            Metric::Heartbeats => (
                "wechat_token_heartbeats_total",
                Counter,
                &[HOLDER],
                "signs of life of whoever keeps tokens, about one in 750 ms; when none rises, the gauges here are old",
            ),
            Metric::LeaseTerm => (
                "wechat_token_lease_term",
                Gauge,
                &[APP],
                "rises whenever another VM begins to keep the app's token",
            ),
            Metric::LeaseHeld => (
                "wechat_token_lease_held",
                Gauge,
                &[APP, HOLDER],
                "1 for who keeps the app's token: the singleton, or a worker in its place",
            ),
            Metric::RedisRequests => (
                "wechat_token_redis_requests_total",
                Counter,
                &[APP, ASKED],
                "requests to Redis",
            ),
            Metric::NeighboursSeen => (
                "wechat_token_neighbours_seen_total",
                Counter,
                &[APP, SEEN],
                "tokens that somebody beside the mesh made and wrote to a key of `redis.mirror`; each Envoy counts those that it met",
            ),
        };
        Row {
            name,
            kind,
            labels,
            meaning,
        }
    }
}

/// The value of the label `errcode`: bounded, whatever WeChat says.
pub fn errcode_label(code: Option<i64>) -> String {
    match code {
        None => String::new(),
        Some(code) if errcode::lookup(code).is_some() => code.to_string(),
        Some(_) => "other".to_owned(),
    }
}

const fn label(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values }
}

const APP: Label = label("app", &[]);
const HOLDER: Label = label("holder", &["singleton", "worker"]);
const WHY_PASSED: Label = label("reason", &PASSED);
const WHY_ANSWERED: Label = label("reason", &Rejection::REASONS);
const RESENT: Label = label("result", &["ok", "rejected", "no_answer"]);
const ERRCODE: Label = label("errcode", &[]);
const ASKED: Label = label("result", &["ok", "failed"]);
const SEEN: Label = label("result", &["adopted", "ignored"]);
const REFRESHED: Label = label(
    "result",
    &[
        "renewed",
        "same",
        "adopted",
        "failed",
        "budget_spent",
        "withheld",
        "calls_not_sent",
    ],
);

/// Why requests pass: in the order of [`crate::route::Passed`], and one more.
pub(crate) const PASSED: [&str; 6] = [
    "other_host",
    "token_free",
    "foreign_token",
    "caller_token",
    "excluded",
    "unavailable",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_has_its_labels_in_its_name() {
        for (series, name) in [
            (
                Metric::Injected.series(&["shop"]),
                "wechat_token_injected_total.app=shop",
            ),
            (
                Metric::Refreshes.series(&["shop", "failed", "-1"]),
                "wechat_token_refreshes_total.app=shop.result=failed.errcode=-1",
            ),
            (
                Metric::Refreshes.series(&["shop", "renewed", ""]),
                "wechat_token_refreshes_total.app=shop.result=renewed",
            ),
            (Metric::Wait.series(&[]), "wechat_token_wait_millis"),
        ] {
            assert_eq!(series, name);
        }
    }

    #[test]
    fn errcodes_are_labels_only_where_they_are_known() {
        for (code, label) in [
            (None, ""),
            (Some(40164), "40164"),
            (Some(-1), "-1"),
            (Some(99_999), "other"),
            (Some(i64::MIN), "other"),
        ] {
            assert_eq!(errcode_label(code), label, "{code:?}");
        }
    }

    #[test]
    fn the_table_has_each_metric_once_and_names_it_as_prometheus_asks() {
        for (place, metric) in Metric::ALL.into_iter().enumerate() {
            assert_eq!(metric as usize, place);
            let row = metric.row();
            assert!(row.name.starts_with("wechat_token_"), "{}", row.name);
            let is_total = row.name.ends_with("_total");
            assert_eq!(is_total, row.kind == Kind::Counter, "{}", row.name);
            let is_millis = row.name.ends_with("_millis");
            assert_eq!(is_millis, row.kind == Kind::Histogram, "{}", row.name);
        }
    }
}
