//! What each text of the document must look like. Every rule also stands as a regular expression for the JSON Schema;
//! `tests/schema.rs` compares the two.

use super::fields::Rule;

/// An appid, as WeChat hands it out: it goes into URLs, shared-data keys and metric names.
pub(crate) struct Appid;

impl Rule for Appid {
    const ALLOWED: &'static str = "1 to 64 letters, digits, '_' or '-'";
    #[cfg(feature = "schema")]
    const PATTERN: &'static str = "^[A-Za-z0-9_-]{1,64}$";

    fn fault(text: &str) -> Option<&'static str> {
        (!is_word(text)).then_some("is not an appid")
    }
}

/// What metrics and logs call an app.
pub(crate) struct Name;

impl Rule for Name {
    const ALLOWED: &'static str = "1 to 64 letters, digits, '_' or '-'";
    #[cfg(feature = "schema")]
    const PATTERN: &'static str = "^[A-Za-z0-9_-]{1,64}$";

    fn fault(text: &str) -> Option<&'static str> {
        (!is_word(text)).then_some("does not fit into a metric name")
    }
}

/// An environment variable. Hidden, because an AppSecret is easily put there by mistake.
pub(crate) struct EnvName;

impl Rule for EnvName {
    const ALLOWED: &'static str =
        "the name of an environment variable, 1 to 128 letters, digits or '_', not a digit first";
    #[cfg(feature = "schema")]
    const PATTERN: &'static str = "^(?![0-9a-f]{32}$)[A-Za-z_][A-Za-z0-9_]{0,127}$";
    const HIDDEN: bool = true;

    fn fault(text: &str) -> Option<&'static str> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !plain || text.len() > 128 || text.starts_with(|c: char| c.is_ascii_digit()) {
            return Some("is not the name of a variable");
        }
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 32 && text.bytes().all(hex)).then_some("looks like an AppSecret")
    }
}

/// An AppSecret. WeChat's have 32 characters; a line feed at the end is the usual accident.
pub(crate) struct AppSecret;

impl Rule for AppSecret {
    const ALLOWED: &'static str = "1 to 256 visible ASCII characters without a space or line end";
    #[cfg(feature = "schema")]
    const PATTERN: &'static str = "^[!-~]{1,256}$";
    const HIDDEN: bool = true;

    fn fault(text: &str) -> Option<&'static str> {
        (!is_visible(text) || text.len() > 256).then_some("is not an AppSecret")
    }
}

/// A user or password of Redis.
pub(crate) struct RedisWord;

impl Rule for RedisWord {
    const ALLOWED: &'static str = "1 to 512 visible ASCII characters without a space or line end";
    #[cfg(feature = "schema")]
    const PATTERN: &'static str = "^[!-~]{1,512}$";
    const HIDDEN: bool = true;

    fn fault(text: &str) -> Option<&'static str> {
        (!is_visible(text) || text.len() > 512).then_some("does not fit")
    }
}

/// A cluster of Envoy; Istio's names hold `|`.
pub(crate) struct Cluster;

impl Rule for Cluster {
    const ALLOWED: &'static str = "1 to 256 visible ASCII characters without a space";
    #[cfg(feature = "schema")]
    const PATTERN: &'static str = "^[!-~]{1,256}$";

    fn fault(text: &str) -> Option<&'static str> {
        (!is_visible(text) || text.len() > 256).then_some("is not the name of a cluster")
    }
}

/// The `:authority` of token calls.
pub(crate) struct Authority;

impl Rule for Authority {
    const ALLOWED: &'static str = "a host name such as api.weixin.qq.com, with :port if need be";
    #[cfg(feature = "schema")]
    const PATTERN: &'static str = r"^([A-Za-z0-9_-]{1,63}([.][A-Za-z0-9_-]{1,63})*|\[[0-9A-Fa-f:.]{2,45}\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?$";

    fn fault(text: &str) -> Option<&'static str> {
        host_fault(text)
    }
}

/// A `Host` value that is ours, or `*`.
pub(crate) struct Host;

impl Rule for Host {
    const ALLOWED: &'static str =
        "a host name such as api.weixin.qq.com, with :port if need be, or \"*\" alone";
    #[cfg(feature = "schema")]
    const PATTERN: &'static str = r"^([*]|([A-Za-z0-9_-]{1,63}([.][A-Za-z0-9_-]{1,63})*|\[[0-9A-Fa-f:.]{2,45}\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?)$";

    fn fault(text: &str) -> Option<&'static str> {
        match text {
            "*" => None,
            _ => host_fault(text),
        }
    }
}

/// A path that is left alone. `*` is refused, because whoever writes it expects more than an exact match.
pub(crate) struct ExactPath;

impl Rule for ExactPath {
    const ALLOWED: &'static str =
        "an exact path of at most 1024 visible ASCII characters that begins with '/' and holds no '?', '#' or '*'";
    #[cfg(feature = "schema")]
    const PATTERN: &'static str = r#"^/[!"$-)+->@-~]{0,1023}$"#;

