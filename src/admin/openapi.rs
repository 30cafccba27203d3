//! The description of the admin API: OpenAPI 3.1, made from the table of calls and from the types of the answers.

use std::sync::LazyLock;

use axum::http::StatusCode;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    author::MAX_REASON,
    calls::{self, Answer, Kind, Operation},
    idempotency::MAX_KEY,
    problem::Document,
};

/// The document as it is served.
pub(super) static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());

fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Document<'_>>();
    let problem = json!({
        "description": "It was not done, and nothing has changed.",
        "content": { "application/problem+json": { "schema": problem } },
    });
    let mut paths = Map::new();
    for call in calls::all() {
        let described = operation(&call, &mut generator);
        let path = paths.entry(call.path).or_insert_with(|| json!({ "parameters": in_path(call.path) }));
        path[call.method.as_str().to_ascii_lowercase()] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Switchback's admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Sees and moves traffic between the versions of a service. docs/admin-api.md says more.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true), "responses": { "Problem": problem } },
    })
}

fn operation(call: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut described = json!({
        "operationId": id(call),
        "summary": call.summary,
        "parameters": parameters(call),
        "responses": responses(call, generator),
    });
    if let Some(body) = &call.body {
        let content = json!({ body.media: { "schema": body.schema } });
        described["requestBody"] = json!({ "required": body.is_required, "content": content });
    }
    described
}

/// `put_v1_splits_split_weights`.
fn id(call: &Operation) -> String {
    let words = call.path.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    let method = call.method.as_str().to_ascii_lowercase();
    std::iter::once(method.as_str()).chain(words).collect::<Vec<_>>().join("_")
}

fn responses(call: &Operation, generator: &mut SchemaGenerator) -> Value {
    let content = match &call.answer {
        Answer::Json(schema) => json!({ "application/json": { "schema": schema(generator) } }),
        Answer::Text("application/json") => json!({ "application/json": { "schema": { "type": "object" } } }),
        Answer::Text(media) => json!({ *media: { "schema": { "type": "string" } } }),
    };
    let mut fields = Map::new();
    if call.kind != Kind::Reads {
        let what = "Names what is set: for If-Match. After a change that changed nothing, and on a dry run, it is not there.";
        fields.insert("ETag".into(), json!({ "description": what, "schema": { "type": "string" } }));
    }
    if call.kind == Kind::Changes {
        let what = "true: the answer is that to an earlier call with the same Idempotency-Key.";
        fields.insert(
            "Idempotency-Replayed".into(),
            json!({ "description": what, "schema": { "const": "true" } }),
        );
    }
    let mut responses = json!({
        "200": { "description": "Done.", "headers": fields, "content": content },
        "default": { "$ref": "#/components/responses/Problem" },
    });
    if call.kind == Kind::Tagged {
        responses["304"] = json!({ "description": "What is set is what If-None-Match names." });
    }
    // Probes answer in their own form, whatever they have to say.
    if matches!(call.path, "/livez" | "/readyz") {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE.as_str();
        responses[unavailable] = json!({ "description": "No.", "content": responses["200"]["content"] });
    }
    responses
}

fn in_path(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| {
            let schema = match name {
                "n" => json!({ "type": "integer", "minimum": 0 }),
                _ => json!({ "type": "string", "minLength": 1 }),
            };
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect()
}

fn parameters(call: &Operation) -> Vec<Value> {
    let mut parameters: Vec<_> = call.query.iter().map(|name| in_query(name)).collect();
    let mut field = |name: &str, what: &str, schema: Value| {
        parameters.push(json!({ "name": name, "in": "header", "description": what, "schema": schema }));
    };
    match call.kind {
        Kind::Tagged => {
            field("If-None-Match", "The ETags that are known: then 304.", tags());
        }
        Kind::Changes => {
            field("If-Match", "The ETag of what is to be changed; if it is another by now: 412.", tags());
            let key =
                json!({ "type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]+$" });
            field("Idempotency-Key", "By it a repeated call is known, and done once.", key);
            let reason = json!({ "type": "string", "maxLength": MAX_REASON });
            field("X-Reason", "Why, for the history.", reason);
        }
        Kind::Reads => {}
    }
    parameters
}

/// `*`, or entity tags.
fn tags() -> Value {
    const TAG: &str = r#"(W/)?"[!#-~]*""#;
    json!({ "type": "string", "pattern": format!("^(\\*|{TAG}( *, *{TAG}){{0,9}})$") })
}

fn in_query(name: &str) -> Value {
    let number = json!({ "type": "integer", "minimum": 0 });
    let (what, schema) = match name {
        "dry_run" => ("Say what would change, and change nothing.", json!({ "enum": ["true", "false", ""] })),
        "wait" => ("Answer when nothing is in flight any more.", json!({ "enum": ["drained"] })),
        "timeout" => ("How long to wait at most.", json!({ "type": "string", "examples": ["30s"] })),
        "before" => ("Only those before this revision.", number),
        "after" => ("All after this revision, then what comes.", number),
        "limit" => {
            let most = super::revisions::MAX_PAGE;
            ("How many.", json!({ "type": "integer", "minimum": 1, "maximum": most }))
        }
        other => unreachable!("no call has a parameter {other}"),
    };
    json!({ "name": name, "in": "query", "description": what, "schema": schema })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_call_is_described_once_and_every_reference_leads_somewhere() {
        let document = document();
        let calls = calls::all();
        let ids: BTreeSet<_> = calls.iter().map(id).collect();
        assert_eq!(ids.len(), calls.len());
        for call in &calls {
            let described = &document["paths"][call.path][call.method.as_str().to_ascii_lowercase()];
            assert_eq!(described["operationId"], id(call));
        }
        let text = document.to_string();
        let references =
            text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().expect("an end"));
        let mut count = 0;
        for reference in references {
            count += 1;
            assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
        }
        assert!(count > calls.len());
    }

    #[test]
    fn the_handbook_tells_of_every_call() {
        let handbook = include_str!("../../docs/admin-api.md");
        for call in calls::all() {
            let told = format!("{} {}", call.method, call.path);
            assert!(handbook.contains(&told), "docs/admin-api.md has no word about `{told}`");
        }
    }
}
