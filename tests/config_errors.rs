//! What a wrong file is answered with: every error at once, each with its place and remedy, and never a panic.

use proptest::prelude::*;
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
tls = { certificates = [{ cert = "site.pem", key = "site.key" }], client_ca = "ca.pem" }
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
    assert_eq!(pointers, ["/admin/tokens", "/listener/0/tls", "/listener/0/proxy_protocol",], "{errors}");
    for error in errors.errors() {
        assert!(error.message.contains("not in this version"), "{error}");
    }
    let later = ["tokens =", "tls =", "proxy_protocol ="];
    let without: Vec<_> =
        SAMPLE.lines().filter(|line| !later.iter().any(|key| line.starts_with(key))).collect();
    let (config, warnings) = config::parse("test.toml", &without.join("\n")).expect("the rest is sound");
    assert_eq!((config.pools.len(), config.splits.len(), config.routes.len()), (2, 1, 2));
    assert_eq!(config.pools[0].endpoints[1].weight, 2);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].to_string().contains("not durable yet"), "{}", warnings[0]);
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
fn each_mistake_is_one_error_at_its_place() {
    let route = |rest: &str| format!("{SOUND}[[route]]\nname = \"r\"\n{rest}\n");
    let red = |rest: &str| format!("{SOUND}[pool.red]\nendpoints = []\n{rest}\n");
    let sticky = |rest: &str| format!("{SOUND}[split.x]\nweights = {{ blue = 1 }}\nsticky = {{ {rest} }}\n");
    for (text, pointer, part) in [
        ("".to_owned(), "", "\"listener\" is missing"),
        ("listener = []\n".to_owned(), "/listener", "no listener"),
        ("[listener]\nname = \"a\"\n".to_owned(), "/listener", "expected a list"),
        (format!("{LISTENER}[[pool]]\n"), "/pool", "expected a table"),
        (format!("workers = 0\n{SOUND}"), "/workers", "out of range"),
        (format!("workers = -1\n{SOUND}"), "/workers", "out of range"),
        (format!("workers = 99999999999999999999\n{SOUND}"), "/workers", "out of range"),
        (format!("{SOUND}[admin]\nlisten = \"0.0.0.0:1\"\n"), "/admin/listen", "loopback"),
        (format!("{SOUND}[admin]\nlisten = \"unix:\"\n"), "/admin/listen", "unix socket"),
        (format!("{SOUND}[admin]\n"), "/admin", "\"listen\" is missing"),
        (format!("{SOUND}[health]\nlisten = \"0.0.0.0:1\"\n"), "/health", "not in this version"),
        (format!("{SOUND}[pool.red]\nendpoints = []\nbalance = \"hash\"\n"), "/pool/red", "needs a key"),
        (
            format!("{SOUND}[pool.red]\nendpoints = []\nbalance = \"lest_request\"\n"),
            "/pool/red/balance",
            "not allowed",
        ),
        (
            format!("{SOUND}[pool.red]\nendpoints = [\"local host:1\"]\n"),
            "/pool/red/endpoints/0",
            "nor a host name",
        ),
        (
            format!("{SOUND}[pool.red]\nendpoints = [\"0.0.0.0:1\"]\n"),
            "/pool/red/endpoints/0",
            "every address",
        ),
        (
            format!("{SOUND}[pool.red]\nendpoints = [\"1.1.1.1:1\", \"1.1.1.1:1\"]\n"),
            "/pool/red/endpoints/1",
            "twice",
        ),
        (format!("{SOUND}[pool.\"a b\"]\nendpoints = []\n"), "/pool/a b", "no name"),
        (red("hash = { cookie = \"a\" }"), "/pool/red/hash", "without balancing by it"),
        (red("balance = \"hash\"\nhash = { max_load = 2 }"), "/pool/red/hash", "one of"),
        (
            red("balance = \"hash\"\nhash = { client = \"ip\", max_load = 0.9 }"),
            "/pool/red/hash/max_load",
            "range",
        ),
        (red("health = {}"), "/pool/red/health", "one of http, tcp and grpc"),
        (red("health = { http = \"/\", tcp = true }"), "/pool/red/health", "one of http, tcp and grpc"),
        (red("health = { http = \"healthz\" }"), "/pool/red/health/http", "no path"),
        (red("health = { http = \"/\", status = [99] }"), "/pool/red/health/status/0", "no status"),
        (red("health = { http = \"/\", status = [\"299-200\"] }"), "/pool/red/health/status/0", "no status"),
        (
            red("health = { http = \"/\", headers = { Host = \"a\" } }"),
            "/pool/red/health/headers/Host",
            "can't be sent",
        ),
        (red("health = { http = \"/\", port = 0 }"), "/pool/red/health/port", "out of range"),
        (red("health = { tcp = true, method = \"GET\" }"), "/pool/red/health/method", "http checks alone"),
        (red("health = { tcp = true, healthy_after = 0 }"), "/pool/red/health/healthy_after", "out of range"),
        (red("eject = { max_ejected = 2.0 }"), "/pool/red/eject/max_ejected", "out of range"),
        (red("eject = { base_time = \"10m\" }"), "/pool/red/eject", "shorter than the first"),
        (red("panic = -0.5"), "/pool/red/panic", "out of range"),
        (red("slow_start = { aggression = 0.0 }"), "/pool/red/slow_start/aggression", "out of range"),
        (red("max_connections = 0"), "/pool/red/max_connections", "out of range"),
        (red("adaptive = { min = 10, max = 9 }"), "/pool/red/adaptive", "from 10 to 9"),
        (sticky("ttl = \"1h\""), "/split/x/sticky", "\"cookie\" is missing"),
        (sticky("cookie = \"a b\""), "/split/x/sticky/cookie", "no name"),
        (sticky("cookie = \"a\", same_site = \"none\""), "/split/x/sticky/same_site", "not Secure"),
        (sticky("cookie = \"__Host-a\""), "/split/x/sticky/cookie", "browsers drop"),
        (sticky("cookie = \"a\", path = \"/a;b\""), "/split/x/sticky/path", "can't stand"),
        (format!("{SOUND}[pins]\nkey_file = \"\"\n"), "/pins/key_file", "no path"),
        (
            route("pool = \"blue\"\nretries = { statuses = [404] }"),
            "/route/0/retries/statuses/0",
            "out of range",
        ),
        (
            route("pool = \"blue\"\nretries = { max_body = \"1GiB\" }"),
            "/route/0/retries/max_body",
            "out of range",
        ),
        (
            format!("{SOUND}[pool.red]\nendpoints = []\nidle_timeout = \"0s\"\n"),
            "/pool/red/idle_timeout",
            "timeout of 0",
        ),
        (
            format!("{SOUND}[pool.red]\nendpoints = []\nidle_timeout = \"off\"\n"),
            "/pool/red/idle_timeout",
            "turned off",
        ),
        (
            format!("{SOUND}[pool.red]\nendpoints = []\nidle_timeout = \"48h\"\n"),
            "/pool/red/idle_timeout",
            "too long",
        ),
        (format!("{SOUND}[split.x]\nweights = {{ blue = 0 }}\n"), "/split/x/weights", "all weights are 0"),
        (format!("{SOUND}[split.x]\nweights = {{ blue = 1000001 }}\n"), "/split/x/weights", "over 1000000"),
        (
            format!("{SOUND}[split.x]\nweights = {{ blue = 1, gren = 1 }}\n"),
            "/split/x/weights/gren",
            "no pool \"gren\"",
        ),
        (
            format!(
                "{SOUND}[split.x]\nweights = {{ blue = 1 }}\nkey = {{ cookie = \"a\", header = \"b\" }}\n"
            ),
            "/split/x/key",
            "one of",
        ),
        (
            format!("{SOUND}[split.x]\nweights = {{ blue = 1 }}\nkey = {{ cookie = \"a;b\" }}\n"),
            "/split/x/key/cookie",
            "no name",
        ),
        (
            format!("{SOUND}[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:1\"\n"),
            "/listener/1/name",
            "twice",
        ),
        (
            format!("{SOUND}[[listener]]\nname = \"b\"\nlisten = \"127.0.0.1:8080\"\n"),
            "/listener/1/listen",
            "twice",
        ),
        (
            format!(
                "{SOUND}[[listener]]\nname = \"b\"\nlisten = \"127.0.0.1:1\"\ntrusted_proxies = [\"10.0.0.1/8\"]\n"
            ),
            "/listener/1/trusted_proxies/0",
            "beyond its prefix",
        ),
        (route(""), "/route/0", "doesn't say where"),
        (route("split = \"shop\"\npool = \"blue\""), "/route/0", "more than once"),
        (route("pool = \"bleu\""), "/route/0/pool", "no pool \"bleu\""),
        (route("pool = \"blue\"\nhosts = [\"bücher.de\"]"), "/route/0/hosts/0", "not ASCII"),
        (route("pool = \"blue\"\nhosts = [\"a.b\", \"A.B\"]"), "/route/0/hosts/1", "twice"),
        (route("pool = \"blue\"\nmethods = [\"get\"]"), "/route/0/methods/0", "can't be matched"),
        (route("pool = \"blue\"\nmethods = [\"CONNECT\"]"), "/route/0/methods/0", "can't be matched"),
        (
            route("pool = \"blue\"\nheaders = { Host = \"a\" }"),
            "/route/0/headers/Host",
            "not matched as a header",
        ),
        (route("pool = \"blue\"\nretries = { attempts = 11 }"), "/route/0/retries/attempts", "out of range"),
        (route("pool = \"blue\"\nretries = { budget = nan }"), "/route/0/retries/budget", "finite"),
        (
            route("pool = \"blue\"\nrequest_headers = { set = { X = \"a\\r\\nY: b\" } }"),
            "/route/0/request_headers/set/X",
            "can't be sent",
        ),
        (
            route("pool = \"blue\"\nrequest_headers = { remove = [\"Content-Length\"] }"),
            "/route/0/request_headers/remove/0",
            "can't be edited",
        ),
        (
            route("pool = \"blue\"\nrequest_headers = { set = { Transfer_Encoding = \"chunked\" } }"),
            "/route/0/request_headers/set/Transfer_Encoding",
            "can't be edited",
        ),
        (
            route("pool = \"blue\"\nresponse_headers = { add = { \"Content0Length\" = \"3\" } }"),
            "/route/0/response_headers/add/Content0Length",
            "can't be edited",
        ),
        (
            route("pool = \"blue\"\nresponse_headers = { add = { \"a b\" = \"c\" } }"),
            "/route/0/response_headers/add/a b",
            "no field name",
        ),
        (
            route("pool = \"blue\"\npath = \"=/x\"\nrewrite = { prefix = \"/y\" }"),
            "/route/0/rewrite/prefix",
            "no prefix",
        ),
        (route("pool = \"blue\"\nmax_body = \"ten\""), "/route/0/max_body", "no size"),
        (route("pool = \"blue\"\nupgrades = [\"h2c\"]"), "/route/0/upgrades/0", "h2c"),
        (route("pool = \"blue\"\nmirror = { pool = \"green\" }"), "/route/0/mirror", "not in this version"),
        (route("redirect = {}"), "/route/0/redirect", "leads to where"),
        (route("redirect = { status = 200, path = \"/\" }"), "/route/0/redirect/status", "no status"),
        (route("redirect = { path = \"/\" }\ntimeout = \"1s\""), "/route/0/timeout", "no meaning"),
        (route("redirect = { host = \"a\\r\\nb\" }"), "/route/0/redirect/host", "no host"),
        (route("redirect = { path = \"//evil.example\" }"), "/route/0/redirect/path", "two slashes"),
        (
            format!("{SOUND}[access_log]\npath = \"-\"\nformat = \"{{stauts}}\"\n"),
            "/access_log/format",
            "no field",
        ),
        (format!("{SOUND}[access_log]\npath = \"-\"\nsample = 0\n"), "/access_log/sample", "logs nothing"),
        (format!("{SOUND}[shutdown]\ndelay = \"soon\"\n"), "/shutdown/delay", "no duration"),
    ] {
        let error = only_error(&text);
        assert_eq!(error.pointer, pointer, "{error}");
        assert!(error.message.contains(part), "{part:?} in {error}");
    }
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
fn addresses_that_cover_each_other_are_refused() {
    let with = |first: &str, second: &str, admin: &str| {
        let text = format!(
            "[admin]\nlisten = \"{admin}\"\n[[listener]]\nname = \"a\"\nlisten = \"{first}\"\n\
             [[listener]]\nname = \"b\"\nlisten = \"{second}\"\n"
        );
        let pointers =
            |errors: ConfigErrors| errors.errors().iter().map(|error| error.pointer.clone()).collect();
        config::parse("test.toml", &text).map_or_else(pointers, |_| Vec::new())
    };
    let free = "127.0.0.1:9900";
    assert_eq!(with("127.0.0.1:80", "127.0.0.2:80", free), [""; 0]);
    assert_eq!(with("0.0.0.0:0", "127.0.0.1:0", "127.0.0.1:0"), [""; 0]);
    assert_eq!(with("0.0.0.0:80", "[::1]:80", free), [""; 0]);
    for (first, second) in
        [("0.0.0.0:80", "127.0.0.1:80"), ("[::1]:80", "[::]:80"), ("0.0.0.0:80", "[::]:80")]
    {
        assert_eq!(with(first, second, free), ["/listener/1/listen"], "{first} {second}");
    }
    assert_eq!(with("0.0.0.0:9900", "127.0.0.1:80", free), ["/admin/listen"]);
    assert_eq!(with("127.0.0.1:9900", "127.0.0.1:80", free), ["/admin/listen"]);
}

#[test]
fn each_mistake_of_one_value_is_told() {
    let of = |text: &str| -> Vec<String> {
        refused(&format!("{SOUND}{text}")).errors().iter().map(|error| error.message.clone()).collect()
    };
    let both = of("[[route]]\nname = \"a\"\npool = \"blue\"\nsplit = \"shp\"\n");
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both.iter().any(|message| message.contains("there is no split \"shp\"")), "{both:?}");
    let fields = of("[access_log]\npath = \"-\"\nformat = \"{clint} {stauts} {stauts} {\"\n");
    assert_eq!(fields.len(), 3, "{fields:?}");
    let errors = refused(&format!("{SOUND}[access_log]\npath = \"-\"\nsample = 2.0\n"));
    assert!(errors.render().contains("above 0 and at most 1"), "{errors}");
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

/// All examples in one line of tokens, to be mutated.
fn seeds() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    let mut seeds: Vec<_> = std::fs::read_dir(folder)
        .expect("config is there")
        .map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("a readable example"))
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
