//! The page for people, as a text: what it needs, and what it has words for.

use base64::prelude::{Engine, BASE64_STANDARD as STANDARD};
use sha2::{Digest, Sha256};

use super::super::{HTML, HTML_HEADERS};
use crate::wechat::errcode::{self, OnToken};

#[test]
fn the_browser_is_told_to_run_the_page_s_own_script_and_style_only() {
    let policy = HTML_HEADERS
        .iter()
        .find(|header| header.0 == "content-security-policy");
    for tag in ["style", "script"] {
        let (_, rest) = HTML.split_once(&format!("<{tag}>")).unwrap();
        let (inner, rest) = rest.split_once(&format!("</{tag}>")).unwrap();
        let hash = STANDARD.encode(Sha256::digest(inner));
        let source = format!("{tag}-src 'sha256-{hash}';");
        assert!(
            policy.is_some_and(|(_, policy)| policy.contains(&source)),
            "{source}"
        );
        assert!(!rest.contains(&format!("<{tag}")), "a second {tag}");
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_explains_each_errcode_in_chinese() {
    let outside = ["http:", "https:", "//", "src=", "@import", "url("];
    for text in outside {
        assert!(!HTML.contains(text), "{text}");
    }
    for code in -100..100_000 {
        let Some(entry) = errcode::lookup(code) else {
            continue;
        };
        let is_refusal = entry.on_token != OnToken::Transient || code == -1;
        let is_explained =
            HTML.contains(&format!(" {code}: '")) || HTML.contains(&format!("'{code}': '"));
        assert_eq!(is_explained, is_refusal, "{code}");
    }
}
