//! The OpenRPC document: the methods, their parameters, answers and errors with JSON Schemas,
//! for people and for programs that make clients of it.

use super::error::{ERRORS, RpcError};
use super::request::{METHODS, Method};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Version of the OpenRPC specification, whose schemas are those of JSON Schema, draft 7.
const OPENRPC: &str = "1.3.2";
/// Where schemas that have names are.
const SCHEMAS: &str = "/components/schemas";

/// An OpenRPC document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Document(Value);

impl Document {
    /// The document of this version of the program.
    pub fn new() -> Self {
        let mut asked = Schemas::new(SchemaSettings::draft07().for_deserialize());
        let mut answered = Schemas::new(SchemaSettings::draft07().for_serialize());
        let methods: Vec<_> =
            METHODS.iter().map(|method| described(method, &mut asked, &mut answered)).collect();
        let mut schemas = asked.named();
        schemas.extend(answered.named());
        let errors: Map<_, _> = ERRORS
            .iter()
            .map(|e| (e.name.into(), json!({"code": e.code, "message": e.meaning})))
            .collect();
        let mut document = json!({
            "openrpc": OPENRPC,
            "info": {
                "title": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
                "description": "JSON-RPC 2.0 over the node's Unix socket (<data_dir>/rpc.sock): \
                    one request, notification or batch per line, one line in answer. Amounts \
                    are in millisatoshi, sizes in bytes.",
                "license": {"name": env!("CARGO_PKG_LICENSE")},
            },
            "methods": methods,
            "components": {"schemas": schemas, "errors": errors},
        });
        as_prose(&mut document);
        Self(document)
    }

    /// As JSON.
    pub fn into_json(self) -> Value {
        self.0
    }
}

impl Default for Document {
    fn default() -> Self {
        Self::new()
    }
}

impl JsonSchema for Document {
    fn schema_name() -> Cow<'static, str> {
        "Document".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// As OpenRPC itself describes the answer of `rpc.discover`.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "$ref": "https://raw.githubusercontent.com/open-rpc/meta-schema/master/schema.json"
        })
    }
}

/// Makes the schemas of one direction.
struct Schemas(SchemaGenerator);

impl Schemas {
    fn new(settings: SchemaSettings) -> Self {
        Self(settings.with(|s| s.definitions_path = SCHEMAS.into()).into_generator())
    }

    /// A schema as draft 7 writes it.
    fn make(&mut self, make: fn(&mut SchemaGenerator) -> Schema) -> Schema {
        let mut schema = make(&mut self.0);
        for transform in self.0.transforms_mut() {
            transform.transform(&mut schema);
        }
        schema
    }

    /// Those that the others name.
    fn named(mut self) -> Map<String, Value> {
        self.0.take_definitions(true)
    }
}

fn described(method: &Method, asked: &mut Schemas, answered: &mut Schemas) -> Value {
    let params = method.params.map(|make| parameters(&asked.make(make))).unwrap_or_default();
    let codes = RpcError::COMMON.iter().chain(method.errors);
    let named = ERRORS.iter().filter(|e| codes.clone().any(|code| *code == e.code));
    let errors: Vec<_> =
        named.map(|e| json!({"$ref": format!("#/components/errors/{}", e.name)})).collect();
    let mut described = json!({
        "name": method.name,
        "summary": method.summary(),
        "paramStructure": "by-name",
        "params": params,
        "result": {"name": "result", "schema": answered.make(method.result)},
        "errors": errors,
    });
    if !method.description().is_empty() {
        described["description"] = method.description().into();
    }
    if !method.aliases.is_empty() {
        described["x-aliases"] = json!(method.aliases);
    }
    described
}

/// The parameters that an object's schema lists: those first that are required.
fn parameters(object: &Schema) -> Vec<Value> {
    let required: Vec<&str> = match object.get("required") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let Some(Value::Object(properties)) = object.get("properties") else { return Vec::new() };
    let optional = properties.keys().map(String::as_str).filter(|name| !required.contains(name));
    let names = required.iter().copied().chain(optional);
    let parameter = |name: &str| {
        let mut schema = properties.get(name)?.clone();
        let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        Some(json!({
            "name": name,
            "description": about.unwrap_or_default(),
            "required": required.contains(&name),
            "schema": schema,
        }))
    };
    names.filter_map(parameter).collect()
}

/// Descriptions come from comments: their lines become paragraphs, their links names.
fn as_prose(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| match value {
            Value::String(text) if key == "description" => {
                *text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
            }
            value => as_prose(value),
        }),
        Value::Array(items) => items.iter_mut().for_each(as_prose),
        _ => {}
    }
}

#[cfg(test)]
pub(crate) mod tests;
