//! What the bodies of calls are to look like, for the API's description.
//!
//! Invariant: a schema here takes no more than the call's reader does. The readers are written by hand, for they name
//! every fault by its pointer; a test sends both what a schema allows and what it does not.

use schemars::{Schema, json_schema};
use serde_json::{Map, Value, json};

use super::author::MAX_REASON;
use crate::model::{name::Name, role::Role, weights::Weights};

/// `PUT /v1/splits/{split}/weights`.
pub(super) fn weights() -> Schema {
    // A pool may be called like a member: its weight is a number, and a member is a text.
    let or_weight = |member: Value| json!({ "anyOf": [member, weight()] });
    json_schema!({
        "type": "object",
        "description": "Pools of the split with their weights; one that is not named gets 0.",
        "properties": { "pins": or_weight(pins()), "reason": or_weight(reason()) },
        "propertyNames": name(),
        "additionalProperties": weight(),
        "minProperties": 1,
        "examples": [{ "blue": 90, "green": 10 }],
    })
}

/// `PATCH /v1/splits/{split}`.
pub(super) fn split_patch() -> Schema {
    let weights = json!({
        "type": "object",
        "description": "Those that are to be different; null is 0.",
        "propertyNames": name(),
        "additionalProperties": or_null(weight()),
    });
    object(&[], [("weights", weights), ("pins", pins())])
}

/// `POST /v1/splits/{split}/switch`.
pub(super) fn switch() -> Schema {
    object(&["to"], [("to", name()), ("pins", pins())])
}

/// `POST /v1/splits/{split}/rollback`.
pub(super) fn rollback() -> Schema {
    object(&[], [("revision", json!({ "type": "integer", "minimum": 0 })), ("pins", pins())])
}

/// A call that drains.
pub(super) fn drain() -> Schema {
    let time = json!({
        "type": "string",
        "description": "A duration such as 30s or 10m, of a week at most, or off for none.",
        "pattern": "^(off|( *[0-9]+ *[a-z]+)+)$",
    });
    let pins = json!({ "enum": ["keep", "move"] });
    object(&[], [("deadline", time.clone()), ("stream_deadline", time), ("pins", pins)])
}

/// `POST /v1/tokens`.
pub(super) fn token() -> Schema {
    json_schema!({
        "type": "object",
        "required": ["role"],
        "properties": {
            "name": name(),
            "role": { "enum": Role::ALL.map(Role::name) },
            "expires": {
                "type": "string",
                "description": "How long it counts: a duration such as 90d, of ten years at most.",
                "pattern": "^( *[0-9]+ *[a-z]+)+$",
            },
        },
        "additionalProperties": false,
        "examples": [{ "name": "ci", "role": "operator", "expires": "90d" }],
    })
}

/// `PUT /v1/pools/{pool}/endpoints/{address}`.
pub(super) fn endpoint() -> Schema {
    object(&[], [("weight", weight())])
}

/// `PATCH /v1/pools/{pool}/endpoints/{address}`.
pub(super) fn endpoint_patch() -> Schema {
    object(&[], [("weight", or_null(weight()))])
}

/// A call that takes a whole file.
pub(super) fn file() -> Schema {
    json_schema!({ "type": "string", "description": "A configuration file, as docs/configuration.md says." })
}

/// A call that needs no more than its path.
pub(super) fn reason_alone() -> Schema {
    object(&[], [])
}

/// `POST /v1/upgrade`.
pub(super) fn upgrade() -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "binary": { "type": "string", "description": "The absolute path of the successor's program." },
            "timeout": { "type": "string", "description": "How long it has to serve, such as 60s." },
        },
        "additionalProperties": false,
    })
}

/// `POST /v1/explain`.
pub(super) fn explain() -> Schema {
    let text = json!({ "type": "string" });
    let values = json!({ "anyOf": [text, { "type": "array", "items": text }] });
    json_schema!({
        "type": "object",
        "properties": {
            "method": { "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" },
            "scheme": { "enum": ["http", "https"] },
            "host": text,
            "path": text,
            "headers": { "type": "object", "additionalProperties": values },
            "client": { "type": "string", "description": "An IP address." },
        },
        "additionalProperties": false,
    })
}

fn object<const N: usize>(required: &[&str], members: [(&str, Value); N]) -> Schema {
    let mut properties: Map<String, Value> =
        members.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    properties.insert("reason".into(), reason());
    let mut schema =
        json_schema!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    schema
}

fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn weight() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": Weights::MAX })
}

fn name() -> Value {
    json!({ "type": "string", "pattern": Name::PATTERN })
}

fn pins() -> Value {
    json!({ "enum": ["keep", "release"], "description": "What becomes of sessions." })
}

fn reason() -> Value {
    json!({ "type": "string", "maxLength": MAX_REASON, "description": "Why, for the history." })
}
