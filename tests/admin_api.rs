//! The admin API over real sockets: each call, and what a clumsy or hostile client gets.

mod admin_support;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use admin_support::{Answer, Instance, config, name, raw_unix};
use serde_json::{Value, json};
use switchback::{
    app::control_plane::ControlPlane,
    config::AdminAddress,
    control::lifecycle::Phase,
    telemetry::{histogram::Measured, registry::Key},
};

const WEIGHTS: &str = "/v1/splits/shop/weights";
const SWITCH: &str = "/v1/splits/shop/switch";
const ROLLBACK: &str = "/v1/splits/shop/rollback";

fn put(instance: &Instance, body: &str) -> Answer {
    instance.call("PUT", WEIGHTS, Some(body))
}

/// Asserts the status, kind and (first) pointer of a refusal, and that it is one.
fn assert_problem(answer: &Answer, status: u16, kind: &str, pointer: Option<&str>) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], json!(status));
    assert_eq!(problem["type"], json!(format!("urn:switchback:problem:{kind}")));
    assert_eq!(problem.get("pointer").and_then(Value::as_str), pointer, "{problem}");
    problem
}

#[test]
fn a_put_is_in_force_and_reads_back_as_it_was_put() {
    let instance = Instance::start();
    let first = instance.get("/v1/splits/shop").json();
    assert_eq!(first["weights"], json!({"blue": 95, "green": 5, "old": 0}));
    assert_eq!((&first["revision"], &first["changed_by"]["origin"]), (&json!(0), &json!("file")));
    let answer = put(&instance, r#"{"green": 10, "blue": 90, "old": 0}"#);
    assert_eq!(answer.status, 200);
    let change = answer.json();
    assert_eq!((&change["revision"], &change["changed"]), (&json!(1), &json!(true)));
    assert_eq!(change["previous"], json!({"blue": 95, "green": 5, "old": 0}));
    let split = instance.get("/v1/splits/shop").json();
    assert_eq!(split["weights"], json!({"blue": 90, "green": 10, "old": 0}));
    assert_eq!((&split["revision"], &split["changed_by"]["origin"]), (&json!(1), &json!("api")));
    let arms: Vec<_> = instance.plane.live.table().splits[0].arms.iter().map(|arm| arm.weight).collect();
    assert_eq!(arms, [90, 10, 0], "the published table has them");
    assert_eq!(instance.get("/v1/splits").json()["splits"][0]["weights"], split["weights"]);
    let again = put(&instance, r#"{"green": 10, "blue": 90}"#).json();
    assert_eq!((&again["revision"], &again["changed"]), (&json!(1), &json!(false)));
}

#[test]
fn a_wrong_set_of_weights_is_refused_with_all_its_faults_and_changes_nothing() {
    let instance = Instance::start();
    let problem = assert_problem(
        &put(&instance, r#"{"gren": 1, "blue": 1000001, "green": 5, "green": 6}"#),
        422,
        "invalid-weights",
        Some("/gren"),
    );
    assert_eq!(problem["allowed"], json!(["blue", "green", "old"]));
    assert_eq!(problem["errors"][0]["did_you_mean"], json!("green"));
    let pointers: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/gren", "/blue", "/green"]);
    for (body, status, kind, pointer) in [
        (r#"{"blue": 0, "green": 0}"#, 422, "invalid-weights", Some("")),
        ("{}", 422, "invalid-weights", Some("")),
        (r#"{"a/b~c": 1}"#, 422, "invalid-weights", Some("/a~1b~0c")),
        (r#"{"blue": -1}"#, 422, "invalid-body", Some("/blue")),
        (r#"{"blue": 1.5}"#, 422, "invalid-body", Some("/blue")),
        (r#"{"blue": "90"}"#, 422, "invalid-body", Some("/blue")),
        (r#"{"blue": null}"#, 422, "invalid-body", Some("/blue")),
        (r#"{"blue": 99999999999999999999999}"#, 422, "invalid-body", Some("/blue")),
        ("[1]", 422, "invalid-body", Some("")),
        ("null", 422, "invalid-body", Some("")),
        (r#"{"blue": 1"#, 400, "malformed-json", Some("")),
        (r#"{"blue": 1} x"#, 400, "malformed-json", Some("")),
        ("\u{feff}{}", 400, "malformed-json", Some("")),
    ] {
        assert_problem(&put(&instance, body), status, kind, pointer);
    }
    assert_problem(&instance.call("PUT", WEIGHTS, None), 400, "no-body", Some(""));
    let nested = format!("{{\"blue\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_problem(&put(&instance, &nested), 400, "malformed-json", Some(""));
    assert_eq!(instance.get("/v1/status").json()["revision"], json!(0));
    assert_eq!(instance.plane.live.table().generation, 1);
}

#[test]
fn a_switch_moves_everything_and_a_rollback_brings_it_back_once() {
    let instance = Instance::start();
    for green in [25, 50] {
        put(&instance, &format!(r#"{{"blue": {}, "green": {green}}}"#, 100 - green));
    }
    let switched = instance.call("POST", SWITCH, Some(r#"{"to": "green"}"#)).json();
    assert_eq!(switched["weights"], json!({"blue": 0, "green": 100, "old": 0}));
    let back = instance.call("POST", ROLLBACK, None).json();
    assert_eq!(back["weights"], json!({"blue": 95, "green": 5, "old": 0}));
    assert_eq!((&back["revision"], &back["changed"]), (&json!(4), &json!(true)));
    let again = instance.call("POST", ROLLBACK, Some("{}")).json();
    assert_eq!((&again["revision"], &again["changed"]), (&json!(4), &json!(false)));
    let third = instance.call("POST", ROLLBACK, Some(r#"{"revision": 3}"#)).json();
    assert_eq!(third["weights"], json!({"blue": 0, "green": 100, "old": 0}));
    let missing = instance.call("POST", ROLLBACK, Some(r#"{"revision": 6}"#));
    let problem = assert_problem(&missing, 422, "unknown-revision", Some("/revision"));
    assert_eq!(problem["allowed"], json!(["0 to 5"]));
}

#[test]
fn a_wrong_switch_or_rollback_is_refused_by_its_pointer() {
    let instance = Instance::start();
    for (path, body, kind, pointer) in [
        (SWITCH, r#"{"to": "gren"}"#, "unknown-pool", "/to"),
        (SWITCH, r#"{"to": 1}"#, "invalid-body", "/to"),
        (SWITCH, "{}", "invalid-body", "/to"),
        (SWITCH, r#"{"to": "green", "too": 1}"#, "invalid-body", "/too"),
        (SWITCH, r#"{"to": "green", "to": "blue"}"#, "invalid-body", "/to"),
        (ROLLBACK, r#"{"revision": "1"}"#, "invalid-body", "/revision"),
        (ROLLBACK, r#"{"revision": -1}"#, "invalid-body", "/revision"),
        (ROLLBACK, r#"{"to_revision": 1}"#, "invalid-body", "/to_revision"),
    ] {
        assert_problem(&instance.call("POST", path, Some(body)), 422, kind, Some(pointer));
    }
    let unknown = instance.call("POST", "/v1/splits/shp/switch", Some(r#"{"to": "green"}"#));
    let problem = assert_problem(&unknown, 404, "unknown-split", None);
    assert_eq!(problem["errors"][0]["did_you_mean"], json!("shop"));
    assert_eq!(instance.get("/v1/status").json()["revision"], json!(0));
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let instance = Instance::start();
    for (method, path, body) in [
        ("PUT", WEIGHTS, r#"{"green": 1}"#),
        ("POST", SWITCH, r#"{"to": "green"}"#),
        ("POST", ROLLBACK, r#"{"revision": 0}"#),
    ] {
        let answer = instance.call(method, &format!("{path}?dry_run=true"), Some(body));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["dry_run"], json!(true));
        assert_eq!(answer.json()["changed"], json!(path != ROLLBACK));
        assert_eq!(answer.json()["revision"], json!(0), "the one in force");
    }
    assert_eq!(instance.get("/v1/splits/shop").json()["weights"]["blue"], json!(95));
    assert_eq!(instance.plane.live.table().generation, 1);
    let wrong = instance.call("PUT", &format!("{WEIGHTS}?dry_run=true"), Some(r#"{"blue": 0}"#));
    assert_problem(&wrong, 422, "invalid-weights", Some(""));
}

#[test]
fn changes_at_once_get_a_revision_each_and_the_last_is_in_force() {
    let instance = Instance::start();
    let mut revisions: Vec<(u64, Value)> = std::thread::scope(|scope| {
        let instance = &instance;
        let callers: Vec<_> = (1..=4u64)
            .map(|caller| {
                scope.spawn(move || {
                    let change = |step| {
                        let set = json!({"blue": caller, "green": step, "old": 0}).to_string();
                        let answer = put(instance, &set);
                        assert_eq!(answer.status, 200, "{answer:?}");
                        (answer.json()["revision"].as_u64().unwrap(), answer.json()["weights"].clone())
                    };
                    (1..=25u64).map(change).collect::<Vec<_>>()
                })
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    revisions.sort_by_key(|(revision, _)| *revision);
    let numbers: Vec<_> = revisions.iter().map(|(revision, _)| *revision).collect();
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
    assert_eq!(instance.get("/v1/splits/shop").json()["weights"], revisions[99].1);
    assert_eq!(instance.plane.live.table().generation, 101);
}

#[test]
fn a_query_that_is_not_known_is_refused_before_anything_changes() {
    let instance = Instance::start();
    for query in ["dryrun=true", "dry_run=1", "wait=drained", "dry_run=true&dry_run=true", "a=%ff"] {
        let answer = instance.call("PUT", &format!("{WEIGHTS}?{query}"), Some(r#"{"green": 1}"#));
        assert_problem(&answer, 400, "invalid-query", None);
    }
    let long =
        instance.call("POST", &format!("{SWITCH}?wait=drained&timeout=1h"), Some(r#"{"to": "green"}"#));
    let problem = assert_problem(&long, 400, "invalid-query", None);
    assert_eq!(problem["parameter"], json!("timeout"));
    assert_problem(&instance.get("/v1/status?x=1"), 400, "invalid-query", None);
    assert_eq!(instance.plane.live.table().generation, 1);
}

#[test]
fn a_body_of_many_faults_gets_an_answer_of_few() {
    let instance = Instance::start();
    let named = |count: usize| -> serde_json::Map<String, Value> {
        (0..count).map(|number| (format!("p{number}"), json!(1))).collect()
    };
    let path = "/v1/splits/shop/weights";
    let refused = instance.call("PUT", path, Some(&Value::from(named(60)).to_string()));
    assert_eq!(refused.status, 422);
    let problem = refused.json();
    assert_eq!(problem["errors"].as_array().map(Vec::len), Some(50));
    assert_eq!(problem["omitted"], json!(10));
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.ends_with("and 10 more")), "{problem}");
    let refused = instance.call("PUT", path, Some(&Value::from(named(10_000)).to_string()));
    assert_eq!((refused.status, refused.body.len() < 1000), (422, true), "{}", refused.body);
}

#[test]
fn a_wait_over_the_limit_is_refused_before_anything_changes() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    let call = || instance.call("POST", &format!("{SWITCH}?wait=drained"), Some(r#"{"to": "green"}"#));
    std::thread::scope(|scope| {
        let waits: Vec<_> = (0..33).map(|_| scope.spawn(call)).collect();
        // One more than may wait: it is the only one that is answered while blue is busy.
        while !waits.iter().any(|wait| wait.is_finished()) {
            std::thread::yield_now();
        }
        instance.occupy("blue", false);
        let answers: Vec<_> = waits.into_iter().map(|wait| wait.join().unwrap()).collect();
        let (refused, done): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 503);
        assert_eq!((refused.len(), done.len()), (1, 32));
        assert_eq!(refused[0].header("retry-after"), Some("5"));
        assert!(done.iter().all(|answer| answer.json()["drained"] == json!(true)));
    });
}

#[test]
fn a_waiting_switch_answers_when_the_others_are_idle_or_says_what_is_left() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    let begun = Instant::now();
    let path = format!("{SWITCH}?wait=drained&timeout=50ms");
    let left = instance.call("POST", &path, Some(r#"{"to": "green"}"#));
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(left.status, 200);
    assert_eq!((&left.json()["drained"], &left.json()["in_flight"]["blue"]), (&json!(false), &json!(1)));
    // On green, which takes the traffic, requests may be in flight for ever.
    instance.occupy("green", true);
    let path = format!("{SWITCH}?wait=drained");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| instance.call("POST", &path, Some(r#"{"to": "green"}"#)));
        // Other calls are answered meanwhile.
        assert_eq!(instance.get("/livez").status, 200);
        assert!(!waiting.is_finished());
        instance.occupy("blue", false);
        let drained = waiting.join().unwrap().json();
        assert_eq!(drained["drained"], json!(true));
        assert_eq!(drained["in_flight"], json!({"blue": 0, "old": 0}));
    });
}

#[test]
fn the_realised_share_is_counted_anew_from_each_change() {
    let instance = Instance::start();
    let split = || instance.get("/v1/splits/shop").json();
    assert_eq!(split()["share"], json!({"blue": 0.0, "green": 0.0, "old": 0.0}));
    instance.count("blue", 9);
    instance.count("green", 1);
    assert_eq!(split()["share"], json!({"blue": 0.9, "green": 0.1, "old": 0.0}));
    put(&instance, r#"{"blue": 1, "green": 1}"#);
    assert_eq!(split()["requests"], json!({"blue": 0, "green": 0, "old": 0}));
    instance.count("blue", 3);
    instance.count("green", 3);
    assert_eq!(split()["share"], json!({"blue": 0.5, "green": 0.5, "old": 0.0}));
    assert_eq!(split()["since_start"]["requests"], json!({"blue": 12, "green": 4, "old": 0}));
}

#[test]
fn pools_and_status_show_what_is_there() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    let pool = instance.get("/v1/pools/blue").json();
    assert_eq!((&pool["in_flight"], &pool["available"]), (&json!(1), &json!(1)));
    assert_eq!(pool["splits"], json!({"shop": 95}));
    assert_eq!(pool["endpoints"][0]["address"], json!("127.0.0.1:9001"));
    assert_eq!(pool["endpoints"][0]["state"], json!("available"));
    assert_eq!(instance.get("/v1/pools").json()["pools"][0], pool);
    let problem = assert_problem(&instance.get("/v1/pools/bleu"), 404, "unknown-pool", None);
    assert_eq!(problem["errors"][0]["did_you_mean"], json!("blue"));
    assert_problem(&instance.get("/v1/splits/%ff"), 400, "invalid-path", None);
    let status = instance.get("/v1/status").json();
    assert_eq!((&status["generation"], &status["phase"]), (&json!(1), &json!("ready")));
    assert_eq!(status["routes"][0]["split"], json!("shop"));
    assert_eq!(status["durable"], json!(false));
    assert_eq!(status["totals"], json!({"listeners": 1, "routes": 1, "splits": 1, "pools": 3}));
}

#[test]
fn readiness_follows_the_lifecycle_and_liveness_does_not() {
    let instance = Instance::start();
    assert_eq!(instance.get("/readyz").status, 200);
    assert_eq!(instance.call("HEAD", "/readyz", None).status, 200);
    instance.plane.lifecycle.advance(Phase::Draining);
    let answer = instance.get("/readyz");
    assert_eq!((answer.status, &answer.json()["phase"]), (503, &json!("draining")));
    assert_eq!(instance.get("/livez").status, 200);
}

#[test]
fn web_pages_are_kept_out() {
    let instance = Instance::start();
    let own = instance.address();
    let with = |host: &str, fields: &str| {
        instance.raw(&format!("GET /v1/status HTTP/1.1\r\n{host}Connection: close\r\n{fields}\r\n"))
    };
    for host in
        ["Host: evil.example\r\n", "", "Host: 10.0.0.1:9900\r\n", "Host: localhost\r\nHost: localhost\r\n"]
    {
        assert_problem(&with(host, ""), 403, "foreign-host", None);
    }
    for host in ["Host: localhost\r\n", "Host: [::1]:1\r\n", "Host: 127.0.0.1\r\n"] {
        assert_eq!(with(host, "").status, 200, "{host}");
    }
    let host = format!("Host: {own}\r\n");
    for fields in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost:3000\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        assert_problem(&with(&host, fields), 403, "foreign-origin", None);
    }
    let same = format!("Origin: http://{own}\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(with(&host, &same).status, 200);
    let absolute = instance
        .raw("GET http://evil.example/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_problem(&absolute, 403, "foreign-host", None);
}

#[test]
fn what_is_not_there_or_not_taken_says_what_is() {
    let instance = Instance::start();
    let problem = assert_problem(&instance.get("/v2/x"), 404, "unknown-path", None);
    assert!(problem["allowed"].as_array().unwrap().contains(&json!("GET /v1/status")));
    let answer = instance.call("DELETE", WEIGHTS, None);
    assert_problem(&answer, 405, "wrong-method", None);
    assert_eq!(answer.header("allow"), Some("put"));
    assert_eq!(instance.call("POST", "/metrics", None).header("allow"), Some("get,head"));
}

#[test]
fn a_body_is_json_and_at_most_a_mebibyte() {
    let instance = Instance::start();
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        assert_problem(&instance.call_with("PUT", WEIGHTS, kind, r#"{"green": 1}"#), 415, "not-json", None);
    }
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    let full = format!("{}{{\"green\": 1}}", " ".repeat((1 << 20) - 12));
    assert_eq!(instance.call_with("PUT", WEIGHTS, json, &full).status, 200);
    let over = format!(" {full}");
    assert_problem(&instance.call_with("PUT", WEIGHTS, json, &over), 413, "body-too-large", None);
    // Announced alone is enough; and a chunked body can't hide its size.
    let announced = format!(
        "PUT {WEIGHTS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2000000\r\n\r\n"
    );
    let chunked = format!(
        "PUT {WEIGHTS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{over}\r\n0\r\n\r\n",
        over.len()
    );
    for request in [announced, chunked] {
        assert_problem(&instance.raw(&request), 413, "body-too-large", None);
    }
}

#[test]
fn a_head_that_is_not_http_is_refused_and_a_huge_one_ends() {
    let instance = Instance::start();
    assert_eq!(instance.raw("nonsense\r\n\r\n").status, 400);
    let huge = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1 << 18));
    assert_eq!(instance.raw(&huge).status, 431);
    assert_eq!(instance.get("/livez").status, 200);
}

#[test]
fn one_connection_serves_many_calls() {
    let instance = Instance::start();
    let mut stream = TcpStream::connect(instance.address()).unwrap();
    let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"{\"alive\":true}") {
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    }
}

#[test]
fn a_taken_address_is_said_and_a_stopped_instance_frees_it() {
    let instance = Instance::start();
    let admin = AdminAddress::Tcp(instance.address());
    let taken =
        ControlPlane::start(config(admin.clone()).into(), Default::default(), None).unwrap_err().to_string();
    assert!(taken.contains(&instance.address().to_string()) && taken.contains("another instance"), "{taken}");
    let idle = TcpStream::connect(instance.address()).unwrap();
    instance.plane.stop();
    Instance::at(admin);
    drop(idle);
}

#[test]
fn a_unix_socket_is_its_owner_s_and_a_stale_one_is_replaced() {
    let folder = std::env::temp_dir().join(format!("switchback-admin-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("admin.sock");
    // A socket that nobody listens on any more, as a killed process leaves it.
    drop(UnixListener::bind(&path).unwrap());
    let instance = Instance::at(AdminAddress::Unix(path.clone()));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let request = "GET /readyz HTTP/1.1\r\nHost: switchback\r\nConnection: close\r\n\r\n";
    assert_eq!(raw_unix(&path, request).status, 200);
    let start = |path: &std::path::Path| {
        ControlPlane::start(config(AdminAddress::Unix(path.to_owned())).into(), Default::default(), None)
    };
    assert!(start(&path).unwrap_err().to_string().contains("another process answers"));
    let file = folder.join("precious");
    std::fs::write(&file, "data").unwrap();
    assert!(start(&file).unwrap_err().to_string().contains("not a socket"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "data");
    instance.plane.stop();
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["precious"], "neither the socket nor anything else is left behind");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn explain_takes_what_a_request_could_be_and_names_what_it_could_not() {
    let instance = Instance::start();
    let explain = |body: &str| instance.call("POST", "/v1/explain", Some(body));
    let body = r#"{"method": "GET", "scheme": "http", "host": "Shop.example.com:80", "path": "/a/../b", "headers": {}}"#;
    let answer = explain(body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let explained = answer.json();
    assert_eq!((&explained["outcome"], &explained["route"]), (&json!("forward"), &json!("shop")));
    assert_eq!(explained["split"], json!("shop"));
    assert!(!explained["steps"].as_array().unwrap().is_empty());
    assert_eq!(instance.call("POST", SWITCH, Some(r#"{"to": "green"}"#)).status, 200);
    let explained = explain(body).json();
    assert_eq!((&explained["pool"], &explained["endpoint"]), (&json!("green"), &json!("127.0.0.1:9011")));
    assert_eq!(explain(r#"{"host": "other.example"}"#).json()["outcome"], json!("no_route"));
    for body in [r#"{"path": "/../x"}"#, r#"{"host": "a/b"}"#] {
        let explained = explain(body).json();
        assert_eq!((&explained["outcome"], &explained["status"]), (&json!("refused"), &json!(400)), "{body}");
    }
    for (body, pointer) in [
        (r#"{"metod": "GET"}"#, "/metod"),
        (r#"{"method": "G T"}"#, "/method"),
        (r#"{"path": "/\r\nx"}"#, "/path"),
        (r#"{"host": "a\r\nb"}"#, "/host"),
        (r#"{"headers": {"x": 1}}"#, "/headers/x"),
        (r#"{"headers": []}"#, "/headers"),
    ] {
        assert_problem(&explain(body), 422, "invalid-body", Some(pointer));
    }
}

/// The metrics of an instance that has counted something in every scope.
fn metrics() -> String {
    let instance = Instance::start();
    let address = "127.0.0.1:9001".parse().expect("an address");
    let millis = |count| Measured::new(Duration::from_millis(count));
    for key in [Key::Route(name("shop")), Key::Split(name("shop"), name("blue")), Key::Pool(name("blue"))] {
        let slot = instance.series.declare(&key);
        instance.series.traffic(slot).finished(200, millis(1), millis(2));
    }
    instance.series.endpoint(&name("blue"), address).traffic().finished(200, millis(1), millis(2));
    instance.series.worker().generation.add(1);
    put(&instance, r#"{"blue": 1}"#);
    put(&instance, r#"{"blu": 1}"#);
    let answer = instance.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    answer.body
}

#[test]
fn the_metrics_tell_what_was_counted() {
    let text = metrics();
    for line in [
        r#"switchback_route_requests_total{route="shop",code_class="2xx"} 1"#,
        r#"switchback_split_requests_total{split="shop",pool="blue",code_class="2xx"} 1"#,
        r#"switchback_endpoint_request_duration_seconds_count{pool="blue",endpoint="127.0.0.1:9001"} 1"#,
        r#"switchback_split_weight{split="shop",pool="blue"} 1"#,
        r#"switchback_changes_total{kind="weights",result="applied"} 1"#,
        r#"switchback_changes_total{kind="weights",result="refused"} 1"#,
        r#"switchback_worker_table_generation{worker="0"} 1"#,
        "switchback_table_generation 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn every_metric_is_in_the_document_and_every_one_in_it_is_there() {
    let text = metrics();
    let rendered: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let document = include_str!("../docs/metrics.md");
    let documented: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("switchback_") || name.starts_with("process_"))
        .collect();
    assert!(!rendered.is_empty());
    assert_eq!(rendered, documented);
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        eprintln!("skipped: promtool (Debian's prometheus package) is not installed");
        return;
    };
    promtool.stdin.take().unwrap().write_all(metrics().as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(
        said.status.success(),
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
    assert!(said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
}
