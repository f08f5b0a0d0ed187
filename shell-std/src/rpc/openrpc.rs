//! The OpenRPC document: the methods, their parameters, answers and errors with JSON Schemas,
//! for people and for programs that make clients of it.

use super::connection::EVENT;
use super::error::{ERRORS, RpcError};
use super::request::{METHODS, Method};
use super::types::MeshEvent;
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
        let notifications = [notification(&mut answered)];
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
                    one request, notification or batch per line, one line in answer. What clients \
                    subscribe to comes as notifications between answers (x-notifications). Amounts \
                    are in millisatoshi, sizes in bytes.",
                "license": {"name": env!("CARGO_PKG_LICENSE")},
            },
            "methods": methods,
            "x-notifications": notifications,
            "components": {"schemas": schemas, "errors": errors},
        });
        as_prose(&mut document);
        Self(document)
    }

    /// What it says of a method.
    pub fn method(&self, method: &Method) -> &Value {
        let methods = self.0["methods"].as_array().into_iter().flatten();
        methods.into_iter().find(|m| m["name"] == method.name).unwrap_or(&Value::Null)
    }

    /// Each kind of event, what it means, and its fields.
    pub fn events(&self) -> Vec<(String, String, Vec<String>)> {
        let kinds = self.0["components"]["schemas"]["Happened"]["oneOf"].as_array();
        let kind = |schema: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let fields = schema["required"].as_array().into_iter().flatten().map(text);
            let fields = fields.filter(|name| name != "type").collect();
            (text(&schema["properties"]["type"]["const"]), text(&schema["description"]), fields)
        };
        kinds.into_iter().flatten().map(kind).collect()
    }

    /// What it says of a method's parameters, for people.
    pub fn parameters(&self, method: &Method) -> Vec<Parameter> {
        let params = self.method(method)["params"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let parameter = |param: &Value| Parameter {
            name: text(&param["name"]),
            required: param["required"] == true,
            kind: self.kind(&param["schema"]),
            default: match &param["schema"]["default"] {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                value => Some(value.to_string()),
            },
            about: text(&param["description"]),
        };
        params.map(parameter).collect()
    }

    /// A schema in a word or two.
    fn kind(&self, schema: &Value) -> String {
        let schema = match schema["$ref"].as_str().and_then(|to| to.strip_prefix('#')) {
            Some(to) => self.0.pointer(to).unwrap_or(schema),
            None => schema,
        };
        let names = |values: &[Value]| {
            let names = values.iter().filter_map(Value::as_str);
            names.collect::<Vec<_>>().join(", ")
        };
        if let Some(Value::String(one)) = schema.get("const") {
            return one.clone();
        }
        if let Some(Value::Array(values)) = schema.get("enum") {
            return names(values);
        }
        // A parameter that may be left out may be null, which need not be said.
        let parts = ["oneOf", "anyOf", "allOf"].into_iter().filter_map(|key| schema.get(key));
        if let Some(Value::Array(parts)) = parts.into_iter().next() {
            let parts = parts.iter().filter(|part| part["type"] != "null");
            let separator = if schema.get("oneOf").is_some() { ", " } else { " or " };
            return parts.map(|part| self.kind(part)).collect::<Vec<_>>().join(separator);
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().find_map(Value::as_str),
            kind => kind.as_str(),
        };
        match kind {
            Some("string") if schema.get("pattern").is_some() => "hex".into(),
            Some("string") if schema.get("contentEncoding").is_some() => "base64".into(),
            Some("string") => "text".into(),
            Some("object") => match &schema["required"] {
                Value::Array(fields) => format!("{{{}}}", names(fields)),
                _ => "object".into(),
            },
            Some(kind) => kind.into(),
            None => String::new(),
        }
    }
}

/// A parameter of a method, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Whether it must be given.
    pub required: bool,
    /// What it is, in a word or two.
    pub kind: String,
    /// What counts where it is left out.
    pub default: Option<String>,
    /// What it means.
    pub about: String,
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

/// What the node says by itself. OpenRPC has no place for it but one of its own.
fn notification(answered: &mut Schemas) -> Value {
    json!({
        "name": EVENT,
        "summary": "Tells what has happened, to who has subscribed (meshsubscribe).",
        "paramStructure": "by-name",
        "params": parameters(&answered.make(MeshEvent::json_schema)),
    })
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
