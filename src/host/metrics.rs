//! Counts and gauges: kept in the virtual machine, handed to Envoy on the tick, never while a request is served.
//!
//! The ABI knows no labels, so a label is part of the name as `.label=value`; `stats_tags` in the bootstrap turn it
//! into a label (`envoy/envoy.yaml`).

use std::collections::BTreeMap;

use crate::host::{Host, MetricKind};

/// All metrics of one root.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: BTreeMap<String, Counter>,
    gauges: BTreeMap<String, Gauge>,
}

#[derive(Debug, Default)]
struct Counter {
    id: Option<u32>,
    pending: u64,
}

#[derive(Debug, Default)]
struct Gauge {
    id: Option<u32>,
    value: u64,
    changed: bool,
}

impl Metrics {
    /// Adds to a counter. Not for the hot path: counts of requests are kept as plain numbers by the injector.
    pub fn add(&mut self, name: &str, by: u64) {
        if let Some(counter) = self.counters.get_mut(name) {
            counter.pending += by;
        } else {
            self.counters.insert(
                name.to_owned(),
                Counter {
                    id: None,
                    pending: by,
                },
            );
        }
    }

    /// Sets a gauge.
    pub fn set(&mut self, name: &str, value: u64) {
        if let Some(gauge) = self.gauges.get_mut(name) {
            gauge.changed |= gauge.value != value;
            gauge.value = value;
        } else {
            self.gauges.insert(
                name.to_owned(),
                Gauge {
                    id: None,
                    value,
                    changed: true,
                },
            );
        }
    }

    /// Hands everything that changed to the host.
    pub fn flush<H: Host>(&mut self, host: &H) {
        for (name, counter) in &mut self.counters {
            if counter.pending == 0 && counter.id.is_some() {
                continue;
            }
            counter.id = counter
                .id
                .or_else(|| host.define_metric(MetricKind::Counter, name).ok());
            if let Some(id) = counter.id {
                if counter.pending > 0 {
                    host.add_metric(id, counter.pending);
                    counter.pending = 0;
                }
            }
        }
        for (name, gauge) in &mut self.gauges {
            if !gauge.changed {
                continue;
            }
            gauge.id = gauge
                .id
                .or_else(|| host.define_metric(MetricKind::Gauge, name).ok());
            if let Some(id) = gauge.id {
                host.set_metric(id, gauge.value);
                gauge.changed = false;
            }
        }
    }
}
