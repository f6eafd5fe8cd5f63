//! The schemas that a control plane's installation gives to Kubernetes (its CustomResourceDefinitions), and what they say of the
//! shipped manifests. As strict as `kubectl apply` is: a field that a schema does not know is an error.
//!
//! What this leaves out: the rules in CEL (`x-kubernetes-validations`), which only Kubernetes itself runs, and its own kinds.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use jsonschema::Validator;
use serde_json::{json, Value};

/// Kinds of Kubernetes itself; their schemas come with it.
const OF_KUBERNETES: [&str; 5] = ["ConfigMap", "Deployment", "Namespace", "Secret", "Service"];

/// Schemas by `apiVersion` and kind.
pub(crate) struct Schemas(BTreeMap<(String, String), Validator>);

impl Schemas {
    /// Reads every CustomResourceDefinition in the YAML files of a folder and those below it.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let mut schemas = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string());
            for entry in entries? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "yaml") {
                    let text = std::fs::read_to_string(&path)?;
                    for document in documents(&text)? {
                        add(&mut schemas, &document).with_context(|| path.display().to_string())?;
                    }
                }
            }
        }
        ensure!(
            !schemas.is_empty(),
            "no CustomResourceDefinition below {}",
            folder.display()
        );
        Ok(Self(schemas))
    }

    /// Holds manifests to them; the number of those that were looked at.
    pub(crate) fn check(&self, manifests: &str) -> Result<usize> {
        let mut checked = 0;
        for document in documents(manifests)? {
            let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
            let (version, kind) = (text("apiVersion"), text("kind"));
            let name = document["metadata"]["name"].as_str().unwrap_or_default();
            let Some(schema) = self.0.get(&(version.clone(), kind.clone())) else {
                if OF_KUBERNETES.contains(&kind.as_str()) {
                    continue;
                }
                bail!("{kind} {name}: no schema for {version}");
            };
            let errors: Vec<_> = schema
                .iter_errors(&document)
                .map(|error| format!("{}: {error}", error.instance_path))
                .collect();
            ensure!(errors.is_empty(), "{kind} {name}: {}", errors.join("; "));
            checked += 1;
        }
        Ok(checked)
    }
}

/// The documents of a YAML stream.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>> {
    use serde::Deserialize as _;
    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let document = Value::deserialize(document)?;
        if !document.is_null() {
            documents.push(document);
        }
    }
    Ok(documents)
}

fn add(schemas: &mut BTreeMap<(String, String), Validator>, document: &Value) -> Result<()> {
    if document["kind"] != "CustomResourceDefinition" {
        return Ok(());
    }
    let spec = &document["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
    for version in spec["versions"].as_array().into_iter().flatten() {
        let name = text(&version["name"]);
        let mut schema = version["schema"]["openAPIV3Schema"].clone();
        close(&mut schema);
        let validator = jsonschema::validator_for(&schema)
            .map_err(|error| anyhow::anyhow!("{kind} {name}: {error}"))?;
        schemas.insert((format!("{group}/{name}"), kind.clone()), validator);
    }
    Ok(())
}

/// Forbids fields that are not named, in every object whose fields are. What stands in `allOf` and its like names some of them only.
fn close(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    let is_open = schema.contains_key("additionalProperties")
        || schema.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    if schema.contains_key("properties") && !is_open {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(close);
    }
    for below in ["items", "additionalProperties"] {
        if let Some(below) = schema.get_mut(below) {
            close(below);
        }
    }
}
