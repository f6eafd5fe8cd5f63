//! A host for unit tests: headers of one stream at a time, shared data, queues and token calls, all in memory.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::host::headers::HeaderMap;
use crate::host::{Callout, Cas, Headers, Host, HostError};
use crate::metrics::Kind;
use crate::time::{Millis, UnixMillis};

/// What the host holds; tests look into it and change it between callbacks.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) now: Millis,
    pub(crate) role: &'static str,
    pub(crate) configuration: String,
    pub(crate) request: BTreeMap<String, Vec<u8>>,
    pub(crate) response: BTreeMap<String, Vec<u8>>,
    pub(crate) body: Vec<u8>,
    pub(crate) resumed: usize,
    pub(crate) replies: Vec<u16>,
    pub(crate) shared: BTreeMap<String, (Vec<u8>, u32)>,
    pub(crate) queues: BTreeMap<String, VecDeque<Vec<u8>>>,
    /// Clusters to which a call can be sent.
    pub(crate) clusters: Vec<&'static str>,
    /// Clusters to which a call was sent.
    pub(crate) calls: Vec<String>,
    /// The answer to the call whose callback runs.
    pub(crate) reply: String,
    /// What was told of each metric: a counter's sum, every value of a gauge or a histogram.
    pub(crate) metrics: Vec<(String, Vec<u64>)>,
    writes: u32,
}

#[derive(Default)]
pub(crate) struct FakeHost(pub(crate) RefCell<State>);

impl FakeHost {
    pub(crate) fn new(role: &'static str, configuration: &str) -> FakeHost {
        FakeHost(RefCell::new(State {
            now: Millis(1_000_000),
            role,
            configuration: configuration.to_owned(),
            ..State::default()
        }))
    }

    /// A request comes in: a new stream, or another attempt of the same one with the headers as they were left.
    pub(crate) fn set_request(&self, headers: &[(&str, &str)]) {
        self.0.borrow_mut().request = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
    }

    pub(crate) fn request(&self, name: &str) -> Option<String> {
        let value = self.0.borrow().request.get(name).cloned()?;
        String::from_utf8(value).ok()
    }

    /// What was told of a metric.
    pub(crate) fn told(&self, metric: &str) -> Vec<u64> {
        let state = self.0.borrow();
        let mut metrics = state.metrics.iter();
        let told = metrics.find(|(name, _)| name == metric);
        told.map(|(_, values)| values.clone()).unwrap_or_default()
    }

    pub(crate) fn later(&self, span: Duration) {
        let mut state = self.0.borrow_mut();
        state.now = state.now.after(span);
    }
}

impl Host for FakeHost {
    fn now(&self) -> Millis {
        self.0.borrow().now
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(self.0.borrow().now.0)
    }

