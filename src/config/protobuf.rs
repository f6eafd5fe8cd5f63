//! A serialized `google.protobuf.Struct` as a tree: what a plugin gets from Envoy when its configuration is written in
//! native YAML under that type.
//!
//! No protobuf crate, because this one message costs less than any of them. The decoder is total, bounded in depth, and
//! strict: what a serializer of a `Struct` never writes (an unknown field, a field twice, a value without a kind, a number
//! that JSON does not know) is a [`Fault`]. Entries stay in the order of the wire and equal keys stay too, so that the
//! configuration refuses them as it does in JSON.

use std::fmt;

use crate::json::Node;

/// Why bytes are no `Struct`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A length reaches beyond the end.
    CutShort,
    /// A field that the message does not have, or has once only.
    UnknownField,
    /// A length, tag, boolean or null that is none.
    WrongNumber,
    /// Infinite or not a number.
    NotFinite,
    /// A text that is not UTF-8.
    NotUtf8,
    /// A value of no kind.
    NoValue,
    /// Nested deeper than [`MOST_LEVELS`].
    TooDeep,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::CutShort => "it is cut short",
            Fault::UnknownField => "it has a field that is unknown or there twice",
            Fault::WrongNumber => "it has a length or a boolean that is none",
            Fault::NotFinite => "it has a number that is not finite",
            Fault::NotUtf8 => "it has a text that is not UTF-8",
            Fault::NoValue => "it has a field without a value",
            Fault::TooDeep => "it is nested too deeply",
        })
    }
}

/// Whether `document` is a serialized `Struct` and not JSON.
///
/// A `Struct` that is not empty begins with the tag of its first entry, which as text is a line feed, and JSON may begin
/// with one. But every entry with a value has the byte 0x12 (tag of the value), and JSON has no control characters besides
/// white space, in texts neither. So each JSON document is read as JSON, and each `Struct` as a `Struct`.
pub(super) fn is_struct(document: &[u8]) -> bool {
    let is_control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    document.first() == Some(&ENTRY) && document.iter().any(is_control)
}

/// Reads a serialized `Struct`.
pub(super) fn read(document: &[u8]) -> Result<Node, Fault> {
    object(document, MOST_LEVELS)
}

fn object(bytes: &[u8], levels: usize) -> Result<Node, Fault> {
    let mut message = Message(bytes);
    let mut entries = Vec::new();
    while let Some(tag) = message.tag()? {
        match tag {
            ENTRY => entries.push(entry(message.part()?, levels)?),
            _ => return Err(Fault::UnknownField),
        }
    }
    Ok(Node::Object(entries))
}

/// Serializers may leave an empty key out.
fn entry(bytes: &[u8], levels: usize) -> Result<(String, Node), Fault> {
    let mut message = Message(bytes);
    let (mut key, mut node) = (None, None);
    while let Some(tag) = message.tag()? {
        match tag {
            KEY if key.is_none() => key = Some(message.text()?),
            VALUE if node.is_none() => node = Some(value(message.part()?, levels)?),
            _ => return Err(Fault::UnknownField),
        }
    }
    Ok((key.unwrap_or_default(), node.ok_or(Fault::NoValue)?))
}

fn list(bytes: &[u8], levels: usize) -> Result<Node, Fault> {
    let mut message = Message(bytes);
    let mut items = Vec::new();
    while let Some(tag) = message.tag()? {
        match tag {
            ITEM => items.push(value(message.part()?, levels)?),
            _ => return Err(Fault::UnknownField),
        }
    }
    Ok(Node::List(items))
}

