use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const OURS: &str = "77_OwnToken-abcDEF0123456789";

fn injected(path: &[u8], token: &str) -> Vec<u8> {
    let mut out = b"left over".to_vec();
    inject(&scan(path), token, &mut out);
    out
}

/// Pairs of decoded name and raw parameter.
type Params = Vec<(Vec<u8>, Vec<u8>)>;

/// Another way to read a path: split, decode, compare. Path, query and fragment.
fn model(path: &[u8]) -> (Vec<u8>, Option<Params>, Vec<u8>) {
    let (rest, fragment) = match path.iter().position(|&b| b == b'#') {
        Some(at) => (&path[..at], path[at..].to_vec()),
        None => (path, Vec::new()),
    };
    let Some(at) = rest.iter().position(|&b| b == b'?') else {
        return (rest.to_vec(), None, fragment);
    };
    let params = rest[at + 1..]
        .split(|&b| b == b'&')
        .map(|raw| {
            let name = raw.split(|&b| b == b'=').next().unwrap();
            (form_decode(name), raw.to_vec())
        })
        .collect();
    (rest[..at].to_vec(), Some(params), fragment)
}

fn form_decode(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        let hex = raw
            .get(at + 1..at + 3)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
        match (raw[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    out
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// Paths made of the pieces that matter, glued in any order, and wholly random ones.
fn any_path() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "access_token", "access%5Ftoken", "%61ccess_token", "from_appid", "from%5fappid", "secret",
            "component_access_token", "Access_Token", "a", "b=1", "/cgi-bin/x", "+", "%", "%4", "%41", "caller",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        4 => prop::sample::select(vec!["?", "&", "=", "&", "=", "#", "&&"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop_oneof![
        6 => prop::collection::vec(piece.clone(), 0..16)
            .prop_map(|pieces| [b"/p?".to_vec(), pieces.concat()].concat()),
        2 => prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat()),
        1 => prop::collection::vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn injecting_again_leaves_the_newest_token_alone(path in any_path(), one in "[A-Za-z0-9_&%-]{1,20}") {
        let first = injected(&path, &one);
        prop_assert_eq!(injected(&first, OURS), injected(&path, OURS));
        prop_assert_eq!(injected(&first, &one), first);
    }

    #[test]
    fn everything_but_token_and_appid_is_preserved_in_order(path in any_path()) {
        let (base, params, fragment) = model(&path);
        let (new_base, new_params, new_fragment) = model(&injected(&path, OURS));
        prop_assert_eq!(base, new_base);
        prop_assert_eq!(fragment, new_fragment);
        let new_params = new_params.unwrap();
        let tokens: Vec<_> = new_params.iter().filter(|(name, _)| name == b"access_token").collect();
        prop_assert_eq!(tokens.len(), 1);
        prop_assert_eq!(&tokens[0].1, &format!("access_token={OURS}").into_bytes());
        // What must stay, with the first token's place marked.
        let mut seen = HashSet::new();
        let mut expected: Vec<Vec<u8>> = params
            .unwrap_or_default()
            .into_iter()
            .filter(|(name, _)| name != b"from_appid" && (name != b"access_token" || seen.insert(())))
            .map(|(name, raw)| if name == b"access_token" { tokens[0].1.clone() } else { raw })
            .collect();
        if seen.is_empty() {
            // An empty last parameter is the place where the token goes.
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            expected.push(tokens[0].1.clone());
        }
        let found: Vec<Vec<u8>> = new_params.into_iter().map(|(_, raw)| raw).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_scan_agrees_with_form_parsing(path in any_path()) {
        let params = model(&path).1.unwrap_or_default();
        let values = |wanted: &[u8]| -> Vec<Vec<u8>> {
            params
                .iter()
                .filter(|(name, _)| name == wanted)
                .map(|(_, raw)| {
                    let at = raw.iter().position(|&b| b == b'=').map_or(raw.len(), |at| at + 1);
                    form_decode(&raw[at..])
                })
                .collect()
        };
        let scan = scan(&path);
        let tokens = values(b"access_token");
        let expected: Vec<_> = tokens.iter().filter(|value| !value.is_empty()).cloned().collect();
        let found: Vec<_> = scan.token_values().map(Cow::into_owned).collect();
        prop_assert_eq!(&found, &expected);
        let carried = match (tokens.is_empty(), expected.is_empty()) {
            (true, _) => CallerTokens::None,
            (false, true) => CallerTokens::Empty,
            (false, false) => CallerTokens::Values,
        };
        prop_assert_eq!(scan.caller_tokens(), carried);
        prop_assert_eq!(scan.has_foreign_token(), !values(b"component_access_token").is_empty());
        let appids: HashSet<_> = values(b"from_appid").into_iter().collect();
        match scan.from_appid() {
            NamedApp::Absent => prop_assert!(appids.is_empty()),
            NamedApp::One(appid) => prop_assert_eq!(appids, HashSet::from([appid.to_vec()])),
            NamedApp::Conflict => prop_assert!(appids.len() > 1),
        }
    }

    #[test]
    fn no_token_of_ours_is_left_in_a_redacted_path(path in any_path()) {
        let with_token = injected(&path, OURS);
        let mut shown = Vec::new();
        redact(&scan(&with_token), &mut shown);
        prop_assert!(!contains(&shown, OURS.as_bytes()));
        let again = scan(&shown);
        prop_assert!(!again.carries_secret());
        let (_, params, _) = model(&with_token);
        prop_assert_eq!(model(&shown).1.unwrap().len(), params.unwrap().len());
    }

    #[test]
    fn a_stripped_path_names_no_app_and_keeps_the_rest(path in any_path()) {
        let mut out = Vec::new();
        strip(&scan(&path), &mut out);
        let again = scan(&out);
        prop_assert_eq!(again.from_appid(), &NamedApp::Absent);
        prop_assert_eq!(injected(&out, OURS), injected(&path, OURS));
    }
}
