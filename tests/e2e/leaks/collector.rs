//! A server that takes whatever a tracer or a log service is sent, and keeps every byte of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What came so far, heads and bodies of all connections in the order in which their parts came.
type Received = Arc<Mutex<Vec<u8>>>;

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    received: Received,
    serving: JoinHandle<()>,
}

impl Collector {
    /// Speaks HTTP/1.1, as OTLP over HTTP and Zipkin do.
    pub(crate) async fn http() -> Self {
        Self::start(false).await
    }

    /// Speaks HTTP/2 without TLS, as gRPC does.
    pub(crate) async fn grpc() -> Self {
        Self::start(true).await
    }

    async fn start(is_grpc: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Received::default();
        let kept = Arc::clone(&received);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                let service = service_fn(move |request| take(Arc::clone(&kept), request));
                let stream = TokioIo::new(stream);
                tokio::spawn(async move {
                    // An Envoy that ends cuts its connections.
                    let _ = if is_grpc {
                        let server = http2::Builder::new(TokioExecutor::new());
                        server.serve_connection(stream, service).await
                    } else {
                        http1::Builder::new()
                            .serve_connection(stream, service)
                            .await
                    };
                });
            }
        });
        Collector {
            address,
            received,
            serving,
        }
    }

    /// All of it; what is no UTF-8 is replaced, which leaves the texts between (protobuf) as they are.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(
    kept: Received,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let line = format!("\n{} {} {:?}\n", head.method, head.uri, head.headers);
    kept.lock().unwrap().extend_from_slice(line.as_bytes());
    // A stream of a log service never ends by itself; what it brings is kept as it comes.
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            kept.lock().unwrap().extend_from_slice(data);
        }
    }
    let mut answer = Response::new(Full::default());
    // What Zipkin answers; OTLP wants 200.
    if head.uri.path() == super::sinks::ZIPKIN_PATH {
        *answer.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(answer)
}
