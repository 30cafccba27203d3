//! What a wrong file is answered with: every error at once, each with its place and remedy, and never a panic.

mod mistakes;
mod mutations;

use switchback::config::{self, ConfigErrors, Diagnostic};

/// A sound file that the cases below add to.
const SOUND: &str = r#"
[[listener]]
name = "web"
listen = "127.0.0.1:8080"
[pool.blue]
endpoints = ["127.0.0.1:9001"]
[pool.green]
endpoints = ["127.0.0.1:9011"]
[split.shop]
weights = { blue = 95, green = 5 }
"#;

/// The least that is needed.
const LISTENER: &str = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:8080\"\n";

/// The sample of the documentation, in which keys of later versions stand too.
const SAMPLE: &str = r#"
workers = 4

[admin]
listen = "127.0.0.1:9900"
tokens = "tokens.toml"

[state]
path = "switchback.db"

[[listener]]
name = "web"
listen = "0.0.0.0:8080"
tls = { certificates = [{ cert = "site.pem", key = "site.key" }] }
proxy_protocol = true
trusted_proxies = ["10.0.0.0/8"]

[pool.blue]
endpoints = ["127.0.0.1:9001", { address = "127.0.0.1:9002", weight = 2 }]
balance = "least_request"
health = { http = "/healthz", interval = "2s", timeout = "1s", healthy_after = 2, unhealthy_after = 3 }

[pool.green]
endpoints = ["127.0.0.1:9011", "127.0.0.1:9012"]
health = { http = "/healthz" }

[split.shop]
weights = { blue = 95, green = 5 }
sticky = { cookie = "sb_shop", ttl = "1h" }

[[route]]
name = "shop"
hosts = ["shop.example.com"]
path = "/"
split = "shop"
timeout = "30s"

[[route]]
name = "shop-testers"
hosts = ["shop.example.com"]
headers = { canary = "true" }
pool = "green"
"#;

fn refused(text: &str) -> ConfigErrors {
    match config::parse("test.toml", text) {
        Err(errors) => errors,
        Ok(_) => panic!("this was accepted:\n{text}"),
    }
}

/// The only error of a text.
fn only_error(text: &str) -> Diagnostic {
    let errors = refused(text);
    assert_eq!(errors.errors().len(), 1, "{text}\n{errors}");
    errors.errors()[0].clone()
}

