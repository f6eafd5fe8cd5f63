//! A TLS server with a certificate of a private CA in front of the fake WeChat; it remembers who came.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::server::{Acceptor, ServerConfig};
use tokio_rustls::LazyConfigAcceptor;

/// A certificate authority of the test's own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct TlsServer {
    /// Where it listens.
    pub address: SocketAddr,
    met: Arc<Mutex<Met>>,
    accepting: JoinHandle<()>,
}

/// Who came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// The name that each connection asked for (SNI), also where it then went away.
    pub names: Vec<Option<String>>,
    /// The protocol (ALPN) of each connection that took the certificate.
    pub protocols: Vec<Option<String>>,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // The same for each, so that only the signature tells them apart; and not the one that rcgen gives to all.
        let name = "A CA of the tests";
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// What whoever trusts it needs.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A new certificate for a host, and its key.
    pub fn certify(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    fn server_config(&self, name: &str) -> ServerConfig {
        let (certificate, key) = self.certify(name);
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let mut config = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

impl TlsServer {
    /// Passes on to `to` what comes to it as the host `name`.
    pub async fn start(authority: &Authority, name: &str, to: SocketAddr) -> Self {
        let config = Arc::new(authority.server_config(name));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let met = Arc::new(Mutex::new(Met::default()));
        let meets = Arc::clone(&met);
        let accepting = tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(serve(caller, Arc::clone(&config), to, Arc::clone(&meets)));
            }
        });
        Self {
            address,
            met,
            accepting,
        }
    }

    /// Who came so far.
    pub fn met(&self) -> Met {
        self.met.lock().unwrap().clone()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Authority")
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(caller: TcpStream, config: Arc<ServerConfig>, to: SocketAddr, met: Arc<Mutex<Met>>) {
    let Ok(hello) = LazyConfigAcceptor::new(Acceptor::default(), caller).await else {
        return;
    };
    let name = hello.client_hello().server_name().map(str::to_owned);
    met.lock().unwrap().names.push(name);
    // Who does not like the certificate goes away here.
    let Ok(mut caller) = hello.into_stream(config).await else {
        return;
    };
    let protocol = caller.get_ref().1.alpn_protocol();
    let protocol = protocol.map(|name| String::from_utf8_lossy(name).into_owned());
    met.lock().unwrap().protocols.push(protocol);
    if let Ok(mut server) = TcpStream::connect(to).await {
        // A connection that breaks is its two ends' matter.
        let _ = copy_bidirectional(&mut caller, &mut server).await;
    }
}
