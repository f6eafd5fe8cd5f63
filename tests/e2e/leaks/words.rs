//! What must not be seen, in the forms that it could have taken on the way, and the search for it.

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use base64::Engine as _;

/// So many characters of a token or secret, from its beginning or its end, are enough: a tag or a log line may be cut short.
const ENOUGH: usize = 16;

/// A word that must not be seen: in whose words to name it, and what to look for.
struct Word {
    name: String,
    forms: Vec<String>,
}

/// All of them.
pub(crate) struct Words(Vec<Word>);

impl Words {
    pub(crate) fn of<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> Self {
        let words = words.into_iter().map(|word| {
            let name = word.as_ref().to_owned();
            let forms = forms(&name);
            Word { name, forms }
        });
        Self(words.collect())
    }

    /// The first of them that stands in a text, with the line in which it does.
    pub(crate) fn first_in(&self, text: &str) -> Option<String> {
        self.0.iter().find_map(|word| {
            let at = word.forms.iter().find_map(|form| text.find(form))?;
            let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
            let line = text[start..].lines().next().unwrap_or_default();
            Some(format!("{}: {line:.600}", word.name))
        })
    }

    /// How many of a text's lines hold one.
    pub(crate) fn lines_in(&self, text: &str) -> usize {
        let holds = |line: &&str| self.first_in(line).is_some();
        text.lines().filter(holds).count()
    }
}

/// As it is, percent-encoded in both cases of the digits, in base64 wherever it may begin in what was encoded, and in
/// hexadecimal digits.
fn forms(word: &str) -> Vec<String> {
    let parts = [
        &word[..word.len().min(ENOUGH)],
        &word[word.len().saturating_sub(ENOUGH)..],
    ];
    let mut forms = Vec::new();
    for part in parts {
        forms.push(part.to_owned());
        for upper in [true, false] {
            forms.push(percent(part, upper));
        }
        forms.push(part.bytes().map(|byte| format!("{byte:02x}")).collect());
        for offset in 0..3 {
            forms.push(base64(part, offset, &STANDARD_NO_PAD));
            forms.push(base64(part, offset, &URL_SAFE_NO_PAD));
        }
    }
    forms.sort();
    forms.dedup();
    forms
}

fn percent(part: &str, upper: bool) -> String {
    let byte = |byte: u8| match (byte.is_ascii_alphanumeric(), upper) {
        (true, _) => char::from(byte).to_string(),
        (false, true) => format!("%{byte:02X}"),
        (false, false) => format!("%{byte:02x}"),
    };
    part.bytes().map(byte).collect()
}

/// The part of the encoded text that does not depend on what stands before or behind.
fn base64(part: &str, offset: usize, engine: &impl base64::Engine) -> String {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(part.as_bytes());
    let encoded = engine.encode(&bytes);
    let from = [0, 2, 3][offset];
    let to = encoded.len() - usize::from(!bytes.len().is_multiple_of(3));
    encoded[from..to].to_owned()
}

#[test]
fn a_word_is_found_in_every_form() {
    let token = "88_aBc-defghijklmnopqrstuvwxyz~0123456789?ABCDEFGH";
    let words = Words::of([token]);
    let encoded = |before: &str| STANDARD_NO_PAD.encode(format!("{before}{token}&a=1"));
    let lower = percent(token, false);
    for text in [
        format!("GET /cgi-bin/echo?access_token={token} 200"),
        format!("cut short: {}", &token[..20]),
        format!("cut off: {}", &token[20..]),
        format!("access_token%3D{}", percent(token, true)),
        format!("access_token%3d{lower}"),
        encoded(""),
        encoded("1"),
        encoded("22"),
        encoded("333"),
        URL_SAFE_NO_PAD.encode(format!("a{token}")),
    ] {
        let text = format!("before\n{text}\nbehind");
        assert!(words.first_in(&text).is_some(), "{text}");
        assert_eq!(words.lines_in(&text), 1, "{text}");
    }
    for text in ["", "88_aBc", "access_token=", "access_token=[redacted]"] {
        assert_eq!(words.first_in(text), None, "{text}");
    }
}
