//! Mistakes of every kind: each is one error, at its place, in words that say what is wrong.

use switchback::config::{self, ConfigErrors};

use crate::{LISTENER, SOUND, only_error, refused};

/// Asserts that each text has one error, with a pointer and a part of its message.
fn each_is_one_error(cases: &[(String, &str, &str)]) {
    for (text, pointer, part) in cases {
        let error = only_error(text);
        assert_eq!(error.pointer, *pointer, "{error}");
        assert!(error.message.contains(*part), "{part:?} in {error}");
    }
}

#[test]
fn of_the_file_its_listeners_and_its_logs() {
    each_is_one_error(&[
        ("".to_owned(), "", "\"listener\" is missing"),
        ("listener = []\n".to_owned(), "/listener", "no listener"),
        ("[listener]\nname = \"a\"\n".to_owned(), "/listener", "expected a list"),
        (format!("workers = 0\n{SOUND}"), "/workers", "out of range"),
        (format!("workers = -1\n{SOUND}"), "/workers", "out of range"),
        (format!("workers = 99999999999999999999\n{SOUND}"), "/workers", "out of range"),
        (format!("{SOUND}[admin]\nlisten = \"0.0.0.0:1\"\n"), "/admin/listen", "loopback"),
        (format!("{SOUND}[admin]\nlisten = \"unix:\"\n"), "/admin/listen", "unix socket"),
        (format!("{SOUND}[admin]\n"), "/admin", "\"listen\" is missing"),
        (format!("{SOUND}[admin]\nlisten = \"127.0.0.1:1\"\ntokens = \"\"\n"), "/admin/tokens", "no path"),
        (format!("{SOUND}[health]\n"), "/health", "says nothing"),
        (format!("{SOUND}[health]\nrequires = [\"rde\"]\n"), "/health/requires/0", "no pool \"rde\""),
        (format!("{SOUND}[health]\nlisten = \"everywhere\"\n"), "/health/listen", "address"),
        (format!("{SOUND}[health]\nlisten = \"0.0.0.0:8080\"\n"), "/health/listen", "not free"),
        (
            format!("{SOUND}[admin]\nlisten = \"127.0.0.1:1\"\n[health]\nlisten = \"127.0.0.1:1\"\n"),
            "/health/listen",
            "not free",
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
        (
            format!("{SOUND}[access_log]\npath = \"-\"\nformat = \"{{stauts}}\"\n"),
            "/access_log/format",
            "no field",
        ),
        (format!("{SOUND}[access_log]\npath = \"-\"\nsample = 0\n"), "/access_log/sample", "logs nothing"),
        (format!("{SOUND}[shutdown]\ndelay = \"soon\"\n"), "/shutdown/delay", "no duration"),
    ]);
}

#[test]
fn of_pools() {
    let red = |rest: &str| format!("{SOUND}[pool.red]\nendpoints = []\n{rest}\n");
    each_is_one_error(&[
        (format!("{LISTENER}[[pool]]\n"), "/pool", "expected a table"),
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
            format!("{SOUND}[pool.red]\nendpoints = [\"127.0.0.1:7\", \"[::ffff:127.0.0.1]:7\"]\n"),
            "/pool/red/endpoints/1",
            "twice",
        ),
        (
            format!("{SOUND}[pool.red]\nendpoints = [\"[::ffff:0.0.0.0]:1\"]\n"),
            "/pool/red/endpoints/0",
            "every address",
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
        (red("protocol = \"auto\""), "/pool/red/protocol", "handshake"),
        (red("protocol = \"spdy\""), "/pool/red/protocol", "spdy"),
        (red("tls = { name = \"a b\" }"), "/pool/red/tls/name", "no name"),
        (red("tls = { cert = \"a.pem\" }"), "/pool/red/tls/cert", "without its key"),
        (red("tls = { key = \"a.key\" }"), "/pool/red/tls/key", "without its certificate"),
        (red("tls = { ca = \"\" }"), "/pool/red/tls/ca", "no path"),
        (red("tls = { ca = \"a.pem\", verify = false }"), "/pool/red/tls/ca", "nobody looks at"),
        (
            format!("{SOUND}[pool.red]\nendpoints = [\"a.test:1\", \"b.test:1\"]\ntls = {{}}\n"),
            "/pool/red/tls",
            "several names",
        ),
        (red("max_connections = 0"), "/pool/red/max_connections", "out of range"),
        (red("adaptive = { min = 10, max = 9 }"), "/pool/red/adaptive", "from 10 to 9"),
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
    ]);
}

#[test]
fn of_splits_and_pins() {
    let sticky = |rest: &str| format!("{SOUND}[split.x]\nweights = {{ blue = 1 }}\nsticky = {{ {rest} }}\n");
    each_is_one_error(&[
        (sticky("ttl = \"1h\""), "/split/x/sticky", "\"cookie\" is missing"),
        (sticky("cookie = \"a b\""), "/split/x/sticky/cookie", "no name"),
        (sticky("cookie = \"a\", same_site = \"none\""), "/split/x/sticky/same_site", "not Secure"),
        (sticky("cookie = \"__Host-a\""), "/split/x/sticky/cookie", "browsers drop"),
        (sticky("cookie = \"a\", path = \"/a;b\""), "/split/x/sticky/path", "can't stand"),
        (format!("{SOUND}[pins]\nkey_file = \"\"\n"), "/pins/key_file", "no path"),
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
    ]);
}

#[test]
fn of_routes() {
    let route = |rest: &str| format!("{SOUND}[[route]]\nname = \"r\"\n{rest}\n");
    each_is_one_error(&[
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
    ]);
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
