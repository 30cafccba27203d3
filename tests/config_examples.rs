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
    for (path, text) in examples() {
        // The certificates that an example names are on no machine.
        match config::parse(&path.display().to_string(), &text) {
            Ok((_, warnings)) => assert_eq!(warnings, [], "{}", path.display()),
            Err(errors) => panic!("{errors}"),
        }
    }
}

#[test]
fn the_example_of_every_key_has_every_key_and_its_default() {
    let every =
        examples().into_iter().find(|(path, _)| path.ends_with("every-key.toml")).expect("it is there");
    // As whole words: a key is followed by ` =`, or stands in a table's heading.
    for key in keys_of_schema() {
        let in_table = |line: &&str| line.starts_with('[') && line.contains(&key);
        assert!(
            every.1.contains(&format!("{key} =")) || every.1.lines().any(|line| in_table(&line)),
            "config/every-key.toml lacks {key}"
        );
    }
    let (shown, _) = config::parse("every-key.toml", &every.1).expect("it is sound");
    let minimal = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:8080\"\n[pool.blue]\nendpoints = []\n\
                   [split.shop]\nweights = { blue = 1 }\n[[route]]\nname = \"shop\"\nsplit = \"shop\"\n";
    let (default, _) = config::parse("minimal", minimal).expect("it is sound");
    let (a, b) = (&shown.listeners[0], &default.listeners[0]);
    assert_eq!((a.allow_underscores, a.max_connections), (b.allow_underscores, b.max_connections));
    assert_eq!(a.max_requests, b.max_requests);
    assert_eq!(
        [a.head_timeout, a.keep_alive_timeout, a.body_timeout, a.write_timeout],
        [b.head_timeout, b.keep_alive_timeout, b.body_timeout, b.write_timeout]
    );
    let (a, b) = (&shown.pools[0], &default.pools[0]);
    assert_eq!(
        (&a.balance, a.connect_timeout, a.idle_timeout, a.max_idle),
        (&b.balance, b.connect_timeout, b.idle_timeout, b.max_idle)
    );
    assert_eq!((&a.eject, a.panic_threshold, a.max_age), (&b.eject, b.panic_threshold, b.max_age));
    assert_eq!(
        (a.limits.max_pending, a.limits.pending_timeout, a.limits.unavailable_wait),
        (b.limits.max_pending, b.limits.pending_timeout, b.limits.unavailable_wait)
    );
    assert_eq!((a.is_drained, a.drain), (b.is_drained, b.drain));
    let sketch = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:8080\"\n[pool.blue]\nendpoints = []\n\
                  health = { http = \"/healthz\", body = \"ok\", host = \"shop.internal\", port = 8081 }\n\
                  slow_start = {}\nadaptive = {}\n[split.shop]\nweights = { blue = 1 }\n\
                  sticky = { cookie = \"sb_shop\", domain = \"example.com\", secure = true, query = \"sb_pin\" }\n";
    let (sketched, _) = config::parse("sketch", sketch).expect("it is sound");
    let c = &sketched.pools[0];
    assert_eq!((&a.health, a.slow_start, &a.limits.adaptive), (&c.health, c.slow_start, &c.limits.adaptive));
    assert_eq!(shown.splits[0].sticky, sketched.splits[0].sticky);
    assert_eq!(shown.splits[0].when_unavailable, default.splits[0].when_unavailable);
    let (a, b) = (&shown.routes[0], &default.routes[0]);
    assert_eq!((a.first_byte_timeout, a.stream_idle_timeout), (b.first_byte_timeout, b.stream_idle_timeout));
    assert_eq!((&a.matches.path, a.timeout, &a.retries), (&b.matches.path, b.timeout, &b.retries));
    assert_eq!((&a.request_headers, &a.response_headers), (&b.request_headers, &b.response_headers));
    assert_eq!((a.merge_slashes, a.max_body, a.forwarded), (b.merge_slashes, b.max_body, b.forwarded));
    assert_eq!((a.request_id, &a.upgrades), (b.request_id, &b.upgrades));
    assert_eq!(shown.shutdown, default.shutdown);
}

#[test]
fn every_key_and_every_log_field_is_documented() {
    let configuration = include_str!("../docs/configuration.md");
    for key in keys_of_schema() {
        assert!(
            configuration.contains(&format!("`{key}`")) || configuration.contains(&format!("`{key} =")),
            "docs/configuration.md lacks {key}"
        );
    }
    let access_log = include_str!("../docs/access-log.md");
    for field in config::LogField::ALL {
        let name = field.name();
        assert!(access_log.contains(&format!("| `{name}` |")), "docs/access-log.md lacks {name}");
    }
}

/// Every key that the schema names, at any depth.
fn keys_of_schema() -> Vec<String> {
    fn walk(schema: &serde_json::Value, keys: &mut Vec<String>) {
        match schema {
            serde_json::Value::Object(map) => {
                if let Some(serde_json::Value::Object(properties)) = map.get("properties") {
                    keys.extend(properties.keys().cloned());
                }
                map.values().for_each(|value| walk(value, keys));
            }
            serde_json::Value::Array(list) => list.iter().for_each(|value| walk(value, keys)),
            _ => {}
        }
    }
    let mut keys = Vec::new();
    walk(&config::schema(), &mut keys);
    keys.sort();
    keys.dedup();
    assert!(keys.len() > 40, "{keys:?}");
    keys
}
