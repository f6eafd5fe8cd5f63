//! The control API over HTTP, for a fake WeChat that runs as a program of its own (in a container, say).
//!
//! | call | does |
//! |---|---|
//! | `GET /control/health` | `{"ok":true}` |
//! | `GET /control/report` | the report |
//! | `GET /control/calls?tail=10` | the last calls |
//! | `GET /control/secrets` | `{"leaks":[…]}`: every token and secret, to look for in logs |
//! | `GET /control/faults` | the armed faults |
//! | `POST /control/faults` | arms the fault, or the array of faults, in the body |
//! | `DELETE /control/faults` | forgets all faults |
//! | `POST /control/gate` | `{"hold":true}` holds token calls, `{"hold":false}` releases them |
//! | `POST /control/revoke` | `{"appid":"wx…","errcode":40001}`: the app's current tokens fail with that |
//! | `POST /control/app` | adds or replaces an app: `{"appid":"wx…","secrets":["…"],"ip_whitelist":[]}` |
//! | `POST /control/reset` | forgets counters, violations, faults; `?tokens=1` the tokens too |

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};
use tokio::net::TcpListener;

use super::faults::Fault;
use super::settings::App;
use super::world::Shared;

/// The largest body that is read, in bytes.
const BODY_LIMIT: usize = 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gate {
    hold: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    appid: String,
    errcode: i64,
}

/// Reads a script of faults: one fault or an array of them, in JSON.
pub fn parse_faults(json: &[u8]) -> Result<Vec<Fault>, String> {
    let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let faults = match value {
        Value::Array(faults) => faults,
        fault => vec![fault],
    };
    faults
        .into_iter()
        .map(|fault| serde_json::from_value(fault).map_err(|error| error.to_string()))
        .collect()
}

/// Accepts connections for ever.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(handle(&shared, request).await) }
            });
            // A connection that breaks is its caller's matter.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn handle(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            return reply(
                StatusCode::BAD_REQUEST,
                &json!({"error": error.to_string()}),
            )
        }
    };
    match act(
        shared,
        &parts.method,
        parts.uri.path(),
        parts.uri.query().unwrap_or_default(),
        &body,
    ) {
        Ok(Some(value)) => reply(StatusCode::OK, &value),
        Ok(None) => reply(
            StatusCode::NOT_FOUND,
            &json!({"error": "no such control call"}),
        ),
        Err(error) => reply(StatusCode::BAD_REQUEST, &json!({"error": error})),
    }
}

fn act(
    shared: &Shared,
    method: &Method,
    path: &str,
    query: &str,
    body: &[u8],
) -> Result<Option<Value>, String> {
    let option = |name: &str| {
        let pair = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
        pair.map(|(_, value)| value.into_owned())
    };
    let value = match (method.as_str(), path) {
        ("GET", "/control/health") => json!({"ok": true}),
        ("GET", "/control/report") => json!(shared.report()),
        ("GET", "/control/calls") => {
            let tail = option("tail").map_or(Ok(100), |tail| tail.parse::<usize>());
            json!(shared.calls(tail.map_err(|error| format!("tail: {error}"))?))
        }
        ("GET", "/control/secrets") => json!({"leaks": shared.leaks()}),
        ("GET", "/control/faults") => json!(shared.world().script.faults()),
        ("POST", "/control/faults") => {
            let faults = parse_faults(body)?;
            let armed = faults.len();
            let mut world = shared.world();
            faults
                .into_iter()
                .for_each(|fault| world.script.arm(fault, Instant::now()));
            json!({"armed": armed})
        }
        ("DELETE", "/control/faults") => {
            shared.world().script.clear();
            json!({"armed": 0})
        }
        ("POST", "/control/gate") => {
            let gate: Gate = parse(body)?;
            shared.gate.send_replace(gate.hold);
            json!({"hold": gate.hold})
        }
        ("POST", "/control/revoke") => {
            let revoke: Revoke = parse(body)?;
            shared.world().book.revoke(&revoke.appid, revoke.errcode);
            json!({"ok": true})
        }
        ("POST", "/control/app") => {
            shared.world().put_app(parse::<App>(body)?);
            json!({"ok": true})
        }
        ("POST", "/control/reset") => {
            shared
                .world()
                .reset(option("tokens").as_deref() == Some("1"));
            json!({"ok": true})
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn reply(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
}
