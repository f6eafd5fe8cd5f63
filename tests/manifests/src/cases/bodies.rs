//! WeChat answers 412 to a body without Content-Length. Where the deployment collects such a one, it arrives with its length; where
//! it does not, the caller gets WeChat's answer. A large body that has its length is not held for that.

use anyhow::{ensure, Context as _, Result};
use support::client::raw::Raw;
use support::client::Answer;
use support::wechat::crc32;

use super::{good, marked, ECHO, MARK};
use crate::deployment::{Bodies, Running};
use crate::wechat::{WeChat, HOST};

/// What the shipped files take of a body without length.
const LIMIT: usize = 21 * 1024 * 1024;
/// A body is sent in pieces of this size.
const PIECE: usize = 100_000;
/// What must be sent again after a rejection has to fit in a smaller place, so a body is larger than that.
const CHUNKED: usize = 5_000_000;

pub(super) async fn lengths(running: &Running, wechat: &WeChat, kind: Bodies) -> Result<String> {
    let body = body_of(CHUNKED);
    let answer = in_chunks(running, HOST, "chunked", &body).await?;
    let call = marked(wechat, "chunked")?;
    let length = call.header("content-length");
    if kind == Bodies::AsTheyCome {
        ensure!(
            (answer.status, length) == (412, None),
            "a body in chunks was collected after all: {}",
            answer.status
        );
        sized(running, wechat, LIMIT + 1).await?;
        return Ok(
            "POST in chunks: WeChat's 412 (nothing collects it here); 22 MB with their length arrive"
                .to_owned(),
        );
    }
    good(&answer).context("a body in chunks")?;
    ensure!(
        length == Some(&*CHUNKED.to_string()) && call.header("transfer-encoding").is_none(),
        "a body in chunks came with the length {length:?}"
    );
    ensure!(
        call.body_crc32 == crc32(&body),
        "a body in chunks came changed"
    );
    match kind {
        // More than can be collected: so it was not.
        Bodies::Collected => {
            sized(running, wechat, LIMIT + 1).await?;
            Ok("POST of 5 MB in chunks came with its length; 22 MB with their length streamed past".to_owned())
        }
        _ => {
            sized(running, wechat, LIMIT).await?;
            let url = running.url(ECHO);
            let headers = [("host", HOST)];
            let larger = body_of(LIMIT + 1);
            let answer = running.client.post(&url, &headers, larger).await?;
            ensure!(answer.status == 413, "21 MiB and a byte: {}", answer.status);
            Ok("POST of 5 MB in chunks came with its length; so did 21 MiB that had it, and a byte more got 413".to_owned())
        }
    }
}

/// A body that has its length arrives whole.
async fn sized(running: &Running, wechat: &WeChat, size: usize) -> Result<()> {
    let body = body_of(size);
    let headers = [("host", HOST), (MARK, "sized")];
    let url = running.url(ECHO);
    let answer = running.client.post(&url, &headers, body.clone()).await?;
    good(&answer).with_context(|| format!("{size} bytes with their length"))?;
    let call = marked(wechat, "sized")?;
    ensure!(
        call.header("content-length") == Some(&*size.to_string())
            && call.body_crc32 == crc32(&body),
        "{size} bytes came changed, with the length {:?}",
        call.header("content-length")
    );
    Ok(())
}

/// Sends a body in chunks to a host.
pub(crate) async fn in_chunks(
    running: &Running,
    host: &str,
    mark: &str,
    body: &[u8],
) -> Result<Answer> {
    let mut raw = Raw::connect(running.address()?).await?;
    let headers = [
        ("host", host),
        (MARK, mark),
        ("transfer-encoding", "chunked"),
    ];
    raw.send_head("POST", ECHO, &headers).await?;
    for piece in body.chunks(PIECE) {
        // Who is refused need not be listened to any more: the answer tells.
        if raw.send_chunk(piece).await.is_err() {
            return Ok(raw.read_answer().await?);
        }
    }
    // As above.
    let _ = raw.finish_chunks().await;
    Ok(raw.read_answer().await?)
}

/// So many bytes, in which a lost or moved piece is seen.
fn body_of(size: usize) -> Vec<u8> {
    let numbers = (0_u32..).flat_map(u32::to_le_bytes);
    numbers.take(size).collect()
}
