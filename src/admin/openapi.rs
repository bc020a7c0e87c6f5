//! The API as an OpenAPI 3.1 document, made from the table of functions.
//!
//! The paths are the functions' names. `postern api FUNCTION -` takes the body on standard input; whoever puts HTTP
//! before it (a panel's page) has one path for each function, always POST, always the envelope as the answer.

use super::arguments::{Kind, MOST_INPUT};
use super::table::{Argument, FUNCTIONS, Function, GENERATION};
use crate::error::CODES;
use serde_json::{Map, Value, json};

/// Largest whole number that every reader of JSON keeps (RFC 8259, section 6).
const LARGEST_NUMBER: i64 = (1 << 53) - 1;

/// The document.
pub fn document() -> Value {
    let paths: Map<String, Value> =
        FUNCTIONS.iter().map(|f| (format!("/{}", f.name), json!({ "post": operation(f) }))).collect();
    let mut tags: Vec<&str> = FUNCTIONS.iter().map(tag).collect();
    tags.sort_unstable();
    tags.dedup();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Postern",
            "summary": "Guards the mail logins and the outgoing mail of this server",
            "description": format!("Each path is a function: `postern api FUNCTION -` reads the body from standard input and writes the answer to standard output, exit status 0 for status 1, else 1. A body has at most {MOST_INPUT} bytes, each key once, and no key that is not described."),
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "Wherever a panel serves it" }],
        "tags": tags.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "paths": paths,
        "components": { "schemas": schemas() },
    })
}

fn tag(function: &Function) -> &'static str {
    function.words.first().copied().unwrap_or("postern")
}

fn operation(function: &Function) -> Value {
    json!({
        "operationId": function.name,
        "summary": function.about,
        "tags": [tag(function)],
        "x-postern-command": format!("postern {}", function.words.join(" ")),
        "x-postern-changes": function.changes,
        "x-postern-scope": function.scope.word(),
        "requestBody": {
            "required": function.arguments.iter().any(|a| a.required),
            "content": { "application/json": { "schema": body(function) } },
        },
        "responses": {
            "200": {
                "description": "What came of it; see status",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Answer" } } },
            },
        },
    })
}

fn body(function: &Function) -> Value {
    let mut properties: Map<String, Value> =
        function.arguments.iter().map(|a| (a.name.to_string(), property(a))).collect();
    if function.changes {
        let mut generation = schema(GENERATION);
        generation["description"] = json!("refuse if somebody changed anything since this generation");
        properties.insert("generation".into(), generation);
    }
    let required: Vec<&str> = function.arguments.iter().filter(|a| a.required).map(|a| a.name).collect();
    let mut body = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        body["required"] = json!(required);
    }
    body
}

fn property(argument: &Argument) -> Value {
    let mut schema = schema(argument.kind);
    schema["description"] = json!(argument.meaning);
    schema
}

fn schema(kind: Kind) -> Value {
    let item = json!({ "type": "string", "pattern": "^[^,]*$" });
    match kind {
        Kind::Number(low, high) => {
            let mut schema = json!({ "type": "integer", "minimum": low });
            if high <= LARGEST_NUMBER {
                schema["maximum"] = json!(high);
            }
            schema
        }
        Kind::Switch => json!({ "type": "boolean" }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::Countries | Kind::Files => json!({ "type": ["string", "array"], "items": item }),
        Kind::Entries => json!({ "type": ["string", "array"], "items": { "type": ["string", "object"] } }),
        Kind::Text => json!({ "type": ["string", "number", "boolean", "array"], "items": item }),
        Kind::Note => json!({ "type": "string", "maxLength": kind.longest(), "pattern": "^[^<>]*$" }),
        _ => json!({ "type": "string", "maxLength": kind.longest() }),
    }
}

fn schemas() -> Value {
    let sentences = json!({ "type": ["array", "null"], "items": { "type": "string" } });
    let codes: Vec<&str> = CODES.iter().map(|(code, _)| *code).collect();
    let meanings: Vec<String> = CODES.iter().map(|(code, meaning)| format!("{code}: {meaning}")).collect();
    let envelope = |status: i32, errors: Value, metadata: Value| {
        json!({
            "type": "object",
            "required": ["status", "data", "errors", "warnings", "messages", "metadata"],
            "properties": {
                "status": { "const": status },
                "data": { "description": "as the function gives it" },
                "errors": errors,
                "warnings": sentences,
                "messages": sentences,
                "metadata": metadata,
            },
        })
    };
    json!({
        "Answer": {
            "oneOf": [{ "$ref": "#/components/schemas/Done" }, { "$ref": "#/components/schemas/NotDone" }],
        },
        "Done": envelope(1, json!({ "type": "null" }), json!({ "type": "object" })),
        "NotDone": envelope(
            0,
            json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 }),
            json!({
                "type": "object",
                "required": ["code"],
                "properties": { "code": { "$ref": "#/components/schemas/Code" } },
            }),
        ),
        "Code": { "type": "string", "enum": codes, "description": meanings.join("; ") },
    })
}
