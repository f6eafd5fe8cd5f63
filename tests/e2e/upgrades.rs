//! Streams that are no plain HTTP/1.1 calls: WebSocket, CONNECT, and gRPC over HTTP/2.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use support::client::raw::Raw;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_hdr_async, client_async};

use crate::settings::in_each_setting;
use crate::upstream::Upstream;
use crate::world::{http_options, plan, Plan, World, HOST, MANAGER, SOON};

/// The targets of the streams that came.
type Targets = Arc<Mutex<Vec<String>>>;

fn last(targets: &Targets) -> String {
    targets.lock().unwrap().last().cloned().expect("a stream")
}

/// Lets callers ask for this kind of stream.
fn allow(plan: &mut Plan, kind: &str) {
    plan.config.set(
        &format!("{MANAGER}.upgrade_configs"),
        json!([{"upgrade_type": kind}]),
    );
}

/// Sends every message back.
async fn talk(stream: TcpStream, targets: Targets) {
    #[allow(clippy::result_large_err)] // the library's own type
    let note = |request: &server::Request, response: server::Response| {
        targets.lock().unwrap().push(request.uri().to_string());
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, note).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        if !message.is_close() && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Binds a server, gives the plan its address, and serves each connection.
async fn serve<T>(
    plan: &mut Plan,
    serve: impl Fn(TcpStream, Targets) -> T + Send + 'static,
) -> Targets
where
    T: std::future::Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    plan.api = Some(listener.local_addr().unwrap());
    let targets = Targets::default();
    let seen = Arc::clone(&targets);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&seen)));
        }
    });
    targets
}

async fn open_and_talk(world: &World) {
    let talk = tokio::time::timeout(SOON, open_talk_and_close(world));
    talk.await.expect("a WebSocket that nobody holds");
}

async fn open_talk_and_close(world: &World) {
    let stream = TcpStream::connect(world.envoy.address("wechat"))
        .await
        .unwrap();
    let url = format!("ws://{HOST}/cgi-bin/socket?a=1");
    let (mut socket, answer) = client_async(url, stream).await.unwrap();
    assert_eq!(answer.status(), 101);
    for size in [1, 100_000] {
        let said = Message::text("x".repeat(size));
        socket.send(said.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), said);
    }
    socket.close(None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_waits_for_its_token_and_is_then_left_alone() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        allow(&mut plan, "websocket");
        let targets = serve(&mut plan, talk).await;
        let world = plan.start_cold().await;
        tokio::join!(open_and_talk(&world), async {
            world.parked(1).await;
            assert!(targets.lock().unwrap().is_empty(), "without a token");
            world.fake.release();
        });
        open_and_talk(&world).await;
        let target = format!("/cgi-bin/socket?a=1&access_token={}", world.token());
        assert_eq!(*targets.lock().unwrap(), [target.clone(), target]);
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_has_no_path_and_gets_no_token() {
    in_each_setting(|setting| async move {
        let upstream =
            Upstream::start(|_| b"HTTP/1.1 200 OK\r\n\r\n{\"errcode\":40001}".to_vec()).await;
        let mut plan = plan(setting).to(&upstream);
        allow(&mut plan, "CONNECT");
        let routes = format!("{MANAGER}.route_config.virtual_hosts[name=wechat].routes");
        let route = json!({"match": {"connect_matcher": {}}, "route": {"cluster": "wechat_api"}});
        let routes = plan.config.at(&routes).as_sequence_mut().unwrap();
        routes.insert(0, serde_norway::to_value(route).unwrap());
        let world = plan.start().await;
        world.envoy.wait_for_log("event=token_renewed", SOON).await;
        let mut raw = Raw::connect(world.envoy.address("wechat")).await.unwrap();
        let authority = format!("{HOST}:443");
        raw.send_head("CONNECT", &authority, &[("host", &authority)])
            .await
            .unwrap();
        let answer = raw.read_to_end().await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("{\"errcode\":40001}"), "{answer}");
        let head = upstream.last().unwrap().head;
        assert_eq!(upstream.last().unwrap().target(), authority);
        assert!(!head.contains(&world.token()), "{head}");
        world.finish().await;
    })
    .await;
}

/// Sends the body back as it came, and as a trailer what came as one.
async fn echo(
    request: Request<Incoming>,
    targets: Targets,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    targets.lock().unwrap().push(request.uri().to_string());
    let kind = request.headers()["content-type"].clone();
    let body = request.into_body().collect().await.unwrap();
    let mut trailers = body.trailers().cloned().unwrap_or_default();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let body = Full::new(body.to_bytes()).with_trailers(std::future::ready(Some(Ok(trailers))));
    Ok(Response::builder()
        .header("content-type", kind)
        .body(body)
        .unwrap())
}

async fn speak_http2(stream: TcpStream, targets: Targets) {
    let service = service_fn(move |request| echo(request, Arc::clone(&targets)));
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // A connection that ends is its two ends' matter.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

impl World {
    /// A connection over HTTP/2 to where services call.
    pub(crate) async fn http2<B>(&self) -> SendRequest<B>
    where
        B: Body<Error = Infallible> + Send + Unpin + 'static,
        B::Data: Send,
    {
        let stream = TcpStream::connect(self.envoy.address("wechat"));
        let io = TokioIo::new(stream.await.expect("Envoy listens"));
        let shaken = http2::handshake(TokioExecutor::new(), io).await;
        let (sender, connection) = shaken.expect("Envoy speaks HTTP/2");
        tokio::spawn(connection);
        sender
    }
}

/// A call over HTTP/2 with this content type and body, and a trailer behind it.
async fn call(world: &World, kind: &str, body: &'static str) -> (HeaderMap, Bytes, HeaderMap) {
    let mut sender = world.http2().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sent", http::HeaderValue::from_static("5"));
    let trailers = std::future::ready(Some(Ok::<_, Infallible>(trailers)));
    let request = Request::post(format!("http://{HOST}/cgi-bin/wechat.Service/Call?a=1"))
        .header("content-type", kind)
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(body.as_bytes())).with_trailers(trailers))
        .unwrap();
    let answer = tokio::time::timeout(SOON, sender.send_request(request));
    let (parts, body) = answer.await.unwrap().unwrap().into_parts();
    assert_eq!(parts.status, 200);
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    (parts.headers, body.to_bytes(), trailers)
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_over_http_2_passes_with_its_token_and_trailers() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        http_options(&mut plan.config)["explicit_http_config"] =
            serde_norway::to_value(json!({"http2_protocol_options": {}})).unwrap();
        let targets = serve(&mut plan, speak_http2).await;
        let world = plan.start().await;
        for (kind, body) in [
            ("application/grpc", "\0\0\0\0\u{4}body"),
            // Looks like an answer of WeChat's, so its beginning is looked at.
            ("application/json", r#"{"errcode":0}"#),
            ("application/json", r#"{"list":["#),
        ] {
            let (headers, got, trailers) = call(&world, kind, body).await;
            assert_eq!(headers["content-type"], kind);
            assert_eq!(got, body);
            assert_eq!(
                (&trailers["grpc-status"], &trailers["x-sent"]),
                (&"0".parse().unwrap(), &"5".parse().unwrap())
            );
            let target = format!(
                "/cgi-bin/wechat.Service/Call?a=1&access_token={}",
                world.token()
            );
            assert!(last(&targets).ends_with(&target), "{}", last(&targets));
        }
        world.finish().await;
    })
    .await;
}
