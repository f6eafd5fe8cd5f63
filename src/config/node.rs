//! The way from the document as a tree to a type, by serde. It exists for the error messages: each one names
//! the whole path of its field, none repeats a value that may be a secret, and a key that is given twice is seen.
//!
//! `serde_json`'s own errors name a line instead of a field and repeat wrong values.
//! Numbers are doubles, because Envoy hands a `google.protobuf.Struct` over, which knows no others.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::{forward_to_deserialize_any, Deserialize};

use super::ConfigError;
use crate::json::Node;

impl Node {
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Node::Null => Unexpected::Unit,
            Node::Bool(value) => Unexpected::Bool(*value),
            Node::Number(value) => Unexpected::Float(*value),
            Node::Text(_) => Unexpected::Str(""),
            Node::List(_) => Unexpected::Seq,
            Node::Object(_) => Unexpected::Map,
        }
    }

    #[cold]
    #[inline(never)]
    fn is_not(&self, allowed: &dyn Expected) -> ConfigError {
        de::Error::invalid_type(self.unexpected(), allowed)
    }
}

/// A part of the document that is read on its own, later: an app, so that a bad one can be left out, and a secret, so
/// that what is wrong with it can be told without repeating it.
pub(crate) struct Later<T> {
    node: Node,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Later<T> {
    /// Reads it; paths in the error begin at this part.
    pub(crate) fn read(&self) -> Result<T, ConfigError> {
        self.read_as()
    }

    /// Reads it as another type, where what stands there may be one of two.
    pub(crate) fn read_as<U: DeserializeOwned>(&self) -> Result<U, ConfigError> {
        U::deserialize(&self.node)
    }

    /// Reads a list of `T`, or one `T` alone as a list of one.
    pub(crate) fn read_list(&self) -> Result<Vec<T>, ConfigError> {
        match &self.node {
            Node::List(_) => Vec::deserialize(&self.node),
            one => Ok(vec![T::deserialize(one)?]),
        }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }
}

impl<'de, T> Deserialize<'de> for Later<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Later<T>, D::Error> {
        let node = Node::deserialize(deserializer)?;
        Ok(Later {
            node,
            of: PhantomData,
        })
    }
}

/// Null is never taken for "absent": in YAML it is a key whose value was forgotten.
///
/// Each method takes the one kind of value that is asked for. That is strict (serde would also read a struct from a
/// list of its fields), and it keeps what the other kinds would need out of the .wasm.
impl<'de> Deserializer<'de> for &'de Node {
    type Error = ConfigError;

    /// For a `Node`, which takes everything.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Number(value) => visitor.visit_f64(*value),
            Node::Text(value) => visitor.visit_borrowed_str(value),
            Node::List(_) => self.deserialize_seq(visitor),
            Node::Object(entries) => visitor.visit_map(Entries::of(entries)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_some(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Node::Bool(value) => visitor.visit_bool(*value),
            other => Err(other.is_not(&"true or false")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Node::Number(value) => visitor.visit_f64(*value),
            other => Err(other.is_not(&visitor)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Node::Text(text) => visitor.visit_str(text),
            other => Err(other.is_not(&visitor)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Node::List(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
            }),
            other => Err(other.is_not(&"a list")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        match self {
            Node::Object(entries) => visitor.visit_map(Entries::of(entries)),
            other => Err(other.is_not(&ListOf("an object of ", fields))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        match self {
            Node::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            other => Err(other.is_not(&ListOf("", variants))),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 char string bytes byte_buf unit unit_struct
        newtype_struct tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = ConfigError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ConfigError> {
        let Some((index, item)) = self.items.next() else {
            return Ok(None);
        };
        let value = seed
            .deserialize(item)
            .map_err(|error| error.in_item(index))?;
        Ok(Some(value))
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, (String, Node)>,
    current: Option<&'de (String, Node)>,
}

impl<'de> Entries<'de> {
    fn of(entries: &'de [(String, Node)]) -> Entries<'de> {
        Entries {
            entries: entries.iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = ConfigError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ConfigError> {
        self.current = self.entries.next();
        self.current
            .map(|(key, _)| seed.deserialize(key.as_str().into_deserializer()))
            .transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, ConfigError> {
        let Some((key, value)) = self.current else {
            return Err(de::Error::custom("has a value without a key"));
        };
        seed.deserialize(value).map_err(|error| error.in_field(key))
    }
}

impl de::Error for ConfigError {
    fn custom<T: fmt::Display>(problem: T) -> ConfigError {
        ConfigError::new("", problem.to_string())
    }

    /// Names the kind of what was found, never the value: it may be a secret in the wrong place.
    fn invalid_type(found: Unexpected<'_>, allowed: &dyn Expected) -> ConfigError {
        let kind = match found {
            Unexpected::Unit | Unexpected::Option => "null",
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
            Unexpected::Str(_) | Unexpected::Char(_) | Unexpected::Bytes(_) => "a text",
            Unexpected::Seq => "a list",
            _ => "an object",
        };
        ConfigError::new("", format!("is {kind}; allowed: {allowed}"))
    }

    fn unknown_variant(variant: &str, allowed: &'static [&'static str]) -> ConfigError {
        let problem = format!(
            "{} is not known; allowed: {}",
            quoted(variant),
            ListOf("", allowed)
        );
        ConfigError::new("", problem)
    }

    fn unknown_field(field: &str, allowed: &'static [&'static str]) -> ConfigError {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let field = match field {
            name if (1..=64).contains(&name.len()) && name.chars().all(plain) => name.to_owned(),
            name => quoted(name),
        };
        ConfigError::new(
            &field,
            format!("is not known; allowed: {}", ListOf("", allowed)),
        )
    }

    fn missing_field(field: &'static str) -> ConfigError {
        ConfigError::new(field, "is missing".to_owned())
    }

    fn duplicate_field(field: &'static str) -> ConfigError {
        ConfigError::new(field, "is given twice; allowed: once".to_owned())
    }
}

/// A value for a message: in quotes, on one line, shortened to 64 characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for (index, c) in text.chars().enumerate() {
        if index == 64 {
            quoted.push('…');
            break;
        }
        if c.is_control() || c == '"' || c == '\\' || c == '\u{2028}' || c == '\u{2029}' {
            quoted.extend(c.escape_default());
        } else {
            quoted.push(c);
        }
    }
    quoted.push('"');
    quoted
}

/// Words with commas between, after a beginning.
struct ListOf(&'static str, &'static [&'static str]);

impl fmt::Display for ListOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        for (index, word) in self.1.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(word)?;
        }
        Ok(())
    }
}

impl Expected for ListOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_value_stays_on_its_line_and_within_its_quotes() {
        for (text, expected) in [
            ("plain \u{4e2d}", "\"plain \u{4e2d}\"".to_owned()),
            ("a\"b", r#""a\"b""#.to_owned()),
            ("a\\b", r#""a\\b""#.to_owned()),
            ("a\nb\u{7f}", r#""a\nb\u{7f}""#.to_owned()),
            ("\u{2028}\u{2029}", r#""\u{2028}\u{2029}""#.to_owned()),
            (&"x".repeat(64), format!("\"{}\"", "x".repeat(64))),
            (&"x".repeat(65), format!("\"{}…\"", "x".repeat(64))),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
