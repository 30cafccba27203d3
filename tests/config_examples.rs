//! The examples under `config/` and the sample of the design: what a newcomer copies must work.

use std::{fs, path::PathBuf};

use switchback::config;

fn examples() -> Vec<(PathBuf, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    let mut examples: Vec<_> = fs::read_dir(folder)
        .expect("config is there")
        .map(|entry| entry.expect("an entry of config").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a readable example");
            (path, text)
        })
        .collect();
    examples.sort();
    assert!(examples.len() >= 5, "only {} examples", examples.len());
    examples
}

#[test]
fn every_example_is_accepted_without_a_warning() {
    for (path, _) in examples() {
        match config::load(&path) {
            Ok((_, warnings)) => assert_eq!(warnings, [], "{}", path.display()),
            Err(errors) => panic!("{errors}"),
        }
    }
}
