//! Changes by the admin API that several callers make, repeat and look at: what is acknowledged is there once, and on
//! the state that its caller has seen.

mod admin_support;

use std::{
    collections::BTreeMap,
    fs::File,
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use admin_support::{Answer, Instance};
use rustix::fs::FlockOperation;
use serde_json::{Value, json};
use switchback::config::StatePlace;

const SPLIT: &str = "/v1/splits/shop";
const WEIGHTS: &str = "/v1/splits/shop/weights";
const SWITCH: &str = "/v1/splits/shop/switch";
const ENDPOINT: &str = "/v1/pools/blue/endpoints/127.0.0.1:9001";
const MERGE: &str = "Content-Type: application/merge-patch+json\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

fn kind(answer: &Answer) -> String {
    let kind = answer.json()["type"].as_str().expect("a problem").to_owned();
    kind.strip_prefix("urn:switchback:problem:").expect("our problem").to_owned()
}

fn tag(answer: &Answer) -> String {
    answer.header("etag").unwrap_or_else(|| panic!("no tag: {answer:?}")).to_owned()
}

fn assert_refused(answer: &Answer, status: u16, of_kind: &str) {
    assert_eq!((answer.status, kind(answer).as_str()), (status, of_kind), "{answer:?}");
}

fn put(instance: &Instance, fields: &str, body: &str) -> Answer {
    instance.call_with("PUT", WEIGHTS, &format!("{JSON}{fields}"), body)
}

#[test]
fn a_change_on_a_state_that_has_moved_is_refused_with_what_is_in_force() {
    let instance = Instance::start();
    let seen = tag(&instance.get(SPLIT));
    let first = put(&instance, &format!("If-Match: {seen}\r\n"), r#"{"blue": 90, "green": 10}"#);
    assert_eq!(first.status, 200, "{first:?}");
    assert_ne!(tag(&first), seen);
    assert_eq!(tag(&first), tag(&instance.get(SPLIT)), "the answer has the tag that is read afterwards");
    for query in ["", "?dry_run=true"] {
        let path = format!("{WEIGHTS}{query}");
        let fields = format!("{JSON}If-Match: {seen}\r\n");
        let late = instance.call_with("PUT", &path, &fields, r#"{"blue": 1}"#);
        assert_refused(&late, 412, "moved");
        assert_eq!(tag(&late), tag(&first));
        let current = json!({"revision": 1, "weights": {"blue": 90, "green": 10, "old": 0}});
        assert_eq!(late.json()["current"], current);
    }
    for (condition, status) in [
        (format!("\"r77\", {}", tag(&first)), 200),
        ("*".into(), 200),
        (format!("W/{}", tag(&first)), 412),
        ("\"r1\"".into(), 412),
        ("r1".into(), 400),
        ("\"r1".into(), 400),
        ("".into(), 400),
    ] {
        let answer = put(&instance, &format!("If-Match: {condition}\r\n"), r#"{"blue": 90, "green": 10}"#);
        assert_eq!(answer.status, status, "{condition}: {answer:?}");
    }
    // Another object's change moves this one's tag as little as a request does.
    instance.call("POST", &format!("{ENDPOINT}/drain"), None);
    instance.count("blue", 10);
    assert_eq!(tag(&instance.get(SPLIT)), tag(&first));
    let unknown = instance.call_with(
        "POST",
        "/v1/splits/shp/switch",
        &format!("{JSON}If-Match: \"r9\"\r\n"),
        r#"{"to":"blue"}"#,
    );
    assert_refused(&unknown, 404, "unknown-split");
}

#[test]
fn every_object_that_can_be_read_has_a_tag_and_a_reader_who_has_seen_it_gets_304() {
    let instance = Instance::start();
    put(&instance, "", r#"{"green": 1}"#);
    let paths = [
        "/v1/status",
        "/v1/splits",
        SPLIT,
        "/v1/pools",
        "/v1/pools/blue",
        "/v1/revisions",
        "/v1/revisions/1",
    ];
    for path in paths {
        let tag = tag(&instance.get(path));
        let again = instance.call_with("GET", path, &format!("If-None-Match: \"x\", W/{tag}\r\n"), "");
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
        assert_eq!(again.header("etag"), Some(tag.as_str()));
        assert_eq!(instance.call_with("GET", path, "If-None-Match: \"x\"\r\n", "").status, 200, "{path}");
        assert_refused(&instance.call_with("GET", path, "If-None-Match: x\r\n", ""), 400, "invalid-field");
    }
}

#[test]
fn writers_that_heed_if_match_never_overwrite_each_other() {
    const WRITERS: usize = 6;
    const EACH: usize = 8;
    let instance = Instance::start();
    let begin = Barrier::new(WRITERS);
    let refused = AtomicU64::new(0);
    // Each adds one to the weight that it has read, as a pipeline would: a lost update loses a one.
    let acknowledged: Vec<(u64, u64)> = thread::scope(|scope| {
        let writer = |_| {
            begin.wait();
            let mut done = Vec::new();
            while done.len() < EACH {
                let read = instance.get(SPLIT);
                let green = read.json()["weights"]["green"].as_u64().expect("a weight") + 1;
                let body = format!(r#"{{"blue": 95, "green": {green}}}"#);
                let answer = put(&instance, &format!("If-Match: {}\r\n", tag(&read)), &body);
                match answer.status {
                    200 => done.push((answer.json()["revision"].as_u64().expect("a revision"), green)),
                    412 | 503 => drop(refused.fetch_add(1, Ordering::Relaxed)),
                    other => panic!("{other}: {answer:?}"),
                }
            }
            done
        };
        let writers: Vec<_> = (0..WRITERS).map(|number| scope.spawn(move || writer(number))).collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("no writer panics")).collect()
    });
    println!("{} calls were refused on the way", refused.load(Ordering::Relaxed));
    let by_revision: BTreeMap<_, _> = acknowledged.into_iter().collect();
    let expected: BTreeMap<_, _> = (1..=(WRITERS * EACH) as u64).map(|number| (number, number + 5)).collect();
    assert_eq!(
        by_revision, expected,
        "every acknowledged change is there once, in order, on the one before it"
    );
    assert_eq!(history(&instance), expected, "and so it is written down");
}

/// The weight of green after each revision, read page by page.
fn history(instance: &Instance) -> BTreeMap<u64, u64> {
    let mut found = BTreeMap::new();
    let mut next = Some("/v1/revisions?limit=7".to_owned());
    while let Some(path) = next {
        let page = instance.get(&path).json();
        for revision in page["revisions"].as_array().expect("a list") {
            let number = revision["revision"].as_u64().expect("a number");
            let whole = instance.get(&format!("/v1/revisions/{number}")).json();
            let green = whole["state"]["weights"]["shop"]["green"].as_u64().expect("a weight");
            assert!(found.insert(number, green).is_none(), "revision {number} is listed twice");
        }
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(found.remove(&0), Some(5), "the declaration is the first");
    found
}

#[test]
fn a_repeated_call_with_a_key_is_done_once_however_many_repeat_it() {
    let instance = Instance::start();
    let begin = Barrier::new(8);
    let answers: Vec<Answer> = thread::scope(|scope| {
        let caller = || {
            begin.wait();
            instance.call_with(
                "POST",
                &format!("{SWITCH}?wait=drained&timeout=5s"),
                &format!("{JSON}Idempotency-Key: one\r\n"),
                r#"{"to": "green", "reason": "a release"}"#,
            )
        };
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().map(|caller| caller.join().expect("no caller panics")).collect()
    });
    let fresh = answers.iter().filter(|answer| answer.header("idempotency-replayed").is_none()).count();
    assert_eq!(fresh, 1);
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &answers[0].body));
    }
    // Another change does not make the answer another one, nor is the call done again.
    put(&instance, "", r#"{"blue": 1}"#);
    let path = format!("{SWITCH}?wait=drained&timeout=5s");
    let call = |path: &str, key: &str, body: &str| {
        instance.call_with("POST", path, &format!("{JSON}Idempotency-Key: {key}\r\n"), body)
    };
    let body = r#"{"to": "green", "reason": "a release"}"#;
    let late = call(&path, "one", body);
    assert_eq!(
        (late.header("idempotency-replayed"), late.json()["revision"].as_u64()),
        (Some("true"), Some(1))
    );
    assert_eq!(instance.get(SPLIT).json()["weights"]["blue"], json!(1));
    for (path, body) in [(SWITCH, body), (path.as_str(), r#"{"to": "blue"}"#)] {
        assert_refused(&call(path, "one", body), 422, "other-call");
    }
    assert_refused(&call(SWITCH, &"x".repeat(256), body), 400, "invalid-field");
    assert_refused(&call(SWITCH, "a b", body), 400, "invalid-field");
    // A dry run uses no key up, and a refused call has none to be remembered by.
    assert_eq!(call(&format!("{SWITCH}?dry_run=true"), "two", body).status, 200);
    assert_refused(&call(SWITCH, "two", r#"{"to": "gren"}"#), 422, "unknown-pool");
    let used = call(SWITCH, "two", body);
    assert_eq!((used.status, used.header("idempotency-replayed")), (200, None));
    assert_eq!(instance.get("/v1/status").json()["revision"], json!(3));
}

/// Stops an instance and waits until it has let go of its database, as a supervisor waits for the end of a process.
fn stop(instance: Instance, folder: &Path) {
    instance.plane.stop();
    let lock = File::open(folder.join("switchback.db.lock")).expect("the lock of the database");
    let begun = Instant::now();
    while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the database is still in use");
        thread::yield_now();
    }
}

#[test]
fn tags_and_keys_hold_over_a_restart_where_the_state_does() {
    let folder = std::env::temp_dir().join(format!("switchback-changes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of our own");
    let start =
        || Instance::with(|config| config.state = Some(StatePlace::File(folder.join("switchback.db"))));
    let call = |instance: &Instance, tag: &str| {
        put(instance, &format!("If-Match: {tag}\r\nIdempotency-Key: one\r\n"), r#"{"green": 5}"#)
    };
    let instance = start();
    let seen = tag(&instance.get(SPLIT));
    assert_eq!(seen, "\"r0\"");
    let first = call(&instance, &seen);
    assert_eq!((first.status, tag(&first).as_str()), (200, "\"r1\""), "{first:?}");
    stop(instance, &folder);

    let instance = start();
    let again = call(&instance, &seen);
    assert_eq!(
        (again.status, &again.body),
        (200, &first.body),
        "it was done, though its tag is an old one by now"
    );
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(tag(&instance.get(SPLIT)), "\"r1\"");
    assert_refused(&put(&instance, &format!("If-Match: {seen}\r\n"), r#"{"green": 6}"#), 412, "moved");
    assert_eq!(put(&instance, "If-Match: \"r1\"\r\n", r#"{"green": 6}"#).status, 200);
    stop(instance, &folder);
    std::fs::remove_dir_all(&folder).expect("our own folder");

    // Numbers that begin anew name something else, and nothing that was seen before.
    let (before, after) = (Instance::start(), Instance::start());
    let seen = tag(&before.get(SPLIT));
    assert_refused(&put(&after, &format!("If-Match: {seen}\r\n"), r#"{"green": 6}"#), 412, "moved");
}

#[test]
fn a_merge_patch_moves_what_it_names_and_nothing_else() {
    let instance = Instance::start();
    let patch = |path: &str, body: &str| instance.call_with("PATCH", path, MERGE, body);
    let answer = patch(SPLIT, r#"{"weights": {"green": 10}, "reason": "a little more"}"#);
    assert_eq!(answer.json()["weights"], json!({"blue": 95, "green": 10, "old": 0}), "{answer:?}");
    assert_eq!(patch(SPLIT, r#"{"weights": {"blue": null}}"#).json()["weights"]["blue"], json!(0));
    assert_eq!(patch(SPLIT, "{}").json()["changed"], json!(false));
    instance.call("POST", &format!("{ENDPOINT}/drain"), None);
    let endpoint = patch(ENDPOINT, r#"{"weight": 3}"#).json();
    assert_eq!((&endpoint["endpoint"]["weight"], &endpoint["changed"]), (&json!(3), &json!(true)));
    assert!(endpoint["endpoint"]["drain"].is_object(), "its drain goes on: {endpoint}");
    assert_eq!(patch(ENDPOINT, r#"{"weight": null}"#).json()["endpoint"]["weight"], json!(1));
    assert_refused(
        &patch("/v1/pools/blue/endpoints/127.0.0.1:9999", r#"{"weight": 3}"#),
        404,
        "unknown-endpoint",
    );
    for (path, body, status, of_kind) in [
        (SPLIT, r#"{"weights": {"green": 0}}"#, 422, "invalid-weights"),
        (SPLIT, r#"{"weights": {"gren": 1}}"#, 422, "invalid-weights"),
        (SPLIT, r#"{"weights": {"green": -1}}"#, 422, "invalid-body"),
        (SPLIT, r#"{"weights": {"green": 1, "green": 2}}"#, 422, "invalid-body"),
        (SPLIT, r#"{"weights": null}"#, 422, "invalid-body"),
        (SPLIT, r#"{"name": "x"}"#, 422, "invalid-body"),
        (SPLIT, "[]", 422, "invalid-body"),
        (SPLIT, "", 400, "no-body"),
        (ENDPOINT, r#"{"weight": 1000001}"#, 422, "invalid-body"),
        (ENDPOINT, r#"{"weight": "3"}"#, 422, "invalid-body"),
    ] {
        assert_refused(&patch(path, body), status, of_kind);
    }
    let other = instance.call("PATCH", SPLIT, Some(r#"{"weights": {"green": 1}}"#));
    assert_refused(&other, 415, "not-merge-patch");
    assert_eq!(other.header("accept-patch"), Some("application/merge-patch+json"));
    assert_refused(&instance.call_with("PUT", WEIGHTS, MERGE, r#"{"green": 1}"#), 415, "not-json");
}

#[test]
fn a_dry_run_tells_each_difference_in_a_line() {
    let instance = Instance::start();
    let answer = instance.call("POST", &format!("{SWITCH}?dry_run=true"), Some(r#"{"to": "green"}"#)).json();
    assert_eq!(answer["diff"][0]["text"], json!("split shop: blue 95 -> 0, green 5 -> 100"));
    assert_eq!(answer["diff"][0]["before"], json!({"blue": 95, "green": 5, "old": 0}));
    let answer = instance.call("PUT", "/v1/pools/blue/endpoints/127.0.0.1:9002?dry_run=true", None).json();
    assert_eq!(answer["diff"][0]["text"], json!("pool blue: endpoint 127.0.0.1:9002 is added with weight 1"));
    assert_eq!(answer["diff"][0]["before"], Value::Null);
    let answer = instance.call("POST", &format!("{SWITCH}?dry_run=true"), Some(r#"{"to": "green"}"#));
    assert_eq!(answer.header("etag"), None, "what was not made has no tag");
    assert_eq!(instance.get("/v1/status").json()["revision"], json!(0));
}

#[test]
fn the_history_tells_who_did_what_and_why_and_leads_back() {
    let instance = Instance::start();
    put(&instance, "X-Reason: caf\u{e9} \r\n", r#"{"green": 5}"#);
    put(&instance, "X-Reason: a field\r\n", r#"{"green": 5, "blue": 5, "reason": "a member"}"#);
    instance.call("PUT", "/v1/pools/blue/endpoints/127.0.0.1:9002", None);
    let page = instance.get("/v1/revisions?limit=2").json();
    let numbers: Vec<_> =
        page["revisions"].as_array().unwrap().iter().map(|of| of["revision"].clone()).collect();
    assert_eq!(
        (numbers, &page["next"]),
        (vec![json!(3), json!(2)], &json!("/v1/revisions?before=2&limit=2"))
    );
    let rest = instance.get("/v1/revisions?before=2&limit=2").json();
    assert_eq!((&rest["revisions"][0]["reason"], &rest["next"]), (&json!("café"), &Value::Null));
    let second = instance.get("/v1/revisions/2").json();
    assert_eq!(
        (&second["who"], &second["reason"], &second["origin"]),
        (&json!("127.0.0.1"), &json!("a member"), &json!("api"))
    );
    assert_eq!(second["diff"][0]["text"], json!("split shop: blue 0 -> 5"));
    assert_eq!(second["state"]["weights"]["shop"], json!({"blue": 5, "green": 5, "old": 0}));
    assert_eq!(
        instance.get(SPLIT).json()["changed_by"],
        json!({"origin": "api", "who": "127.0.0.1", "reason": "a member"})
    );

    let restore = |query: &str, fields: &str| {
        instance.call_with("POST", &format!("/v1/revisions/1/restore{query}"), fields, "")
    };
    let dry = restore("?dry_run=true", "").json();
    let texts: Vec<_> =
        dry["diff"].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["split shop: blue 5 -> 0", "pool blue: endpoint 127.0.0.1:9002 is removed"]);
    assert_refused(&restore("", "If-Match: \"r2\"\r\n"), 412, "moved");
    let seen = tag(&instance.get("/v1/status"));
    let done = restore("", &format!("If-Match: {seen}\r\n")).json();
    assert_eq!(
        (&done["revision"], &done["restored"], &done["kind"]),
        (&json!(4), &json!(1), &json!("restore"))
    );
    assert_eq!(instance.get(SPLIT).json()["weights"]["blue"], json!(0));
    assert_eq!(restore("", "").json()["changed"], json!(false));
    assert_eq!(restore("", "X-Switchback-Client: cli\r\n").status, 200);

    for (method, path, status, of_kind) in [
        ("GET", "/v1/revisions/99", 404, "unknown-revision"),
        ("POST", "/v1/revisions/99/restore", 404, "unknown-revision"),
        ("GET", "/v1/revisions/18446744073709551615", 404, "unknown-revision"),
        ("GET", "/v1/revisions/-1", 400, "invalid-path"),
        ("GET", "/v1/revisions/x", 400, "invalid-path"),
        ("GET", "/v1/revisions?limit=101", 400, "invalid-query"),
        ("GET", "/v1/revisions?limit=0", 400, "invalid-query"),
        ("GET", "/v1/revisions?before=x", 400, "invalid-query"),
        ("GET", "/v1/revisions?after=1", 400, "invalid-query"),
    ] {
        assert_refused(&instance.call(method, path, None), status, of_kind);
    }
    assert_eq!(instance.get("/v1/revisions?before=0").json()["revisions"], json!([]));
    assert_eq!(
        instance.get("/v1/revisions?before=18446744073709551615").json()["revisions"][0]["revision"],
        json!(4)
    );
    let long = format!("X-Reason: {}\r\n", "x".repeat(1_001));
    assert_refused(&put(&instance, &long, r#"{"green": 5}"#), 400, "invalid-field");
    let long = format!(r#"{{"green": 5, "reason": "{}"}}"#, "x".repeat(1_001));
    assert_refused(&put(&instance, "", &long), 422, "invalid-body");
    assert_refused(&put(&instance, "", r#"{"green": 5, "reason": null}"#), 422, "invalid-body");
}

#[test]
fn where_if_match_is_required_a_change_without_it_is_not_made() {
    let instance = Instance::with(|config| config.require_if_match = true);
    assert_refused(&put(&instance, "", r#"{"green": 5}"#), 428, "if-match-required");
    let dry = instance.call("PUT", &format!("{WEIGHTS}?dry_run=true"), Some(r#"{"green": 5}"#));
    assert_eq!(dry.status, 200, "what changes nothing needs no condition: {dry:?}");
    assert_eq!(instance.get("/v1/status").json()["revision"], json!(0));
    let seen = tag(&instance.get(SPLIT));
    assert_eq!(put(&instance, &format!("If-Match: {seen}\r\n"), r#"{"green": 5}"#).status, 200);
    assert_eq!(put(&instance, "If-Match: *\r\n", r#"{"green": 6}"#).status, 200);
}