fn value(bytes: &[u8], levels: usize) -> Result<Node, Fault> {
    let levels = levels.checked_sub(1).ok_or(Fault::TooDeep)?;
    let mut message = Message(bytes);
    let node = match message.tag()?.ok_or(Fault::NoValue)? {
        NULL => match message.varint()? {
            0 => Node::Null,
            _ => return Err(Fault::WrongNumber),
        },
        NUMBER => Node::Number(message.double()?),
        TEXT => Node::Text(message.text()?),
        BOOL => match message.varint()? {
            0 => Node::Bool(false),
            1 => Node::Bool(true),
            _ => return Err(Fault::WrongNumber),
        },
        OBJECT => object(message.part()?, levels)?,
        LIST => list(message.part()?, levels)?,
        _ => return Err(Fault::UnknownField),
    };
    match message.tag()? {
        None => Ok(node),
        Some(_) => Err(Fault::UnknownField),
    }
}

/// What is left of a message.
struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    /// The tag of the next field: its number and wire type. All that a `Struct` has are single bytes.
    fn tag(&mut self) -> Result<Option<u8>, Fault> {
        let Some((tag, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        self.0 = rest;
        Ok(Some(*tag))
    }

    fn varint(&mut self) -> Result<usize, Fault> {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let (byte, rest) = self.0.split_first().ok_or(Fault::CutShort)?;
            self.0 = rest;
            number |= usize::from(byte & 0x7F) << shift;
            if *byte < 0x80 {
                return Ok(number);
            }
        }
        // 28 bits are far above the longest document.
        Err(Fault::WrongNumber)
    }

    fn double(&mut self) -> Result<f64, Fault> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Fault::CutShort)?;
        self.0 = rest;
        let number = f64::from_le_bytes(*bytes);
        match number.is_finite() {
            true => Ok(number),
            false => Err(Fault::NotFinite),
        }
    }

    fn part(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.varint()?;
        let (part, rest) = self.0.split_at_checked(length).ok_or(Fault::CutShort)?;
        self.0 = rest;
        Ok(part)
    }

    fn text(&mut self) -> Result<String, Fault> {
        let text = std::str::from_utf8(self.part()?).map_err(|_| Fault::NotUtf8)?;
        Ok(text.to_owned())
    }
}

/// Envoy's own reader stops earlier: it allows 100 messages in each other, and a level has two or three.
const MOST_LEVELS: usize = 64;

