//! Checks a TOML document against the schema: unknown keys, wrong types, values that are none of the allowed ones.
//!
//! What is wrong is reported and taken out of the document, so that everything else in it can still be checked.

use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{later, pointer::Pointer, problems::Problems, suggest};

/// Checks the document. What remains in it has the shape of `schema`, but that required keys may lack.
pub(super) fn check(document: &mut Spanned<DeTable<'_>>, schema: &Value, problems: &mut Problems<'_>) {
    let span = document.span();
    table(document.get_mut(), &span, schema, &Pointer::Root, problems);
}

type Span = std::ops::Range<usize>;

/// Checks a value and answers whether it may stay.
fn value(
    value: &mut Spanned<DeValue<'_>>,
    schema: &Value,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> bool {
    let span = value.span();
    let Some(schema) = alternative(value.get_ref(), schema) else {
        wrong_type(value, schema, at, problems);
        return false;
    };
    match value.get_mut() {
        DeValue::Table(inner) => {
            table(inner, &span, schema, at, problems);
            true
        }
        DeValue::Array(inner) => {
            let items = &schema["items"];
            let mut stays = Vec::with_capacity(inner.len());
            for (index, item) in inner.iter_mut().enumerate() {
                stays.push(self::value(item, items, &at.index(index), problems));
            }
            // Items keep their numbers in later messages only if none is taken out, so they are all or none.
            stays.into_iter().all(|stays| stays)
        }
        DeValue::String(text) => fixed_value(text, &span, schema, at, problems),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
            let lowest = schema["minimum"].as_i64().unwrap_or(i64::MIN);
            let fits = number.is_some_and(|number| number >= lowest);
            if !fits {
                problems.error(
                    &span,
                    at,
                    format!("the number {} is out of range", integer),
                    in_range(schema),
                );
            }
            fits
        }
        DeValue::Float(float) => {
            let fits = float.as_str().parse::<f64>().is_ok_and(f64::is_finite);
            if !fits {
                problems.error(&span, at, "not a finite number", None);
            }
            fits
        }
        DeValue::Boolean(_) | DeValue::Datetime(_) => true,
    }
}

fn table(
    table: &mut DeTable<'_>,
    span: &Span,
    schema: &Value,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) {
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    // The map can't drop entries in place while their keys' spans are looked at, so it is rebuilt.
    let entries = std::mem::take(table).into_iter();
    *table = entries
        .filter_map(|(key, mut entry)| {
            let name = key.get_ref().as_ref();
            let here = at.key(name);
            let any = schema.get("additionalProperties").filter(|any| any.is_object());
            let stays = match properties.get(name).or(any) {
                Some(property) => value(&mut entry, property, &here, problems),
                None => {
                    unknown_key(name, &key.span(), properties, &here, problems);
                    false
                }
            };
            stays.then_some((key, entry))
        })
        .collect();
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !table.keys().any(|key| key.get_ref() == required) {
            let help = properties.get(required).and_then(|property| property["description"].as_str());
            problems.missing(span, at, format!("the key \"{required}\" is missing"), help.map(str::to_owned));
        }
    }
}

fn unknown_key(
    name: &str,
    span: &Span,
    properties: &Map<String, Value>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) {
    if let Some(feature) = later::feature_of_key(at) {
        let help = "take the key out; it is refused rather than ignored".to_owned();
        problems.error(span, at, format!("\"{name}\" ({feature}) is not in this version"), help);
        return;
    }
    let help = suggest::help(name, properties.keys().map(String::as_str), "known keys here");
    problems.error(span, at, format!("unknown key \"{}\"", shortened(name)), help);
}

/// The part of the schema that is about values of this type, if there is one.
fn alternative<'s>(value: &DeValue<'_>, schema: &'s Value) -> Option<&'s Value> {
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().find_map(|choice| alternative(value, choice));
    }
    let fits = matches!(
        (type_of(schema), value),
        ("object", DeValue::Table(_))
            | ("array", DeValue::Array(_))
            | ("string", DeValue::String(_))
            | ("integer" | "number", DeValue::Integer(_))
            | ("number", DeValue::Float(_))
            | ("boolean", DeValue::Boolean(_))
    );
    fits.then_some(schema)
}

/// The JSON type that a schema without `anyOf` asks for. Fixed values are all texts.
fn type_of(schema: &Value) -> &str {
    let fixed = schema.get("oneOf").or(schema.get("enum")).or(schema.get("const"));
    schema["type"].as_str().unwrap_or(if fixed.is_some() { "string" } else { "anything" })
}

fn wrong_type(value: &Spanned<DeValue<'_>>, schema: &Value, at: &Pointer<'_>, problems: &mut Problems<'_>) {
    let found = match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let expected = expected(schema);
    let help = match (value.get_ref(), at) {
        (DeValue::Table(_), Pointer::Key(Pointer::Root, key)) => {
            Some(format!("each one begins with [[{key}]], in double brackets"))
        }
        (DeValue::Array(_), Pointer::Key(Pointer::Root, key)) => {
            Some(format!("it is a table: [{key}] or [{key}.NAME], in single brackets"))
        }
        _ => schema["description"].as_str().map(str::to_owned),
    };
    problems.error(&value.span(), at, format!("expected {expected}, found {found}"), help);
}

/// What a schema asks for, in words.
fn expected(schema: &Value) -> String {
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().map(expected).collect::<Vec<_>>().join(" or ");
    }
    let word = match type_of(schema) {
        "object" => "a table",
        "array" => "a list",
        "string" => "a text in quotes",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        other => other,
    };
    word.to_owned()
}

/// Checks a text of which the schema lists the allowed ones, and answers whether it may stay.
fn fixed_value(
    text: &str,
    span: &Span,
    schema: &Value,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> bool {
    let allowed: Vec<&str> = if let Some(rows) = schema["oneOf"].as_array() {
        rows.iter().filter_map(|row| row["const"].as_str()).collect()
    } else if let Some(rows) = schema["enum"].as_array() {
        rows.iter().filter_map(Value::as_str).collect()
    } else {
        schema["const"].as_str().into_iter().collect()
    };
    if allowed.is_empty() || allowed.contains(&text) {
        return true;
    }
    let help = suggest::help(text, allowed.iter().copied(), "allowed here");
    problems.error(span, at, format!("\"{}\" is not allowed here", shortened(text)), help);
    false
}

fn in_range(schema: &Value) -> Option<String> {
    schema["minimum"].as_i64().map(|lowest| format!("a whole number from {lowest} on"))
}

/// A text of the file for a message: no longer than is of use, and on one line.
pub(super) fn shortened(text: &str) -> String {
    const MAX: usize = 80;
    let mut short: String = text.chars().take(MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX).is_some() {
        short.push_str("...");
    }
    short
}
