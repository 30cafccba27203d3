//! Rust allows cycles between the modules of a crate, so this test keeps the layers: each may name, in
//! `crate::<layer>`, only the layers that its row lists.

use std::{collections::BTreeMap, fs, path::Path};

const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("wire", &["model"]),
    ("tls", &["model"]),
    ("config", &["model", "tls"]),
    ("telemetry", &["model"]),
    ("upstream", &["model", "wire", "telemetry"]),
    ("routing", &["model", "wire", "config", "telemetry", "upstream"]),
    ("health", &["model", "wire", "config", "telemetry", "upstream"]),
    ("proxy", &["model", "wire", "tls", "config", "telemetry", "upstream", "routing"]),
    ("discovery", &["model", "config"]),
    ("control", &["model", "config", "telemetry", "upstream", "routing", "health", "discovery"]),
    ("admin", &["model", "wire", "tls", "telemetry", "health", "control", "routing"]),
];

/// Layers that compose the others and may import everything.
const COMPOSITION: &[&str] = &["cli", "app"];

#[test]
fn a_layer_imports_only_what_its_row_names() {
    let allowed: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).expect("src is there") {
        let entry = entry.expect("an entry of src").path();
        if !entry.is_dir() {
            continue;
        }
        let layer = entry.file_name().expect("a folder's name").to_string_lossy().into_owned();
        if COMPOSITION.contains(&layer.as_str()) {
            continue;
        }
        let Some(may) = allowed.get(layer.as_str()) else {
            wrong.push(format!("src/{layer} has no row in the table of layers"));
            continue;
        };
        seen += 1;
        check_folder(&entry, &layer, may, &mut wrong);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(seen, LAYERS.len(), "a row of the table has no folder");
}

fn check_folder(folder: &Path, layer: &str, may: &[&str], wrong: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            check_folder(&path, layer, may, wrong);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).expect("a readable source");
            for named in layers_named(&text) {
                if named != layer && !may.contains(&named.as_str()) {
                    wrong.push(format!("{}: {layer} may not import {named}", path.display()));
                }
            }
        }
    }
}

/// The layers behind each `crate::`, both as `crate::layer` and as `crate::{layer::…, layer}`.
fn layers_named(text: &str) -> Vec<String> {
    let mut named = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for rest in line.split("crate::").skip(1) {
            named.push(identifier(rest));
        }
    }
    for rest in text.split("use crate::{").skip(1) {
        let mut depth = 1;
        let mut item = String::new();
        for character in rest.chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => named.push(identifier(&std::mem::take(&mut item))),
                _ if depth == 1 => item.push(character),
                _ => {}
            }
            if depth == 0 {
                named.push(identifier(&item));
                break;
            }
        }
    }
    named.retain(|name| !name.is_empty());
    named
}

fn identifier(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect()
}

#[test]
fn the_scanner_sees_both_forms() {
    let text = "use crate::model::name;\nuse crate::{\n  proxy::{a, b},\n  wire,\n};\n// crate::cli\nlet x = crate::app::y();";
    let mut named = layers_named(text);
    named.sort();
    assert_eq!(named, ["app", "model", "proxy", "wire"]);
}