#[test]
fn the_sample_is_refused_for_features_of_later_versions_alone() {
    let errors = refused(SAMPLE);
    let pointers: Vec<_> = errors.errors().iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/listener/0/proxy_protocol"], "{errors}");
    for error in errors.errors() {
        assert!(error.message.contains("not in this version"), "{error}");
    }
    let later = ["tls =", "proxy_protocol ="];
    let without: Vec<_> =
        SAMPLE.lines().filter(|line| !later.iter().any(|key| line.starts_with(key))).collect();
    let (config, warnings) = config::parse("test.toml", &without.join("\n")).expect("the rest is sound");
    assert_eq!((config.pools.len(), config.splits.len(), config.routes.len()), (2, 1, 2));
    assert_eq!(config.pools[0].endpoints[1].weight, 2);
    assert_eq!(config.state, Some(config::StatePlace::File("switchback.db".into())));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn all_errors_of_a_file_are_reported_at_once_in_its_order() {
    let text = format!(
        "workrs = 4\n{SOUND}balanc = 1\n[[route]]\nname = \"a b\"\npath = \"shop\"\nsplit = \"shp\"\ntimeout = 5\n"
    );
    let errors = refused(&text);
    let said: Vec<_> = errors.errors().iter().map(|error| (error.pointer.as_str(), error.line)).collect();
    assert_eq!(
        said,
        [
            ("/workrs", 1),
            ("/split/shop/balanc", 12),
            ("/route/0/name", 14),
            ("/route/0/path", 15),
            ("/route/0/split", 16),
            ("/route/0/timeout", 17),
        ],
        "{errors}"
    );
    let report = errors.render();
    for part in [
        "did you mean \"workers\"?",
        "did you mean \"/shop\"?",
        "did you mean \"shop\"?",
        "6 errors in test.toml",
    ] {
        assert!(report.contains(part), "{part} in:\n{report}");
    }
}

#[test]
fn an_error_shows_file_line_column_text_and_remedy_and_can_be_serialised() {
    let text = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:80\"\nhead_timout = \"1s\"\n";
    let error = only_error(text);
    assert_eq!(
        error.to_string(),
        "error: unknown key \"head_timout\"\n \
         --> test.toml:4:1\n  |\n4 | head_timout = \"1s\"\n  | ^^^^^^^^^^^\n  = help: did you mean \"head_timeout\"?\n"
    );
    assert_eq!(
        serde_json::to_value(&error).expect("a plain structure"),
        serde_json::json!({
            "file": "test.toml", "line": 4, "column": 1, "message": "unknown key \"head_timout\"",
            "help": "did you mean \"head_timeout\"?", "pointer": "/listener/0/head_timout",
        })
    );
}

#[test]
fn syntax_errors_are_reported_together_and_hide_what_may_follow_from_them() {
    let errors = refused(
        "[[listener]\nname = \"web\"\n[pool.blue]\nendpoints = [\"127.0.0.1:1\"\n[split.x]\nweights = {blue = }\nkee = 1\n",
    );
    assert!(errors.errors().iter().any(|error| error.line == 1), "{errors}");
    assert!(!errors.render().contains("is missing"), "{errors}");
    let twice = refused(&format!("{SOUND}[pool.blue]\nendpoints = []\n"));
    assert!(twice.errors().iter().all(|error| error.message.contains("duplicate key")), "{twice}");
}

#[test]
fn what_surprises_is_a_warning() {
    let text = format!(
        "{SOUND}[pool.self]\nendpoints = [\"127.0.0.1:8080\"]\n\
         [[route]]\nname = \"a\"\npool = \"self\"\n[[route]]\nname = \"b\"\npool = \"blue\"\n"
    );
    let (_, warnings) = config::parse("test.toml", &text).expect("it is allowed");
    let pointers: Vec<_> = warnings.iter().map(|warning| warning.0.pointer.as_str()).collect();
    assert_eq!(pointers, ["/split/shop", "/pool/self/endpoints/0", "/route/1"]);
}

#[test]
fn what_gets_no_request_is_a_warning() {
    let text = format!("{SOUND}[pool.old]\nendpoints = []\n[[route]]\nname = \"a\"\nsplit = \"shop\"\n");
    let (_, warnings) = config::parse("test.toml", &text).expect("it is allowed");
    let [only] = &warnings[..] else { panic!("{warnings:?}") };
    assert_eq!(
        (only.0.pointer.as_str(), only.0.message.as_str()),
        ("/pool/old", "pool \"old\" gets no request")
    );
}

#[test]
fn errors_are_limited_and_counted() {
    let mut text = String::from(SOUND);
    for index in 0..1_000 {
        text.push_str(&format!("[[route]]\nname = \"r{index}\"\npool = \"nowhere\"\n"));
    }
    let errors = refused(&text);
    assert_eq!(errors.errors().len() + errors.omitted(), 1_000);
    assert!(errors.omitted() > 0);
    assert!(errors.render().ends_with("1000 errors in test.toml"), "{errors}");
}

#[test]
fn a_hundred_thousand_routes_load() {
    let mut text = String::from(SOUND);
    for index in 0..100_000 {
        text.push_str(&format!(
            "[[route]]\nname = \"r{index}\"\nhosts = [\"h{index}.example.com\"]\npath = \"/p{index}\"\nsplit = \"shop\"\n"
        ));
    }
    let (config, warnings) = config::parse("test.toml", &text).expect("a sound file");
    assert_eq!((config.routes.len(), warnings.len()), (100_000, 0));
    assert_eq!(config.routes[99_999].name.as_str(), "r99999");
}

#[test]
fn a_file_that_is_no_text_or_not_there_is_refused() {
    let path = std::env::temp_dir().join(format!("switchback-not-utf8-{}.toml", std::process::id()));
    std::fs::write(&path, b"a = 1\n\xff").expect("a writable folder");
    let errors = config::load(&path).expect_err("it is not UTF-8");
    std::fs::remove_file(&path).expect("it was there");
    assert!(errors.render().contains("line 2 is not UTF-8"), "{errors}");
    let errors = config::load(&path).expect_err("it is gone");
    assert!(errors.render().contains("can't be read"), "{errors}");
}
