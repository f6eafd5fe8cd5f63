//! How many log lines of a kind there may be: whatever meets 10,000 apps or requests at once, the log stays readable, and
//! what was left out is told as a number.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Millis;

/// Lines of a kind that may be written in a [`WINDOW`].
const MOST_LINES: u32 = 500;
const WINDOW: Duration = Duration::from_secs(10);

/// The lines of one virtual machine.
#[derive(Debug, Default)]
pub struct Throttle {
    /// By the line's first word, `event=…`: there are as many as the code has kinds of lines.
    kinds: BTreeMap<String, Window>,
}

#[derive(Debug, Default)]
struct Window {
    since: Millis,
    lines: u32,
    withheld: u64,
}

impl Throttle {
    /// Whether a line may be written; if so, how many of its kind were not since the last one.
    pub fn admit(&mut self, line: &str, now: Millis) -> Option<u64> {
        let kind = line.split(' ').next().unwrap_or_default();
        let window = match self.kinds.get_mut(kind) {
            Some(window) => window,
            None => self.kinds.entry(kind.to_owned()).or_default(),
        };
        if now.since(window.since) >= WINDOW {
            window.since = now;
            window.lines = 0;
        }
        if window.lines >= MOST_LINES {
            window.withheld = window.withheld.saturating_add(1);
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.withheld))
    }

    /// A kind of which lines were withheld, and how many, where the flood is over and no line came that could have told it.
    pub fn rest(&mut self, now: Millis) -> Option<(String, u64)> {
        let is_over = |window: &Window| window.withheld > 0 && now.since(window.since) >= WINDOW;
        let (kind, window) = self.kinds.iter_mut().find(|(_, window)| is_over(window))?;
        Some((kind.clone(), std::mem::take(&mut window.withheld)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_is_cut_and_its_rest_told_as_a_number() {
        let mut throttle = Throttle::default();
        let mut write = |line: &str, ms: u64| throttle.admit(line, Millis(1_000_000 + ms));
        for n in 0..650 {
            let line = format!("event=refresh_failed app=wx{n}");
            assert_eq!(write(&line, n), (n < 500).then_some(0), "{n}");
        }
        assert_eq!(
            write("event=redis_failed app=wx1", 650),
            Some(0),
            "another kind"
        );
        assert_eq!(write("event=refresh_failed", 9_999), None);
        assert_eq!(write("event=refresh_failed", 10_000), Some(151));
        assert_eq!(write("event=refresh_failed", 10_001), Some(0));
    }

    #[test]
    fn what_was_withheld_is_told_when_no_other_line_of_its_kind_comes() {
        let mut throttle = Throttle::default();
        for n in 0..650 {
            throttle.admit("event=app_skipped", Millis(1_000_000 + n));
        }
        throttle.admit("event=config_refused", Millis(1_000_000));
        assert_eq!(throttle.rest(Millis(1_009_999)), None);
        let rest = throttle.rest(Millis(1_010_000));
        assert_eq!(rest, Some(("event=app_skipped".to_owned(), 150)));
        assert_eq!(throttle.rest(Millis(1_010_250)), None, "once");
        let later = throttle.admit("event=app_skipped", Millis(1_020_000));
        assert_eq!(later, Some(0), "not twice");
    }

    #[test]
    fn few_lines_are_never_cut() {
        let mut throttle = Throttle::default();
        for n in 0..1_000 {
            let now = Millis(n * 100);
            assert_eq!(throttle.admit("event=token_renewed", now), Some(0), "{n}");
        }
    }
}
