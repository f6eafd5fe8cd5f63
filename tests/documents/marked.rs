//! Parts of a page that are made by a program: they stand between two markers.

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