    fn fault(text: &str) -> Option<&'static str> {
        if !text.starts_with('/') {
            return Some("does not begin with '/'");
        }
        if !is_visible(text) {
            return Some("has a space or a character outside ASCII");
        }
        if text.len() > 1024 {
            return Some("is too long");
        }
        [
            ('?', "has a query"),
            ('#', "has a fragment"),
            ('*', "has a '*'"),
        ]
        .into_iter()
        .find_map(|(c, fault)| text.contains(c).then_some(fault))
    }
}

/// What our own keys in Redis begin with. Braces would be another hash tag than ours.
pub(crate) struct KeyPrefix;

impl Rule for KeyPrefix {
    const ALLOWED: &'static str = "1 to 128 visible ASCII characters without '{' and '}'";
    #[cfg(feature = "schema")]
    const PATTERN: &'static str = "^[!-z|~]{1,128}$";

    fn fault(text: &str) -> Option<&'static str> {
        if text.contains(['{', '}']) {
            return Some("has a brace");
        }
        (!is_visible(text) || text.len() > 128).then_some("is not the beginning of a key")
    }
}

/// A key of Redis that neighbours read.
pub(crate) struct MirrorKey;

impl Rule for MirrorKey {
    const ALLOWED: &'static str =
        "a key of 1 to 256 visible ASCII characters without a space, with {appid} where the app's own stands";
    #[cfg(feature = "schema")]
    const PATTERN: &'static str = "^[!-~]{1,256}$";

    fn fault(text: &str) -> Option<&'static str> {
        (!is_visible(text) || text.len() > 256).then_some("is not a key")
    }
}

fn host_fault(text: &str) -> Option<&'static str> {
    if text.as_bytes().windows(3).any(|part| part == b"://") {
        return Some("has a scheme");
    }
    if text.contains(['/', '?', '#']) {
        return Some("has a path");
    }
    if text.contains('*') {
        return Some("has a '*'");
    }
    if !is_visible(text) {
        return Some("has a space or a character outside ASCII");
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| !is_port(port)) {
        return Some("has no port from 1 to 65535 after its ':'");
    }
    (!is_name(host) && !is_address(host)).then_some("is not a host name")
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit())
        && !text.starts_with('0')
        && text.parse::<u16>().is_ok()
}

/// A DNS name or an IPv4 address, without a dot at either end.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// An IPv6 address in brackets; its digits are not counted, as a wrong one matches no request.
fn is_address(text: &str) -> bool {
    text.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inner| {
            (2..=45).contains(&inner.len())
                && inner
                    .bytes()
                    .all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.')
        })
}

fn is_word(text: &str) -> bool {
    text.len() <= 64
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<R: Rule>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(R::fault(text), None, "{text:?}");
        }
        for text in bad {
            assert!(R::fault(text).is_some(), "{text:?}");
        }
    }

    #[test]
    fn each_text_is_good_up_to_its_bounds() {
        let x = |count| "x".repeat(count);
        check::<Appid>(&["wx0_-A", &x(64)], &["a.b", "a b", &x(65)]);
        check::<Name>(&["shop", &x(64)], &["a.b", "\u{e9}", &x(65)]);
        let hex = "abcdef0123456789";
        let secret = hex.repeat(2);
        check::<EnvName>(
            &["WECHAT_SECRET", "_1", &x(128), &x(32), hex, "abc"],
            &["1A", "A-B", "A B", &x(129), &secret],
        );
        check::<AppSecret>(&["!~", &x(256)], &["a b", "a\n", "\u{e9}", &x(257)]);
        check::<RedisWord>(&["!~", &x(512)], &["a b", "a\n", "\u{e9}", &x(513)]);
        check::<KeyPrefix>(
            &["wechat-token:", "|~z", &x(128)],
            &["a{", "}a", "a b", "\u{e9}", &x(129)],
        );
        check::<MirrorKey>(
            &["wechat:access_token:{appid}", &x(256)],
            &["a b", "\u{e9}", &x(257)],
        );
        check::<Cluster>(&["a|b", &x(256)], &["a b", "\u{e9}", &x(257)]);
        check::<ExactPath>(
            &["/", &format!("/{}", x(1023))],
            &[
                "",
                "a",
                "/a b",
                "/a?b",
                "/a#b",
                "/a*",
                &format!("/{}", x(1024)),
            ],
        );
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_may_have_a_port() {
        let label = "x".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "x".repeat(61));
        let good = [
            "a", "A_b-c.d", "1.2.3.4", "a:1", "a:65535", "[::1]", "[::1]:80", &label, &longest,
        ];
        let address = format!("[{}]", "1".repeat(46));
        let longer = format!("{longest}x");
        let bad = [
            "",
            ".a",
            "a.",
            "a..b",
            "http://a",
            "a/b",
            "a?b",
            "a#b",
            "a*",
            "a b",
            "a:",
            "a:0",
            "a:01",
            "a:65536",
            "a:100000",
            "a:x",
            "[:]",
            "[::1",
            "::1]",
            "[::g]",
            &address,
            &format!("{label}x"),
            &longer,
        ];
        check::<Authority>(&good, &bad);
        check::<Authority>(&[&format!("[{}]", "1".repeat(45))], &["*"]);
        check::<Host>(&good, &bad);
        check::<Host>(&["*"], &["*.a"]);
    }
}
