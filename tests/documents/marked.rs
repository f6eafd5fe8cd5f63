//! Parts of a page that are made by a program: they stand between two markers.

use std::fs;
use std::path::Path;

/// Holds a part of README.md to what was made for it, or writes that into it; `update` is the command that does.
pub(crate) fn keep_in_readme(part: &str, made: &str, is_updating: bool, update: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).expect("README.md");
    let (before, there, after) =
        find(&readme, part).unwrap_or_else(|| panic!("README.md has no markers of {part}"));
    if is_updating {
        fs::write(&path, format!("{before}\n{made}{after}")).expect("README.md can be written");
        return;
    }
    assert!(
        there.trim() == made.trim(),
        "README.md is out of date: {update}"
    );
}

/// A page before, between and after the markers of a part, which belong to what is before and after.
pub(crate) fn find<'a>(page: &'a str, part: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let (begin, end) = (
        format!("<!-- {part}:begin -->"),
        format!("<!-- {part}:end -->"),
    );
    let begin = page.find(&begin)? + begin.len();
    let end = begin + page.get(begin..)?.find(&end)?;
    Some((&page[..begin], &page[begin..end], &page[end..]))
}
