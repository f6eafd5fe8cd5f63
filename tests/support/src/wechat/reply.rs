//! WeChat's replies: their texts, their content types, and the body type that the server sends.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future as _;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::Compression;
use http::{header, Response};
use hyper::body::{Body, Frame, SizeHint};
use serde_json::{json, Value};
use tokio::time::Sleep;

use super::settings::{ErrcodeStyle, ErrorStyle};

const JSON: &str = "application/json; encoding=utf-8";

/// A reply before faults: what is sent and how it counts.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Bytes,
    /// 0 is success; absent where the reply has none (412).
    pub(super) errcode: Option<i64>,
    is_gzip: bool,
}

/// A response body: one sized piece, or pieces that are each flushed as a chunk.
#[derive(Debug)]
pub(super) struct ReplyBody {
    pieces: VecDeque<Bytes>,
    chunked: bool,
    flush: bool,
    stall: Option<Pin<Box<Sleep>>>,
}

impl Reply {
    fn new(
        status: u16,
        content_type: Option<&'static str>,
        body: impl Into<Bytes>,
        errcode: Option<i64>,
    ) -> Self {
        Self {
            status,
            content_type,
            body: body.into(),
            errcode,
            is_gzip: false,
        }
    }

    pub(super) fn json(value: &Value) -> Self {
        Self::new(200, Some(JSON), value.to_string(), Some(0))
    }

    /// A success that begins with its errcode, as WeChat's do; `fields` is an object that is not empty.
    pub(super) fn ok(fields: &Value) -> Self {
        let fields = fields.to_string();
        let body = format!(
            r#"{{"errcode":0,"errmsg":"ok",{}"#,
            fields.trim_start_matches('{')
        );
        Self::new(200, Some(JSON), body, Some(0))
    }

    pub(super) fn png(bytes: Bytes) -> Self {
        Self::new(200, Some("image/png"), bytes, Some(0))
    }

    pub(super) fn length_required() -> Self {
        Self::new(412, None, Bytes::new(), None)
    }

    pub(super) fn error(errcode: i64, detail: Option<&str>, rid: &str, style: ErrorStyle) -> Self {
        let errmsg = format!("{} rid: {rid}", detail.unwrap_or_else(|| text(errcode)));
        let value = match style.errcode {
            ErrcodeStyle::Number => json!({"errcode": errcode, "errmsg": errmsg}),
            ErrcodeStyle::Text => json!({"errcode": errcode.to_string(), "errmsg": errmsg}),
            ErrcodeStyle::BaseResp => json!({"base_resp": {"errcode": errcode, "errmsg": errmsg}}),
        };
        let content_type = Some(if style.text_plain { "text/plain" } else { JSON });
        Self::new(200, content_type, value.to_string(), Some(errcode))
    }

    /// The page of an HTTP error, such as a gateway in front of WeChat sends.
    pub(super) fn page(status: u16) -> Self {
        let body = format!("<html><body><h1>{status}</h1></body></html>");
        Self::new(status, Some("text/html"), body, None)
    }

    /// A page in GBK: "system busy", whose bytes are no UTF-8.
    pub(super) fn gbk_page() -> Self {
        let body =
            Bytes::from_static(b"<html><body>\xcf\xb5\xcd\xb3\xb7\xb1\xc3\xa6</body></html>");
        Self::new(200, Some("text/html; charset=gbk"), body, None)
    }

    pub(super) fn body(text: &str) -> Self {
        Self::new(200, Some(JSON), text.to_owned(), None)
    }

    /// As gzip where that is worth it: texts are, pictures are not.
    pub(super) fn compressed(self) -> Self {
        let is_text = self
            .content_type
            .is_some_and(|kind| !kind.starts_with("image/"));
        if !is_text {
            return self;
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&self.body).expect("memory");
        Self {
            body: gzip.finish().expect("memory").into(),
            is_gzip: true,
            ..self
        }
    }

    /// The response: its body in one piece or cut at these positions into chunks, and so long after the headers.
    pub(super) fn into_response(
        self,
        cuts: Option<&[usize]>,
        stall: Duration,
    ) -> Response<ReplyBody> {
        let mut builder = Response::builder().status(self.status);
        if let Some(content_type) = self.content_type {
            builder = builder.header(header::CONTENT_TYPE, content_type);
        }
        if self.is_gzip {
            builder = builder.header(header::CONTENT_ENCODING, "gzip");
        }
        builder
            .body(ReplyBody {
                stall: (!stall.is_zero()).then(|| Box::pin(tokio::time::sleep(stall))),
                ..ReplyBody::new(self.body, cuts)
            })
            .expect("a status and a content type from this file")
    }

    /// The bytes of the response, which may break off in the middle of its body, for a connection that closes after.
    pub(super) fn into_raw(self, half: bool) -> Bytes {
        let content_type = self.content_type.unwrap_or(JSON);
        let (status, length) = (self.status, self.body.len());
        let head = format!("HTTP/1.1 {status} OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body[..if half { length / 2 } else { length }]);
        bytes.into()
    }
}

impl ReplyBody {
    fn new(whole: Bytes, cuts: Option<&[usize]>) -> Self {
        let Some(cuts) = cuts else {
            let pieces = if whole.is_empty() {
                VecDeque::new()
            } else {
                VecDeque::from([whole])
            };
            return Self {
                pieces,
                chunked: false,
                flush: false,
                stall: None,
            };
        };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(whole.len())).collect();
        cuts.push(whole.len());
        cuts.sort_unstable();
        let mut start = 0;
        let mut pieces = VecDeque::new();
        for cut in cuts {
            if cut > start {
                pieces.push_back(whole.slice(start..cut));
                start = cut;
            }
        }
        Self {
            pieces,
            chunked: true,
            flush: false,
            stall: None,
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(stall) = &mut self.stall {
            ready!(stall.as_mut().poll(context));
            self.stall = None;
        }
        // Giving way once between two pieces makes hyper flush each of them by itself.
        if std::mem::take(&mut self.flush) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.flush = self.chunked;
        Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.chunked {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// WeChat's own words for an errcode.
fn text(errcode: i64) -> &'static str {
    match errcode {
        -1 => "system error",
        0 => "ok",
        40001 => "invalid credential, access_token is invalid or not latest",
        40002 => "invalid grant_type",
        40013 => "invalid appid",
        40014 => "invalid access_token",
        40125 => "invalid appsecret",
        40164 => "invalid ip, not in whitelist",
        40243 => "invalid appsecret: the secret is frozen",
        41001 => "access_token missing",
        41002 => "appid missing",
        41004 => "appsecret missing",
        41008 => "missing code",
        42001 => "access_token expired",
        43001 => "require GET method",
        43002 => "require POST method",
        45009 => "reach max api daily quota limit",
        45011 => "api minute-quota reach limit, must slower, retry next minute",
        47001 => "data format error",
        48001 => "api unauthorized",
        76001 => "rid not found",
        89503 => "this ip call needs the administrator's confirmation",
        _ => "refused",
    }
}
