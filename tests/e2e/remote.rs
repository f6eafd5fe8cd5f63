//! Code that Envoy fetches over HTTP, as late as a test wants it.

use std::sync::Arc;

use serde_json::json;
use support::envoy::{workspace, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Serves the refresher's code once it is released.
pub(crate) struct CodeServer {
    released: Arc<Notify>,
}

impl CodeServer {
    /// Has the refresher's code come from here, in place of a file.
    pub(crate) async fn start(config: &mut Config) -> CodeServer {
        let file = workspace().join("dist/wechat-token.wasm");
        let sum =
            std::fs::read_to_string(file.with_extension("wasm.sha256")).expect("its checksum");
        let sum = sum.split_whitespace().next().expect("its checksum");
        let code = std::fs::read(file).expect("the plugin");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let uri =
            json!({"uri": "http://code/wechat-token.wasm", "cluster": "code", "timeout": "60s"});
        let place = "bootstrap_extensions[0].typed_config.config.vm_config.code";
        config
            .set(place, json!({"remote": {"http_uri": uri, "sha256": sum}}))
            .push(
                "static_resources.clusters",
                json!({"name": "code", "connect_timeout": "1s"}),
            )
            .cluster_to("code", address, true);
        let released = Arc::new(Notify::new());
        let gate = Arc::clone(&released);
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("Envoy's connection");
            serve(stream, &gate, &code).await.expect("Envoy takes it");
        });
        CodeServer { released }
    }

    /// Lets Envoy have it.
    pub(crate) fn release(&self) {
        self.released.notify_one();
    }
}

async fn serve(mut stream: TcpStream, gate: &Notify, code: &[u8]) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    gate.notified().await;
    let length = code.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(code).await?;
    stream.shutdown().await
}
