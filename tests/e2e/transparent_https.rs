//! `envoy/transparent-https/`: the listener that ends the TLS of services, with the certificate that the script there makes. Real
//! libraries go through it in `tests/interop`.
//!
//! The listener goes with `envoy.yaml`, so the plugin stands in the cluster.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{json, Value};
use support::envoy::{workspace, Config};
use support::wait::until_some;
use support::wechat::FakeWeChat;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::danger::ServerCertVerifier as _;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::settings::{versions_and_placements, Placement, Setting};
use crate::world::{plan, World, APPID, HOST, MARK, SECRET, SOON};

const FOLDER: &str = "envoy/transparent-https";
/// Where the shipped files expect the certificate.
const PLACE: &str = "/etc/envoy/wechat-https";

/// What the script has made.
struct Made(TempDir);

impl Made {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        made.renew();
        made
    }

    fn renew(&self) {
        run(Command::new(workspace().join(FOLDER).join("certificate.sh")).arg(self.0.path()));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn ca(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.file("services/ca.pem")).unwrap()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca()).unwrap();
        Arc::new(roots)
    }

    /// Asserts what a client does that trusts this CA and nothing else, when it is shown a certificate for a name.
    fn assert_vouches(&self, certificate: &Path, name: &str, does: bool) {
        let provider = Arc::new(default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots(), provider);
        let certificate = CertificateDer::from_pem_file(certificate).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let verified = verifier.build().unwrap().verify_server_cert(
            &certificate,
            &[],
            &name,
            &[],
            UnixTime::now(),
        );
        match verified {
            Ok(_) => assert!(does, "{name:?} is taken"),
            Err(Error::InvalidCertificate(error)) => assert!(!does, "{name:?}: {error:?}"),
            Err(error) => panic!("{name:?}: {error}"),
        }
    }
}

fn run(command: &mut Command) {
    let ended = command.output().unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{command:?}: {errors}");
}

fn settings() -> Vec<Setting> {
    let mut settings = versions_and_placements();
    settings.retain(|setting| setting.placement == Placement::Upstream);
    settings
}

/// The demo's Envoy with the shipped listener, by the command line of the README.
async fn start(setting: Setting, made: &Made) -> World {
    let mut plan = plan(setting);
    plan.document["caller_token"] = json!("replace");
    let certificate = made.file("envoy");
    let sds = std::fs::read_to_string(workspace().join(FOLDER).join("sds.yaml")).unwrap();
    let sds = sds.replace(PLACE, certificate.to_str().unwrap());
    std::fs::write(certificate.join("sds.yaml"), sds).unwrap();
    let mut listener = Config::load(format!("{FOLDER}/listener.yaml"));
    listener.free_ports().remove("admin");
    let listener = listener
        .to_text()
        .replace(PLACE, certificate.to_str().unwrap());
    let fake = FakeWeChat::start(plan.settings.clone()).await;
    let builder = plan.builder(&fake).arg("--config-yaml").arg(&listener);
    let envoy = builder.start().await;
    let log = envoy.logs();
    assert!(!log.contains("eprecat"), "{log}");
    World::new(setting, fake, envoy)
}

/// A connection of a service that trusts the CA.
struct Service {
    sender: SendRequest<Full<Bytes>>,
    certificate: CertificateDer<'static>,
}

impl Service {
    async fn connect(world: &World, made: &Made) -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(made.roots())
            .with_no_client_auth();
        let stream = TcpStream::connect(world.envoy.address("wechat_https"));
        let name = ServerName::try_from(HOST).unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream.await.unwrap());
        let tls = tls.await.unwrap();
        let certificates = tls.get_ref().1.peer_certificates().unwrap();
        let certificate = certificates[0].clone().into_owned();
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(tls));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Self {
            sender,
            certificate,
        }
    }

    /// Status, headers and body of the answer.
    async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, HeaderMap, Bytes) {
        let mut request = Request::builder().method(method).uri(target);
        if !headers.iter().any(|header| header.0 == "host") {
            request = request.header("host", HOST);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        self.sender.ready().await.unwrap();
        let answer = tokio::time::timeout(SOON, self.sender.send_request(request));
        let (head, body) = answer.await.unwrap().unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, body)
    }

    /// The token that a library gets.
    async fn token(&mut self, method: &str, target: &str, body: &str) -> String {
        let (status, headers, answer) = self.send(method, target, &[], body).await;
        assert_eq!((status, &headers["content-type"]), (200, &json_type()));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["expires_in"], 7200);
        assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// Asserts that a call comes to WeChat with the mesh's token in place of the library's.
    async fn assert_served(&mut self, world: &World, token: &str) {
        let mark = world.next_mark();
        let target = format!("/cgi-bin/echo?access_token={token}&a=1");
        let headers = [(MARK, &*mark)];
        let (status, _, answer) = self.send("POST", &target, &headers, "{}").await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(status, 200, "{answer}");
        assert!(answer.contains("\"errcode\":0"), "{answer}");
        let target = format!("/cgi-bin/echo?access_token={}&a=1", world.token());
        assert_eq!(world.marked(&mark).unwrap().target, target);
    }
}

