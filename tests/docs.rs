//! The documentation's promise that a machine can keep: a link within the repository leads somewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where documents are.
const FOLDERS: &[&str] = &["", "docs", "config"];

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a readable document");
        let folder = document.parent().expect("a document is in a folder");
        for link in links(&text) {
            seen += 1;
            let file = link.split('#').next().expect("split yields at least one");
            if !folder.join(file).exists() {
                wrong.push(format!("{}: {link} leads nowhere", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(seen > 10, "only {seen} links were found: is the scanner broken?");
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = Vec::new();
    for folder in FOLDERS.iter().map(|folder| root.join(folder)).filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ending| ending == "md") {
                documents.push(path);
            }
        }
    }
    documents
}

/// The targets of `[text](target)` that are neither URLs nor places in the same document.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .collect()
}

#[test]
fn the_scanner_tells_files_from_urls() {
    let text = "[a](docs/a.md), [b](https://example.com/), [c](#here) and [d](b.md#there)";
    assert_eq!(links(text), ["docs/a.md", "b.md#there"]);
}
