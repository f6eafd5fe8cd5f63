//! JSON as a tree: of the configuration, and of WeChat's answers.
//!
//! It stands in for `serde_json::Value`, whose maps and numbers would be the largest part of the .wasm. Numbers are
//! doubles. Both of two equal keys stay, so that the configuration can refuse them.

use std::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;

/// One JSON value. It has no `Debug`: it may hold a secret.
pub(crate) enum Node {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the document, equal keys included.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// The text of a field, where there is one; for looking at an object that could not be read.
    pub(crate) fn text_of(&self, field: &str) -> Option<&str> {
        let Node::Object(entries) = self else {
            return None;
        };
        entries.iter().find_map(|(key, value)| match value {
            Node::Text(text) if key == field => Some(text.as_str()),
            _ => None,
        })
    }

    /// A field of an object; of equal keys the last one.
    pub(crate) fn get(&self, field: &str) -> Option<&Node> {
        let Node::Object(entries) = self else {
            return None;
        };
        let (_, value) = entries.iter().rev().find(|(key, _)| key == field)?;
        Some(value)
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self, Node::List(_))
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Node::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_field_is_that_of_this_field() {
        let node: Node =
            serde_json::from_str(r#"{"name":"shop","appid":"wx1","secret":{}}"#).unwrap();
        assert_eq!(node.text_of("appid"), Some("wx1"));
        assert_eq!((node.text_of("secret"), node.text_of("kind")), (None, None));
    }
}