    fn random(&self) -> u64 {
        let mut state = self.0.borrow_mut();
        state.writes += 1;
        u64::from(state.writes)
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn property(&self, name: &str) -> Option<String> {
        (name == "plugin_root_id").then(|| self.0.borrow().role.to_owned())
    }

    fn configuration(&self) -> Vec<u8> {
        self.0.borrow().configuration.clone().into_bytes()
    }

    fn set_tick_period(&self, _: Duration) {}

    fn focus(&self, _: u32) {}

    fn headers(&self, map: Headers) -> HeaderMap {
        let state = self.0.borrow();
        let pairs: Vec<(String, Vec<u8>)> = match map {
            Headers::Request => state.request.clone().into_iter().collect(),
            Headers::Response => state.response.clone().into_iter().collect(),
            Headers::Callout => vec![(":status".to_owned(), b"200".to_vec())],
        };
        HeaderMap::from_bytes(HeaderMap::encode(&pairs))
    }

    fn set_header(&self, map: Headers, name: &str, value: &[u8]) -> Result<(), HostError> {
        let state = &mut *self.0.borrow_mut();
        let headers = match map {
            Headers::Request => &mut state.request,
            Headers::Response | Headers::Callout => &mut state.response,
        };
        headers.insert(name.to_owned(), value.to_vec());
        Ok(())
    }

    fn remove_header(&self, _: Headers, name: &str) -> Result<(), HostError> {
        self.0.borrow_mut().request.remove(name);
        Ok(())
    }

    fn response_body(&self, max: usize) -> Vec<u8> {
        let mut body = self.0.borrow().body.clone();
        body.truncate(max);
        body
    }

    fn resume_request(&self) -> Result<(), HostError> {
        self.0.borrow_mut().resumed += 1;
        Ok(())
    }

    fn resume_response(&self) -> Result<(), HostError> {
        Ok(())
    }

    fn local_reply(&self, status: u16, _: &[(&str, &str)], _: &[u8]) -> Result<(), HostError> {
        self.0.borrow_mut().replies.push(status);
        Ok(())
    }

    fn shared(&self, key: &str) -> Option<(Vec<u8>, Cas)> {
        let state = self.0.borrow();
        let (value, cas) = state.shared.get(key)?;
        Some((value.clone(), Cas(*cas)))
    }

    fn set_shared(&self, key: &str, value: &[u8], cas: Cas) -> Result<(), HostError> {
        let state = &mut *self.0.borrow_mut();
        let present = state
            .shared
            .get(key)
            .map_or(Cas::ABSENT, |(_, cas)| Cas(*cas));
        if cas != present {
            return Err(HostError::CasMismatch);
        }
        state.writes += 1;
        let value = (value.to_vec(), state.writes);
        state.shared.insert(key.to_owned(), value);
        Ok(())
    }

    fn register_queue(&self, name: &str) -> Result<u32, HostError> {
        self.0
            .borrow_mut()
            .queues
            .entry(name.to_owned())
            .or_default();
        self.resolve_queue(name).ok_or(HostError::BadArgument)
    }

    fn resolve_queue(&self, name: &str) -> Option<u32> {
        let place = self
            .0
            .borrow()
            .queues
            .keys()
            .position(|known| known == name)?;
        u32::try_from(place).ok()
    }

    fn enqueue(&self, queue: u32, message: &[u8]) -> Result<(), HostError> {
        let state = &mut *self.0.borrow_mut();
        let queue = state.queues.values_mut().nth(queue as usize);
        queue
            .ok_or(HostError::BadArgument)?
            .push_back(message.to_vec());
        Ok(())
    }

    fn dequeue(&self, queue: u32) -> Option<Vec<u8>> {
        let state = &mut *self.0.borrow_mut();
        state.queues.values_mut().nth(queue as usize)?.pop_front()
    }

    fn call(&self, callout: &Callout<'_>) -> Result<u32, HostError> {
        let state = &mut *self.0.borrow_mut();
        if !state.clusters.contains(&callout.cluster) {
            return Err(HostError::BadArgument);
        }
        state.calls.push(callout.cluster.to_owned());
        u32::try_from(state.calls.len()).map_err(|_| HostError::BadArgument)
    }

    fn callout_body(&self, _: usize) -> Vec<u8> {
        self.0.borrow().reply.clone().into_bytes()
    }

    fn define_metric(&self, _: Kind, name: &str) -> Result<u32, HostError> {
        let metrics = &mut self.0.borrow_mut().metrics;
        let place = match metrics.iter().position(|(known, _)| known == name) {
            Some(place) => place,
            None => {
                metrics.push((name.to_owned(), Vec::new()));
                metrics.len() - 1
            }
        };
        u32::try_from(place).map_err(|_| HostError::BadArgument)
    }

    fn add_metric(&self, metric: u32, by: u64) {
        let (_, values) = &mut self.0.borrow_mut().metrics[metric as usize];
        let sum = values.pop().unwrap_or_default();
        values.push(sum + by);
    }

    fn record_metric(&self, metric: u32, value: u64) {
        self.0.borrow_mut().metrics[metric as usize].1.push(value);
    }
}
