//! The configuration table of the README, from the schema: a row for each field, with its path, type, default, bounds
//! and meaning.

use serde_json::Value;

/// The whole table as Markdown.
pub(crate) fn markdown(schema: &Value) -> String {
    let mut table =
        String::from("| field | type | default | bounds | meaning |\n|---|---|---|---|---|\n");
    for row in rows(schema, schema, "") {
        table.push_str(&format!(
            "| {} |\n",
            row.map(|cell| cell.replace('|', "\\|")).join(" | ")
        ));
    }
    table
}

/// The columns of a table that no translation changes: the field, and the default where it is a value.
pub(crate) fn fields_and_defaults(table: &str) -> Vec<(&str, &str)> {
    table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let mut cells = line.split('|').skip(1).map(str::trim);
            let field = cells.next().unwrap_or_default();
            let default = cells.nth(1).unwrap_or_default();
            (
                field,
                if default.starts_with('`') {
                    default
                } else {
                    ""
                },
            )
        })
        .collect()
}

/// Follows a `$ref`.
pub(crate) fn resolved<'a>(schema: &'a Value, field: &'a Value) -> &'a Value {
    let place = field["$ref"].as_str().map(|r| r.trim_start_matches('#'));
    place
        .and_then(|place| schema.pointer(place))
        .unwrap_or(field)
}

/// The rows of an object's fields; `prefix` is the path to the object, with its dot.
fn rows(schema: &Value, object: &Value, prefix: &str) -> Vec<[String; 5]> {
    let required = object["required"].as_array();
    let mut rows = Vec::new();
    for (name, field) in object["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let required = required.is_some_and(|names| names.contains(&Value::from(name.as_str())));
        let meaning = words(field, "description");
        // What overrides a part of the document has the fields of that part.
        let inner = (!meaning.starts_with("Overrides"))
            .then(|| inner_object(schema, field))
            .flatten();
        rows.push([
            format!("`{path}`"),
            kind(schema, field),
            default(field, required),
            bounds(schema, field),
            meaning,
        ]);
        if let Some((step, inner)) = inner {
            rows.extend(self::rows(schema, inner, &format!("{path}{step}.")));
        }
    }
    rows
}

/// The object that a field holds or lists, with the step from the field to it.
fn inner_object<'a>(schema: &'a Value, field: &'a Value) -> Option<(&'static str, &'a Value)> {
    let items = &field["items"];
    let one_of_two = ("", &field["anyOf"][0]);
    let other_of_two = ("[]", &items["anyOf"][1]);
    [("", field), ("[]", items), one_of_two, other_of_two]
        .into_iter()
        .map(|(step, inner)| (step, resolved(schema, inner)))
        .find(|(_, inner)| inner["properties"].is_object())
}

fn kind(schema: &Value, field: &Value) -> String {
    let field = resolved(schema, field);
    if let Some(variants) = field["oneOf"].as_array() {
        let variants: Vec<_> = variants
            .iter()
            .map(|v| format!("`{}`", words(v, "const")))
            .collect();
        return variants.join(" or ");
    }
    if let [one, other] = field["anyOf"].as_array().map_or(&[][..], Vec::as_slice) {
        let one = kind(schema, one);
        return match words(resolved(schema, other), "type").as_str() {
            "array" => format!("{one} or a list of them"),
            other => format!("{one} or {other}"),
        };
    }
    match words(field, "type").as_str() {
        "string" if is_duration(field) => "duration".to_owned(),
        "string" => "text".to_owned(),
        "array" => format!(
            "list of {}s",
            kind(schema, &field["items"]).replace(" or ", "s or ")
        ),
        other => other.to_owned(),
    }
}

fn default(field: &Value, required: bool) -> String {
    match &field["default"] {
        Value::Null if required => "required".to_owned(),
        Value::Null => String::new(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn bounds(schema: &Value, field: &Value) -> String {
    let own = words(field, "title").replace("duration, ", "");
    let item = resolved(schema, &field["items"]);
    match words(item, "title").as_str() {
        "" => own,
        item => format!("{own}, each {item}"),
    }
}

fn is_duration(field: &Value) -> bool {
    words(field, "title").starts_with("duration, ")
}

fn words(field: &Value, key: &str) -> String {
    field[key].as_str().unwrap_or_default().to_owned()
}
