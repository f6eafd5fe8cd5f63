use super::*;

fn injected(path: &str, token: &str) -> String {
    let mut out = Vec::new();
    inject(&scan(path.as_bytes()), token, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_token_takes_the_place_of_the_callers_and_all_else_is_kept() {
    for (path, expected) in [("/a", "/a?access_token=T"), ("/a?", "/a?access_token=T")] {
        assert_eq!(injected(path, "T"), expected, "{path}");
    }
}
