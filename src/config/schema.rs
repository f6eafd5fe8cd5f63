//! The JSON Schema of the document, from the types that parse it. Only under the feature `schema`, for the test that
//! writes and compares `envoy/config.schema.json`; never in the .wasm.
//!
//! It cannot say everything: bounds of durations (they stand in `title`), rules between fields, duplicates.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::{transform_subschemas, Transform};
use schemars::{json_schema, JsonSchema, Schema, SchemaGenerator};
use serde_json::{json, Value};

use super::fields::{span_bounds, span_text, Count, Rule, Several, Span, Text};
use super::raw::RawConfig;
use super::rules;

/// The schema, JSON Schema draft 2020-12.
pub fn json_schema() -> Value {
    SchemaSettings::draft2020_12()
        .with_transform(Plain)
        .into_generator()
        .into_root_schema_for::<RawConfig>()
        .to_value()
}

/// A pattern of the schema by the name of its rule, and the rule itself: for the test that compares the two.
pub type RuleCheck = (&'static str, &'static str, fn(&str) -> bool);

/// Every rule for a text.
pub fn rules() -> Vec<RuleCheck> {
    fn rule<R: Rule>(name: &'static str) -> RuleCheck {
        (name, R::PATTERN, |text| {
            super::fields::check_text::<R>(text).is_ok()
        })
    }
    vec![
        rule::<rules::Appid>("appid"),
        rule::<rules::Name>("name"),
        rule::<rules::EnvName>("env"),
        rule::<rules::AppSecret>("secret"),
        rule::<rules::RedisWord>("redis word"),
        rule::<rules::Cluster>("cluster"),
        rule::<rules::Authority>("authority"),
        rule::<rules::Host>("host"),
        rule::<rules::ExactPath>("path"),
        rule::<rules::KeyPrefix>("key_prefix"),
        rule::<rules::MirrorKey>("mirror"),
    ]
}

/// Takes out what schemars adds for an `Option`, as the parser refuses null, and the line ends of doc comments.
#[derive(Clone)]
struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        if let Some(Value::String(text)) = object.get_mut("description") {
            *text = text.replace('\n', " ");
        }
        if let Some(Value::Array(kinds)) = object.get_mut("type") {
            kinds.retain(|kind| kind != "null");
            if let [kind] = kinds.as_slice() {
                let kind = kind.clone();
                object.insert("type".to_owned(), kind);
            }
        }
        if object.get("default") == Some(&Value::Null) {
            object.remove("default");
        }
        let Some(Value::Array(branches)) = object.get_mut("anyOf") else {
            return;
        };
        branches.retain(|branch| branch != &json!({"type": "null"}));
        if let [Value::Object(only)] = branches.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
    }
}

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> JsonSchema for Span<MIN, MAX, DEFAULT> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Span_{MIN}_{MAX}_{DEFAULT}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "title": format!("duration, {}", span_bounds(MIN, MAX)),
            "pattern": "^[0-9]+(ms|s|m|h)$",
            "default": span_text(DEFAULT),
        })
    }
}

impl<const MIN: u32, const MAX: u32, const DEFAULT: u32> JsonSchema for Count<MIN, MAX, DEFAULT> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Count_{MIN}_{MAX}_{DEFAULT}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer",
            "title": format!("{MIN} to {MAX}"),
            "minimum": MIN,
            "maximum": MAX,
            "default": DEFAULT,
        })
    }
}

impl<T: JsonSchema, const MIN: usize, const MAX: usize> JsonSchema for Several<T, MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Several_{}_{MIN}_{MAX}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "title": format!("{MIN} to {MAX} items"),
            "items": generator.subschema_for::<T>(),
            "minItems": MIN,
            "maxItems": MAX,
        })
    }
}

impl<R: Rule> JsonSchema for Text<R> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Text {}", R::PATTERN).into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "title": R::ALLOWED, "pattern": R::PATTERN})
    }
}

/// One `T`, or a list of up to `MAX`.
pub(super) struct OneOrList<T, const MAX: usize>(std::marker::PhantomData<T>);

impl<T: JsonSchema, const MAX: usize> JsonSchema for OneOrList<T, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrList_{}_{MAX}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        let list = generator.subschema_for::<Several<T, 1, MAX>>();
        json_schema!({"title": format!("one, or a list of 1 to {MAX}"), "anyOf": [one, list]})
    }
}

/// The text of `key` alone, or an object with that field.
pub(super) struct TextOr<R, T>(std::marker::PhantomData<(R, T)>);

impl<R: Rule, T: JsonSchema> JsonSchema for TextOr<R, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("TextOr_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = generator.subschema_for::<Text<R>>();
        let object = generator.subschema_for::<T>();
        json_schema!({"title": "a key, or an object", "anyOf": [text, object]})
    }
}
