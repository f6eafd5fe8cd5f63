//! Whatever bytes arrive, the parser answers.

use proptest::prelude::*;
use wechat_token::config::{Config, Role};

use super::env;
use super::good_documents;
use super::structs::encoded;

/// A good document in either form, damaged.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let documents: Vec<_> = good_documents::documents()
        .into_iter()
        .flat_map(|(_, document)| [document.to_string().into_bytes(), encoded(&document)])
        .collect();
    let edit = (any::<prop::sample::Index>(), 0..4u8, any::<u8>());
    (
        prop::sample::select(documents),
        prop::collection::vec(edit, 1..8),
    )
        .prop_map(|(mut document, edits)| {
            for (place, kind, byte) in edits {
                if document.is_empty() {
                    break;
                }
                let place = place.index(document.len());
                match kind {
                    0 => document[place] = byte,
                    1 => document.insert(place, byte),
                    2 => drop(document.remove(place)),
                    _ => document.truncate(place),
                }
            }
            document
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_document_never_panics(document in mutated()) {
        for role in [Role::Refresher, Role::Injector] {
            if let Err(error) = Config::parse(&document, &env, role) {
                prop_assert!(!error.problem.is_empty());
                prop_assert!(!error.to_string().contains(char::is_control), "{error}");
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(document in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Config::parse(&document, &env, Role::Injector).is_err());
    }

    #[test]
    fn any_bytes_behind_a_line_feed_never_panic(mut document in prop::collection::vec(any::<u8>(), 0..200)) {
        document.insert(0, b'\n');
        prop_assert!(Config::parse(&document, &env, Role::Injector).is_err());
    }
}
