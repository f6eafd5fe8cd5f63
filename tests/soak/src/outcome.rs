//! What became of one call, as its caller saw it, and counts of that.

use std::collections::BTreeMap;
use std::fmt;

use support::client::{Answer, ClientError};

/// The errcodes that say "this token does not work".
pub(crate) const REJECTED: [i64; 3] = [40001, 40014, 42001];

/// What became of one call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// What was asked for.
    Good,
    /// An error of WeChat's.
    Errcode(i64),
    /// The plugin's own reply, with its reason.
    Refused(String),
    /// An HTTP status: Envoy's own, or that of something in front of WeChat.
    Status(u16),
    /// 200 and something that is not of WeChat's API.
    Odd,
    /// The connection, or the answer, broke off.
    Cut,
    /// The caller hung up.
    HungUp,
    /// What must never be, in words.
    Wrong(String),
}

/// How often each outcome was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    counts: BTreeMap<Outcome, u64>,
}

impl Outcome {
    /// Of an answer that is not what was asked for, or of none.
    pub(crate) fn of_failure(sent: &Result<Answer, ClientError>) -> Self {
        let answer = match sent {
            Ok(answer) => answer,
            Err(ClientError::Broken(_)) => return Self::Cut,
            Err(error) => return Self::Wrong(error.to_string()),
        };
        match (answer.header("x-wechat-token-error"), answer.errcode()) {
            (Some(reason), _) => Self::Refused(reason.to_owned()),
            (None, Some(0)) => Self::Wrong(format!("not what was asked for: {}", answer.text())),
            (None, Some(errcode)) => Self::Errcode(errcode),
            (None, None) if answer.status == 200 => Self::Odd,
            (None, None) => Self::Status(answer.status),
        }
    }
}

impl Tally {
    pub(crate) fn add(&mut self, outcome: Outcome) {
        *self.counts.entry(outcome).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (outcome, count) in other.counts {
            *self.counts.entry(outcome).or_default() += count;
        }
    }

    /// All calls together.
    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> u64 {
        let counts = self.counts.iter();
        counts
            .filter(|(outcome, _)| wanted(outcome))
            .map(|(_, count)| count)
            .sum()
    }

    /// The outcomes for which `allowed` does not hold.
    pub(crate) fn others(&self, allowed: impl Fn(&Outcome) -> bool) -> Vec<String> {
        let counts = self.counts.iter();
        let others = counts.filter(|(outcome, _)| !allowed(outcome));
        others
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => formatter.write_str("good"),
            Self::Errcode(errcode) => write!(formatter, "errcode {errcode}"),
            Self::Refused(reason) => formatter.write_str(reason),
            Self::Status(status) => write!(formatter, "status {status}"),
            Self::Odd => formatter.write_str("odd"),
            Self::Cut => formatter.write_str("cut off"),
            Self::HungUp => formatter.write_str("hung up"),
            Self::Wrong(why) => write!(formatter, "WRONG ({why})"),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} calls", self.total())?;
        for (outcome, count) in &self.counts {
            write!(formatter, ", {count} {outcome}")?;
        }
        Ok(())
    }
}