fn json_type() -> http::HeaderValue {
    http::HeaderValue::from_static("application/json")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_that_speaks_https_gets_a_placeholder_and_its_calls_the_real_token() {
    let made = Made::new();
    for setting in settings() {
        let world = start(setting, &made).await;
        let mut service = Service::connect(&world, &made).await;
        let query = format!("grant_type=client_credential&appid={APPID}&secret={SECRET}");
        let target = format!("/cgi-bin/token?{query}");
        let token = service.token("GET", &target, "").await;
        let body = json!({"grant_type": "client_credential", "appid": APPID, "secret": SECRET, "force_refresh": true}).to_string();
        let stable = service.token("POST", "/cgi-bin/stable_token", &body).await;
        assert_eq!(stable, token);
        service.assert_served(&world, &token).await;
        // A rejected one is not the library's matter.
        world.fake.revoke(APPID, 40001);
        service.assert_served(&world, &token).await;
        let report = world.fake.report();
        assert_eq!((report.errcode(40001), report.token_calls), (1, 2));
        // A user's token is, and goes on as it came.
        let mark = world.next_mark();
        let target = "/sns/userinfo?access_token=a-users&openid=o";
        service.send("GET", target, &[(MARK, &mark)], "").await;
        assert_eq!(world.marked(&mark).unwrap().target, target);
        // What is not for WeChat goes nowhere.
        let other = [("host", "other.example")];
        assert_eq!(service.send("GET", "/", &other, "").await.0, 421);
        // The secrets of the token calls are not in the access log.
        let log = world.envoy.logs();
        assert!(log.contains("\"GET /cgi-bin/token HTTP/1.1\" 200"), "{log}");
        world.finish_hiding(&["a-users"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_up_without_a_restart() {
    for setting in settings() {
        let made = Made::new();
        let world = start(setting, &made).await;
        let mut service = Service::connect(&world, &made).await;
        service.assert_served(&world, "any").await;
        made.renew();
        let renewed = until_some(SOON, "the new certificate", || async {
            let other = Service::connect(&world, &made).await;
            (other.certificate != service.certificate).then_some(other)
        });
        renewed.await.assert_served(&world, "any").await;
        // Who is connected stays so.
        service.assert_served(&world, "any").await;
        world.finish().await;
    }
}

/// The CA's key in wrong hands: a certificate for this alternative name.
fn forged(made: &Made, name: &str) -> PathBuf {
    let file = |end: &str| made.file(&format!("forged.{end}"));
    let extension = format!("subjectAltName = {name}\nextendedKeyUsage = serverAuth\n");
    std::fs::write(file("ext"), extension).unwrap();
    let request = [
        "req",
        "-new",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=forged",
    ];
    run(Command::new("openssl")
        .args(request)
        .arg("-keyout")
        .arg(file("key"))
        .arg("-out")
        .arg(file("csr")));
    run(Command::new("openssl")
        .args(["x509", "-req", "-days", "1", "-set_serial", "7", "-extfile"])
        .arg(file("ext"))
        .arg("-CA")
        .arg(made.file("ca/ca.pem"))
        .arg("-CAkey")
        .arg(made.file("ca/ca.key"))
        .arg("-in")
        .arg(file("csr"))
        .arg("-out")
        .arg(file("crt")));
    file("crt")
}

#[test]
fn the_ca_can_vouch_for_wechats_name_alone_and_its_key_is_its_owners() {
    let made = Made::new();
    made.assert_vouches(&made.file("envoy/server.pem"), HOST, true);
    made.assert_vouches(&forged(&made, &format!("DNS:{HOST}")), HOST, true);
    for (name, host) in [
        ("DNS:mp.weixin.qq.com", "mp.weixin.qq.com"),
        ("DNS:evil.example", "evil.example"),
        ("DNS:evil.example,DNS:api.weixin.qq.com", HOST),
        ("IP:127.0.0.1", "127.0.0.1"),
        ("IP:::1", "::1"),
    ] {
        made.assert_vouches(&forged(&made, name), host, false);
    }
    for (file, mode) in [
        ("ca", 0o700),
        ("ca/ca.key", 0o600),
        ("envoy", 0o700),
        ("envoy/server.pem", 0o600),
        ("services", 0o755),
        ("services/ca.pem", 0o644),
        ("services/bundle.pem", 0o644),
    ] {
        let found = std::fs::metadata(made.file(file)).unwrap().permissions();
        assert_eq!(found.mode() & 0o777, mode, "{file}");
    }
    // The same CA after a renewal, and nothing is left lying about.
    let ca = made.ca();
    made.renew();
    assert_eq!(made.ca(), ca);
    let names = std::fs::read_dir(made.file("")).unwrap();
    let hidden = |name: &std::ffi::OsString| name.to_string_lossy().starts_with('.');
    let left: Vec<_> = names
        .map(|entry| entry.unwrap().file_name())
        .filter(hidden)
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
