//! The HTTP/1.1 client of tests and demo: pooled, with a deadline on each call, and answers that are read whole.
//!
//! For requests that no proper client sends (aborted ones, odd targets, chunks cut by hand) there is [`raw`].

pub mod raw;

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{header, HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::task::JoinSet;

/// A pooled client; clones share the pool.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    timeout: Duration,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// From the call to the last byte of the headers.
    pub headers_after: Duration,
    /// From the call to the body's last byte.
    pub elapsed: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// The URL, method or a header is none.
    Request(String),
    /// Not within the client's timeout.
    Timeout(Duration),
    /// Refused, reset, or not HTTP.
    Broken(String),
}

impl Client {
    /// A client whose calls end after 30 s at the latest.
    pub fn new() -> Self {
        Self::with_timeout(Duration::from_secs(30))
    }

    /// A client whose calls end after `timeout` at the latest.
    pub fn with_timeout(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            pool: Pool::builder(TokioExecutor::new()).build(connector),
            timeout,
        }
    }

    /// `GET`.
    pub async fn get(&self, url: &str) -> Result<Answer, ClientError> {
        self.call("GET", url, &[], Bytes::new()).await
    }

    /// `GET` with headers; `host` replaces the URL's own.
    pub async fn get_with(
        &self,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ClientError> {
        self.call("GET", url, headers, Bytes::new()).await
    }

    /// `POST` of a sized body.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        self.call("POST", url, headers, body.into()).await
    }

    /// Any method. A POST, PUT or PATCH always carries its Content-Length, also when its body is empty: hyper leaves
    /// that one out, and WeChat answers it with 412.
    pub async fn call(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let request = |error: &dyn fmt::Display| ClientError::Request(error.to_string());
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| request(&error))?;
        let given = |name: &str| {
            headers
                .iter()
                .any(|header| header.0.eq_ignore_ascii_case(name))
        };
        let sized = [Method::POST, Method::PUT, Method::PATCH].contains(&method)
            && !given("content-length");
        let mut builder = Request::builder().method(method).uri(url);
        if sized {
            builder = builder.header(header::CONTENT_LENGTH, body.len());
        }
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        self.send(
            builder
                .body(Full::new(body))
                .map_err(|error| request(&error))?,
        )
        .await
    }

    /// Sends a request that the caller built.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let started = Instant::now();
        let exchange = async {
            let response = self
                .pool
                .request(request)
                .await
                .map_err(|error| ClientError::Broken(chain(&error)))?;
            let headers_after = started.elapsed();
            let (parts, body) = response.into_parts();
            let body = body
                .collect()
                .await
                .map_err(|error| ClientError::Broken(chain(&error)))?
                .to_bytes();
            Ok(Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
                headers_after,
                elapsed: started.elapsed(),
            })
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or(Err(ClientError::Timeout(self.timeout)))
    }
}

impl Answer {
    /// The body as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics, showing it, where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// The errcode, where the body is JSON that has one (a number, a text, or in `base_resp`).
    pub fn errcode(&self) -> Option<i64> {
        let value: Value = serde_json::from_slice(&self.body).ok()?;
        let errcode = value
            .get("errcode")
            .or_else(|| value.get("base_resp")?.get("errcode"))?;
        errcode.as_i64().or_else(|| errcode.as_str()?.parse().ok())
    }

    /// A header's value, where it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Runs `count` calls at once, each in a task of its own, and gives their results in the order of their numbers.
pub async fn concurrent<T, F>(count: usize, mut call: impl FnMut(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let call = call(number);
        tasks.spawn(async move { (number, call.await) });
    }
    let mut results = tasks.join_all().await;
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(why) => write!(formatter, "not a request: {why}"),
            Self::Timeout(after) => write!(formatter, "no answer within {after:?}"),
            Self::Broken(why) => write!(formatter, "no answer: {why}"),
        }
    }
}

impl std::error::Error for ClientError {}