// Tags: number of the field * 8 + wire type (0 varint, 1 eight bytes, 2 with a length before).
const ENTRY: u8 = 0x0A;
const ITEM: u8 = 0x0A;
const KEY: u8 = 0x0A;
const VALUE: u8 = 0x12;
const NULL: u8 = 0x08;
const NUMBER: u8 = 0x11;
const TEXT: u8 = 0x1A;
const BOOL: u8 = 0x20;
const OBJECT: u8 = 0x2A;
const LIST: u8 = 0x32;

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"a": VALUE}`, where `value` is a serialized `Value`.
    fn document(value: &[u8]) -> Vec<u8> {
        let mut entry = vec![KEY, 1, b'a', VALUE, value.len() as u8];
        entry.extend_from_slice(value);
        part(ENTRY, &entry)
    }

    fn part(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let mut part = vec![tag];
        let mut length = bytes.len();
        while length >= 0x80 {
            part.push(length as u8 | 0x80);
            length >>= 7;
        }
        part.push(length as u8);
        part.extend_from_slice(bytes);
        part
    }

    fn fault(document: &[u8]) -> Option<Fault> {
        read(document).err()
    }

    #[test]
    fn each_kind_of_value_is_read() {
        for (value, is_right) in [
            (
                vec![NULL, 0],
                (|node| matches!(node, Node::Null)) as fn(&Node) -> bool,
            ),
            (vec![BOOL, 1], |node| matches!(node, Node::Bool(true))),
            (vec![BOOL, 0], |node| matches!(node, Node::Bool(false))),
            (
                [&[NUMBER][..], &1.5_f64.to_le_bytes()].concat(),
                |node| matches!(node, Node::Number(number) if *number == 1.5),
            ),
            (
                vec![TEXT, 2, b'h', b'i'],
                |node| matches!(node, Node::Text(text) if text == "hi"),
            ),
            (
                vec![OBJECT, 0],
                |node| matches!(node, Node::Object(entries) if entries.is_empty()),
            ),
            (
                vec![LIST, 4, ITEM, 2, NULL, 0],
                |node| matches!(node, Node::List(items) if items.len() == 1),
            ),
        ] {
            let Ok(Node::Object(entries)) = read(&document(&value)) else {
                panic!("{value:?} is not read");
            };
            assert!(
                entries.len() == 1 && entries[0].0 == "a" && is_right(&entries[0].1),
                "{value:?}"
            );
        }
    }

    #[test]
    fn what_is_no_struct_is_a_fault() {
        let twice = [TEXT, 1, b'x', TEXT, 1, b'y'];
        for (bytes, expected) in [
            (vec![ENTRY], Fault::CutShort),
            (vec![ENTRY, 5, KEY, 1], Fault::CutShort),
            (vec![ENTRY, 0x80], Fault::CutShort),
            (
                vec![ENTRY, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
                Fault::WrongNumber,
            ),
            (vec![ENTRY, 0], Fault::NoValue),
            (vec![0x12, 0], Fault::UnknownField),
            (vec![ENTRY, 2, 0x1A, 0], Fault::UnknownField),
            (
                vec![ENTRY, 6, KEY, 1, b'a', KEY, 1, b'b'],
                Fault::UnknownField,
            ),
            (
                vec![ENTRY, 8, VALUE, 2, BOOL, 1, VALUE, 2, BOOL, 1],
                Fault::UnknownField,
            ),
            (vec![ENTRY, 4, KEY, 2, 0xC3, 0x28], Fault::NotUtf8),
            (document(&[]), Fault::NoValue),
            (document(&twice), Fault::UnknownField),
            (document(&[0x38, 1]), Fault::UnknownField),
            (document(&[BOOL, 2]), Fault::WrongNumber),
            (document(&[NULL, 1]), Fault::WrongNumber),
            (document(&[NUMBER, 0, 0]), Fault::CutShort),
            (
                document(&[&[NUMBER][..], &f64::NAN.to_le_bytes()].concat()),
                Fault::NotFinite,
            ),
        ] {
            assert_eq!(fault(&bytes), Some(expected), "{bytes:?}");
        }
        let mut tail = document(&[BOOL, 1]);
        assert_eq!(fault(&tail), None);
        tail.push(0);
        assert_eq!(fault(&tail), Some(Fault::UnknownField), "bytes behind it");
    }

    #[test]
    fn nesting_ends_at_its_bound() {
        let nested = |levels: usize| {
            let inner = (1..levels).fold(vec![NULL, 0], |value, _| part(LIST, &part(ITEM, &value)));
            part(ENTRY, &part(VALUE, &inner))
        };
        assert_eq!(fault(&nested(MOST_LEVELS)), None);
        assert_eq!(fault(&nested(MOST_LEVELS + 1)), Some(Fault::TooDeep));
        assert_eq!(fault(&nested(1_000)), Some(Fault::TooDeep));
    }

    #[test]
    fn equal_keys_stay() {
        let both = [document(&[BOOL, 0]), document(&[BOOL, 1])].concat();
        let Ok(Node::Object(entries)) = read(&both) else {
            panic!("is read");
        };
        let values: Vec<_> = entries
            .iter()
            .map(|(key, node)| (key.as_str(), matches!(node, Node::Bool(true))))
            .collect();
        assert_eq!(values, [("a", false), ("a", true)]);
    }

    #[test]
    fn json_is_never_taken_for_a_struct() {
        for text in [
            "{}",
            "\n{}",
            "\n\n{\"a\": 1}",
            "\r\n\t {\"a\": \"\\u0012\"}",
            "\n{\n\"12345678901234567890123456789012\": \"\u{7f}é\"}",
            "\n",
        ] {
            assert!(!is_struct(text.as_bytes()), "{text:?}");
        }
        // 123 bytes of entry: the second byte is a brace.
        let long = part(TEXT, &[b'x'; 116]);
        let long = document(&long);
        assert_eq!(long[..3], *b"\n{\n");
        assert!(is_struct(&long) && read(&long).is_ok());
    }
}
