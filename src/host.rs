//! The border between the rules and Envoy: what the contexts need from their host, as a trait.
//!
//! `abi` is the one implementation that speaks to Envoy; tests drive the same contexts with a simulated host. Host
//! statuses stop here as [`HostError`]; none of the methods can panic.

use std::fmt;
use std::time::Duration;

use self::headers::HeaderMap;
use crate::metrics::Kind;
use crate::time::{Millis, UnixMillis};

#[cfg(target_arch = "wasm32")]
pub mod abi;
#[cfg(test)]
pub(crate) mod fake;
pub mod headers;
pub mod injector;
pub mod metrics;
pub mod refresher;
pub mod root;
pub mod slot;
pub mod status;
pub mod stream;
#[cfg(feature = "trap")]
pub mod trap;
pub mod view;

/// Why the host did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// Another writer was faster.
    CasMismatch,
    /// There is no such thing, for example a cluster that is not warm yet.
    BadArgument,
    /// Any other status.
    Status(u32),
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostError::CasMismatch => f.write_str("compare-and-swap mismatch"),
            HostError::BadArgument => f.write_str("bad argument"),
            HostError::Status(status) => write!(f, "host status {status}"),
        }
    }
}

impl std::error::Error for HostError {}

/// What a filter callback tells Envoy. The numbers are Envoy's `FilterHeadersStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Flow {
    /// Go on.
    Continue = 0,
    /// Hold the headers (or this piece of the body) and deliver what follows.
    Hold = 1,
    /// Hold everything under flow control: no callback comes for the body, and a body of any size waits in the
    /// caller's socket instead of ending in a 413.
    HoldAll = 4,
}

/// A number that a compare-and-swap has to find again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cas(pub u32);

impl Cas {
    /// Matches an absent key only.
    pub const ABSENT: Cas = Cas(u32::MAX);
}

/// Headers of the request or of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// The caller's.
    Request,
    /// The upstream's.
    Response,
    /// Of the answer to a callout; inside its callback only.
    Callout,
}

/// A call to another cluster.
#[derive(Clone, Copy)]
pub struct Callout<'a> {
    /// Envoy's cluster name.
    pub cluster: &'a str,
    /// Pseudo headers and headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, possibly empty.
    pub body: &'a [u8],
    /// After this the callback comes with a 504.
    pub timeout: Duration,
}

/// What the contexts need from Envoy.
pub trait Host {
    /// Monotonic time of this process.
    fn now(&self) -> Millis;
    /// Wall time.
    fn wall(&self) -> UnixMillis;
    /// A random number.
    fn random(&self) -> u64;
    /// An environment variable that `vm_config.environment_variables` gives to the plugin.
    fn env(&self, name: &str) -> Option<String>;

    /// A property of the plugin, for example `plugin_root_id`.
    fn property(&self, name: &str) -> Option<String>;
    /// The plugin's configuration.
    fn configuration(&self) -> Vec<u8>;
    /// Asks for ticks.
    fn set_tick_period(&self, period: Duration);

    /// Makes the following calls act on this context until the callback ends or another one is named.
    fn focus(&self, context: u32);
    /// The headers of the stream in focus, or of the callout's answer.
    fn headers(&self, map: Headers) -> HeaderMap;
    /// Sets a header of the stream in focus.
    fn set_header(&self, map: Headers, name: &str, value: &[u8]) -> Result<(), HostError>;
    /// Removes a header of the stream in focus.
    fn remove_header(&self, map: Headers, name: &str) -> Result<(), HostError>;
    /// At most `max` bytes from the front of the answer's body.
    fn response_body(&self, max: usize) -> Vec<u8>;
    /// Lets the held request of the stream in focus go on.
    fn resume_request(&self) -> Result<(), HostError>;
    /// Lets the held answer of the stream in focus go on.
    fn resume_response(&self) -> Result<(), HostError>;
    /// Answers the stream in focus.
    fn local_reply(
        &self,
        status: u16,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(), HostError>;

    /// A value in shared data and the number for a compare-and-swap.
    fn shared(&self, key: &str) -> Option<(Vec<u8>, Cas)>;
    /// Writes a value if `cas` still holds.
    fn set_shared(&self, key: &str, value: &[u8], cas: Cas) -> Result<(), HostError>;
    /// Makes this root the one that is notified of the queue.
    fn register_queue(&self, name: &str) -> Result<u32, HostError>;
    /// Finds a queue of this virtual machine id.
    fn resolve_queue(&self, name: &str) -> Option<u32>;
    /// Puts a message into a queue.
    fn enqueue(&self, queue: u32, message: &[u8]) -> Result<(), HostError>;
    /// Takes a message from a queue.
    fn dequeue(&self, queue: u32) -> Option<Vec<u8>>;

    /// Sends a call; the answer comes to the root in focus, with the number that is returned.
    fn call(&self, callout: &Callout<'_>) -> Result<u32, HostError>;
    /// At most `max` bytes of the answer to a callout; inside its callback only.
    fn callout_body(&self, max: usize) -> Vec<u8>;

    /// Defines a metric, or finds it.
    fn define_metric(&self, kind: Kind, name: &str) -> Result<u32, HostError>;
    /// Adds to a counter.
    fn add_metric(&self, metric: u32, by: u64);
    /// Sets a gauge, or gives a value to a histogram.
    fn record_metric(&self, metric: u32, value: u64);
}
