//! What tests, demo and benchmarks stand on: [`wechat`] is a strict fake WeChat over real sockets, [`envoy`] starts
//! real Envoys, [`redis`] real Redis servers, [`client`] is the HTTP client of the tests, [`browser`] a browser, [`door`]
//! is a port that refuses connections, [`passage`] one behind which the network fails, `tls` puts TLS before a server, and
//! [`wait`] waits for conditions.
//!
//! Everything here may panic with a readable message: it only ever runs below a test, a demo or a benchmark. It
//! leaves out everything that knows the plugin's own code.

pub mod browser;
pub mod client;
pub mod door;
pub mod envoy;
pub mod passage;
pub mod redis;
#[cfg(feature = "tls")]
pub mod tls;
pub mod wait;
pub mod wechat;
