//! Counts and gauges: kept in the virtual machine, handed to Envoy on the tick, never while a request is served.
//!
//! The ABI knows no labels, so a label is part of the name as `.label=value`; `stats_tags` in the bootstrap turn it
//! into a label (`envoy/envoy.yaml`).

use std::collections::BTreeMap;

use crate::host::{Host, MetricKind};

/// All metrics of one root.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Name to the place in `list`.
    places: BTreeMap<String, usize>,
    list: Vec<Metric>,
}

#[derive(Debug)]
struct Metric {
    kind: MetricKind,
    name: String,
    id: Option<u32>,
    /// A counter's increments since the last flush, or a gauge's value.
    value: u64,
    /// The host has to be told.
    changed: bool,
}

impl Metrics {
    /// Adds to a counter. Not for the hot path: counts of requests are kept as plain numbers by the injector.
    pub fn add(&mut self, name: &str, by: u64) {
        if let Some(counter) = self.of(MetricKind::Counter, name) {
            counter.value += by;
            counter.changed = true;
        }
    }

    /// Sets a gauge.
    pub fn set(&mut self, name: &str, value: u64) {
        if let Some(gauge) = self.of(MetricKind::Gauge, name) {
            gauge.changed |= gauge.value != value;
            gauge.value = value;
        }
    }

    /// Hands everything that changed to the host.
    pub fn flush<H: Host>(&mut self, host: &H) {
        for metric in self.list.iter_mut().filter(|metric| metric.changed) {
            metric.id = metric
                .id
                .or_else(|| host.define_metric(metric.kind, &metric.name).ok());
            let Some(id) = metric.id else {
                continue;
            };
            match metric.kind {
                MetricKind::Counter => host.add_metric(id, std::mem::take(&mut metric.value)),
                MetricKind::Gauge => host.set_metric(id, metric.value),
            }
            metric.changed = false;
        }
    }

    /// The metric with this name, a new one if there is none; there always is one.
    fn of(&mut self, kind: MetricKind, name: &str) -> Option<&mut Metric> {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => {
                let place = self.list.len();
                self.places.insert(name.to_owned(), place);
                let name = name.to_owned();
                self.list.push(Metric {
                    kind,
                    name,
                    id: None,
                    value: 0,
                    changed: true,
                });
                place
            }
        };
        self.list.get_mut(place)
    }
}
