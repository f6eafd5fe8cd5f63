//! What was counted: kept in the virtual machine, handed to Envoy on the tick, never while a request is served.

use std::collections::BTreeMap;

use crate::host::Host;
use crate::metrics::{Kind, Metric};

/// All metrics of one root.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Name to the place in `list`: a map to numbers shares its code with others in the .wasm.
    places: BTreeMap<String, usize>,
    list: Vec<Series>,
}

#[derive(Debug)]
struct Series {
    kind: Kind,
    name: String,
    id: Option<u32>,
    /// What the host has to be told: a counter's increments since the last flush, a gauge's value, what a histogram was
    /// given.
    news: Vec<u64>,
}

impl Metrics {
    /// Adds to a counter. Not for the hot path: counts of requests are kept as plain numbers by the injector.
    pub fn add(&mut self, metric: Metric, labels: &[&str], by: u64) {
        if let Some(counter) = self.of(metric, labels) {
            match counter.news.last_mut() {
                Some(sum) => *sum += by,
                None => counter.news.push(by),
            }
        }
    }

    /// Sets a gauge. The host is told even if this root set it to the same value before: another one may have set it since.
    pub fn set(&mut self, metric: Metric, labels: &[&str], value: u64) {
        if let Some(gauge) = self.of(metric, labels) {
            gauge.news = vec![value];
        }
    }

    /// Gives a value to a histogram.
    pub fn observe(&mut self, metric: Metric, value: u64) {
        if let Some(histogram) = self.of(metric, &[]) {
            histogram.news.push(value);
        }
    }

    /// Hands everything that changed to the host.
    pub fn flush<H: Host>(&mut self, host: &H) {
        for series in self
            .list
            .iter_mut()
            .filter(|series| !series.news.is_empty())
        {
            series.id = series
                .id
                .or_else(|| host.define_metric(series.kind, &series.name).ok());
            let Some(id) = series.id else {
                // What the host does not take must not pile up.
                series.news.truncate(1);
                continue;
            };
            for value in series.news.drain(..) {
                match series.kind {
                    Kind::Counter => host.add_metric(id, value),
                    Kind::Gauge | Kind::Histogram => host.record_metric(id, value),
                }
            }
        }
    }

    /// The series, a new one if there is none; there always is one.
    fn of(&mut self, metric: Metric, labels: &[&str]) -> Option<&mut Series> {
        let name = metric.series(labels);
        let place = match self.places.get(&name) {
            Some(place) => *place,
            None => {
                let place = self.list.len();
                self.places.insert(name.clone(), place);
                self.list.push(Series {
                    kind: metric.row().kind,
                    name,
                    id: None,
                    news: Vec::new(),
                });
                place
            }
        };
        self.list.get_mut(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn counters_add_up_histograms_get_each_value_and_gauges_the_last() {
        let host = FakeHost::new("injector", "");
        let mut metrics = Metrics::default();
        for round in 1..=2 {
            metrics.add(Metric::Parked, &["shop"], 2);
            metrics.add(Metric::Parked, &["shop"], 3);
            metrics.add(Metric::Parked, &["other"], 1);
            for value in [7, 7, 8] {
                metrics.observe(Metric::Wait, value);
                metrics.set(Metric::Generation, &["shop"], value);
            }
            metrics.flush(&host);
            assert_eq!(host.told("wechat_token_parked_total.app=shop"), [5 * round]);
        }
        metrics.flush(&host);
        assert_eq!(host.told("wechat_token_parked_total.app=other"), [2]);
        assert_eq!(host.told("wechat_token_wait_millis"), [7, 7, 8, 7, 7, 8]);
        // Told again though it is the same: another root may have set it meanwhile.
        assert_eq!(host.told("wechat_token_generation.app=shop"), [8, 8]);
    }
}
