//! The JSON Schema of the file, generated from [`super::raw`].

use serde_json::{Map, Value};

use super::raw;

/// The JSON Schema of the configuration file (draft 2020-12), for editors and for [`super::shape`].
///
/// It knows keys, types and fixed values. What it can't say (references, ranges, the form of a host) is checked by
/// [`super::parse`] alone.
pub fn schema() -> Value {
    let mut settings = schemars::generate::SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<raw::File>().to_value();
    without_null(&mut schema);
    schema
}

/// TOML has no null: takes it out wherever an optional key allows it.
fn without_null(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    map["type"] = only.clone();
                }
            }
            if let Some(Value::Array(values)) = map.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            map.values_mut().for_each(without_null);
            without_null_choice(map);
            map.retain(|key, value| !(key == "default" && is_empty_default(value)));
        }
        Value::Array(values) => values.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// Makes `anyOf: [x, null]` to `x`.
fn without_null_choice(map: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = map.get_mut("anyOf") else { return };
    choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
    if choices.len() == 1 {
        let Some(Value::Object(only)) = choices.pop() else { return };
        map.remove("anyOf");
        for (key, value) in only {
            // The description of the key says more than that of its type.
            map.entry(key).or_insert(value);
        }
    }
}

/// That a list or table is empty if it is left out goes without saying.
fn is_empty_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_keys_types_and_fixed_values() {
        let schema = schema();
        let at = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {schema:#}"));
        assert_eq!(at("/properties/workers/type"), "integer");
        assert_eq!(at("/properties/listener/items/properties/listen/type"), "string");
        assert_eq!(at("/properties/listener/items/additionalProperties"), false);
        assert_eq!(at("/properties/admin/required/0"), "listen");
        assert_eq!(
            at("/properties/pool/additionalProperties/properties/endpoints/items/anyOf/0/type"),
            "string"
        );
        assert!(!schema.to_string().contains("null"), "{schema:#}");
        assert!(!schema.to_string().contains("$ref"), "{schema:#}");
    }

    #[test]
    fn every_key_is_described() {
        fn walk(value: &Value, at: &str, silent: &mut Vec<String>) {
            if let Some(Value::Object(properties)) = value.get("properties") {
                for (key, property) in properties {
                    if property.get("description").is_none() {
                        silent.push(format!("{at}/{key}"));
                    }
                }
            }
            match value {
                Value::Object(map) => {
                    map.iter().for_each(|(key, value)| walk(value, &format!("{at}/{key}"), silent))
                }
                Value::Array(list) => list.iter().for_each(|value| walk(value, at, silent)),
                _ => {}
            }
        }
        let mut silent = Vec::new();
        walk(&schema(), "", &mut silent);
        assert_eq!(silent, Vec::<String>::new());
    }
}
