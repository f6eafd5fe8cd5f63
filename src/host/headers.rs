//! A header map as it crosses the border: all pairs in one piece of bytes.
//!
//! Reading the whole map costs one call of the host; each single header would cost another, and entering and leaving
//! the virtual machine is most of what a request pays for this plugin (`docs/design.md`). So a map is fetched once and
//! searched here, without copying. Decoding is total: bytes that are no map hold no headers.
//!
//! Layout: the count, then for each pair the lengths of name and value, then all texts, each with a zero byte behind
//! it; counts and lengths are little-endian, 4 bytes each.

/// Header names, in lower case as Envoy keeps them, with their values, in order.
#[derive(Clone, Debug, Default)]
pub struct HeaderMap(Vec<u8>);

impl HeaderMap {
    /// A map as the host hands it over.
    pub fn from_bytes(bytes: Vec<u8>) -> HeaderMap {
        HeaderMap(bytes)
    }

    /// The map as the host takes it.
    pub fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(N, V)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&length(pairs.len()));
        for (name, value) in pairs {
            bytes.extend_from_slice(&length(name.as_ref().len()));
            bytes.extend_from_slice(&length(value.as_ref().len()));
        }
        for (name, value) in pairs {
            for text in [name.as_ref(), value.as_ref()] {
                bytes.extend_from_slice(text);
                bytes.push(0);
            }
        }
        bytes
    }

    /// The first value of a header.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.pairs().find(|(known, _)| *known == name.as_bytes())?;
        Some(value)
    }

    /// Every header, in order.
    pub fn pairs(&self) -> Pairs<'_> {
        Pairs::new(&self.0).unwrap_or_default()
    }
}

/// See [`HeaderMap::pairs`].
#[derive(Default)]
pub struct Pairs<'a> {
    lengths: &'a [u8],
    texts: &'a [u8],
}

impl<'a> Pairs<'a> {
    fn new(bytes: &'a [u8]) -> Option<Pairs<'a>> {
        let (count, rest) = number(bytes)?;
        let (lengths, texts) = rest.split_at_checked(count.checked_mul(8)?)?;
        Some(Pairs { lengths, texts })
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = number(self.lengths)?;
        let (value, rest) = number(rest)?;
        self.lengths = rest;
        Some((text(&mut self.texts, name)?, text(&mut self.texts, value)?))
    }
}

#[inline]
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*head)).ok()?, rest))
}

/// Takes a text of `length` bytes and the zero behind it.
#[inline]
fn text<'a>(texts: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (text, rest) = texts.split_at_checked(length)?;
    *texts = rest.get(1..)?;
    Some(text)
}

fn length(value: usize) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Pair = (Vec<u8>, Vec<u8>);

    fn pairs(map: &HeaderMap) -> Vec<Pair> {
        map.pairs()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect()
    }

    #[test]
    fn a_header_is_found_by_its_whole_name_and_the_first_value_counts() {
        let map = HeaderMap::from_bytes(HeaderMap::encode(&[
            (":path", "/a"),
            ("x-wechat-appid-2", "no"),
            ("x-wechat-appid", "one"),
            ("x-wechat-appid", "two"),
            ("x-empty", ""),
        ]));
        assert_eq!(map.value(":path"), Some(b"/a".as_slice()));
        assert_eq!(map.value("x-wechat-appid"), Some(b"one".as_slice()));
        assert_eq!(map.value("x-empty"), Some(b"".as_slice()));
        assert_eq!(map.value("x-wechat"), None);
    }

    proptest! {
        #[test]
        fn a_map_comes_back_as_it_was(headers: Vec<Pair>) {
            let map = HeaderMap::from_bytes(HeaderMap::encode(&headers));
            prop_assert_eq!(pairs(&map), headers);
        }

        #[test]
        fn a_map_cut_short_holds_only_whole_headers(headers: Vec<Pair>, cut: prop::sample::Index) {
            let mut bytes = HeaderMap::encode(&headers);
            bytes.truncate(cut.index(bytes.len()));
            let found = pairs(&HeaderMap::from_bytes(bytes));
            prop_assert_eq!(&found[..], &headers[..found.len()]);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = HeaderMap::from_bytes(bytes).pairs().count();
        }
    }
}
