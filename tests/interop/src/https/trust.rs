//! By what each language and program trusts a CA: the settings of `envoy/transparent-https/README.md`.

use std::path::Path;

/// A variable of the environment.
pub(super) type Variable = (&'static str, String);

/// What a machine may have set of what is to be tested here, and proxies, which lead round the namespace.
pub(super) const UNSET: [&str; 13] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "JAVA_TOOL_OPTIONS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "NODE_OPTIONS",
];
/// A variable's value, for the folder of the services' files.
type Value = fn(&Path) -> String;

/// The libraries, and by what each trusts the CA: the name of a variable, and its value.
pub(super) const LIBRARIES: [(&str, &str, Value); 4] = [
    ("wxjava-redis", "JAVA_TOOL_OPTIONS", java),
    ("silenceper", "SSL_CERT_FILE", bundle),
    ("wechatpy", "REQUESTS_CA_BUNDLE", bundle),
    ("easywechat", "NODE_EXTRA_CA_CERTS", ca),
];

/// The settings of what is no library: program, arguments, variable.
pub(super) const OTHERS: [(&str, &[&str], &str); 3] = [
    ("curl", &["-sS", URL], "CURL_CA_BUNDLE"),
    ("curl", &["-sS", URL], "SSL_CERT_FILE"),
    (
        "python3",
        &[
            "-c",
            "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())",
            URL,
        ],
        "SSL_CERT_FILE",
    ),
];
pub(super) const PHP: [(&str, &str); 2] = [
    ("openssl.cafile", "echo file_get_contents($argv[1]);"),
    (
        "curl.cainfo",
        "$c = curl_init($argv[1]); if (!curl_exec($c)) exit(1);",
    ),
];
pub(super) const URL: &str = "https://api.weixin.qq.com/cgi-bin/echo";

pub(super) fn bundle(folder: &Path) -> String {
    folder.join("bundle.pem").display().to_string()
}

fn ca(folder: &Path) -> String {
    folder.join("ca.pem").display().to_string()
}

fn java(folder: &Path) -> String {
    let store = folder.join("truststore.p12");
    format!(
        "-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword=changeit",
        store.display()
    )
}
