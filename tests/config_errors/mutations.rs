//! Whatever text comes, it is accepted or refused with words, and nothing panics.

use proptest::prelude::*;
use switchback::config;

use crate::SAMPLE;

/// All examples in one line of tokens, to be mutated.
fn seeds() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    let mut seeds: Vec<_> = std::fs::read_dir(folder)
        .expect("config is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| std::fs::read_to_string(path).expect("a readable example"))
        .chain([SAMPLE.to_owned()])
        .collect();
    seeds.sort();
    seeds
}

/// A piece of TOML that is likely to be somewhere where it should not.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("[".to_owned()),
        Just("]]".to_owned()),
        Just("{".to_owned()),
        Just("\"".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just(" = ".to_owned()),
        Just("0".to_owned()),
        Just("-1".to_owned()),
        Just("inf".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("\u{0}".to_owned()),
        Just("ä".to_owned()),
        Just("%".to_owned()),
        "\\PC{0,8}",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|[\\[\\]{}=\".,#a-z0-9\\n ]{0,200}") {
        if let Err(errors) = config::parse("test.toml", &text) {
            prop_assert!(!errors.errors().is_empty());
            prop_assert!(!errors.render().is_empty());
        }
    }

    #[test]
    fn no_mutation_of_an_example_makes_it_panic(
        seed in proptest::sample::select(seeds()),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), 0usize..12, piece()), 1..6),
    ) {
        let mut characters: Vec<char> = seed.chars().collect();
        for (place, drop, insert) in edits {
            let start = place.index(characters.len() + 1);
            let end = (start + drop).min(characters.len());
            characters.splice(start..end, insert.chars());
        }
        let text: String = characters.into_iter().collect();
        match config::parse("test.toml", &text) {
            Ok((_, warnings)) => warnings.iter().for_each(|warning| assert!(!warning.to_string().is_empty())),
            Err(errors) => {
                prop_assert!(!errors.errors().is_empty());
                prop_assert!(errors.errors().iter().all(|error| !error.to_string().is_empty()));
            }
        }
    }
}
