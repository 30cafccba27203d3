//! Draining, adding and removing endpoints by the admin API: what each call answers, and what it does to endpoints.

mod admin_support;

use std::{
    thread,
    time::{Duration, Instant},
};

use admin_support::{Answer, Instance};
use serde_json::{Value, json};
use switchback::{telemetry::registry::Key, upstream::drain::Kind};

const BLUE: &str = "/v1/pools/blue/endpoints/127.0.0.1:9001";
const GREEN: &str = "/v1/pools/green/endpoints/127.0.0.1:9011";

fn post(instance: &Instance, path: &str, body: &str) -> Answer {
    instance.call("POST", path, (!body.is_empty()).then_some(body))
}

/// The first endpoint of a pool, as it is shown.
fn endpoint(instance: &Instance, pool: &str) -> Value {
    instance.get(&format!("/v1/pools/{pool}")).json()["endpoints"][0].clone()
}

fn addresses(instance: &Instance, pool: &str) -> Vec<Value> {
    let pool = instance.get(&format!("/v1/pools/{pool}")).json();
    pool["endpoints"].as_array().expect("a list").iter().map(|endpoint| endpoint["address"].clone()).collect()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a draining endpoint's occupancy says.
fn is_open(instance: &Instance, pool: &str) -> bool {
    let table = instance.plane.live.table();
    let pool = table.pools.iter().find(|compiled| compiled.settings.name.as_str() == pool).expect("a pool");
    pool.endpoints[0].0.occupancy.is_available()
}

#[test]
fn from_the_answer_on_nothing_new_comes_until_it_is_taken_back() {
    let instance = Instance::start();
    let answer = post(&instance, &format!("{BLUE}/drain"), r#"{"deadline": "45s"}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!is_open(&instance, "blue"));
    let drained = answer.json();
    assert_eq!((&drained["revision"], &drained["kind"]), (&json!(1), &json!("drain")));
    assert_eq!((&drained["pool"], &drained["address"]), (&json!("blue"), &json!("127.0.0.1:9001")));
    let drain = &drained["endpoint"]["drain"];
    assert_eq!((&drain["deadline"], &drain["pins"]), (&json!("45s"), &json!("move")));
    assert_eq!(drained["previous"]["drain"], Value::Null);
    let shown = endpoint(&instance, "blue");
    assert_eq!((&shown["state"], &shown["drain"]["drained"]), (&json!("draining"), &json!(true)));
    assert!(shown["drain"]["seconds_left"].as_f64().is_some_and(|left| left > 40.0 && left <= 45.0));
    assert!(
        instance
            .get("/metrics")
            .body
            .contains("switchback_endpoint_draining{pool=\"blue\",endpoint=\"127.0.0.1:9001\"} 1")
    );
    let again = post(&instance, &format!("{BLUE}/drain"), "").json();
    assert_eq!((&again["revision"], &again["changed"]), (&json!(1), &json!(false)));
    let back = post(&instance, &format!("{BLUE}/undrain"), "").json();
    assert_eq!((&back["revision"], &back["endpoint"]["drain"]), (&json!(2), &Value::Null));
    assert!(is_open(&instance, "blue"));
}

#[test]
fn an_address_is_found_however_it_is_written() {
    let instance = Instance::start();
    let put = |address: &str| instance.call("PUT", &format!("/v1/pools/blue/endpoints/{address}"), None);
    for (written, address) in [
        ("127.0.0.1%3A9002", "127.0.0.1:9002"),
        ("[::1]:9003", "[::1]:9003"),
        ("%5B::2%5D%3A9003", "[::2]:9003"),
        ("App.Internal:8080", "app.internal:8080"),
        ("srv:_http._tcp.app.internal", "srv:_http._tcp.app.internal"),
    ] {
        let answer = put(written);
        assert_eq!((answer.status, &answer.json()["address"]), (200, &json!(address)), "{answer:?}");
        let drained = post(&instance, &format!("/v1/pools/blue/endpoints/{written}/drain"), "");
        assert_eq!(drained.status, 200, "{drained:?}");
    }
    assert_eq!(put("a%2Fb:1").status, 422);
    assert_eq!(put("%ff:1").status, 400);
}

#[test]
fn what_can_t_be_an_endpoint_is_refused() {
    let instance = Instance::start();
    let own = instance.address();
    for address in
        ["0.0.0.0:80", "169.254.169.254:80", "[fe80::1]:80", "nothing", "127.0.0.1:8080", "localhost:8080"]
    {
        let refused = instance.call("PUT", &format!("/v1/pools/blue/endpoints/{address}"), Some("{}"));
        assert_eq!(
            (refused.status, &refused.json()["type"]),
            (422, &json!("urn:switchback:problem:invalid-address")),
            "{address}"
        );
    }
    instance.plane.control.own_addresses().bound(vec![own]);
    let refused = instance.call("PUT", &format!("/v1/pools/blue/endpoints/{own}"), None);
    assert_eq!(refused.status, 422, "the admin API's own address: {refused:?}");
    for (method, path, body, status, pointer) in [
        ("POST", "/v1/pools/bleu/drain", "", 404, None),
        ("POST", "/v1/pools/blue/endpoints/127.0.0.1:9002/drain", "", 404, None),
        ("DELETE", "/v1/pools/blue/endpoints/x", "", 404, None),
        ("POST", "/v1/pools/blue/drain", r#"{"deadline": 30}"#, 422, Some("/deadline")),
        ("POST", "/v1/pools/blue/drain", r#"{"deadline": "8days"}"#, 422, Some("/deadline")),
        ("POST", "/v1/pools/blue/drain", r#"{"stream_deadline": "soon"}"#, 422, Some("/stream_deadline")),
        ("POST", "/v1/pools/blue/drain", r#"{"pins": "hold"}"#, 422, Some("/pins")),
        ("POST", "/v1/pools/blue/drain", r#"{"deadlin": "1s"}"#, 422, Some("/deadlin")),
        ("POST", "/v1/pools/blue/undrain", r#"{"deadline": "1s"}"#, 422, Some("/deadline")),
        ("PUT", BLUE, r#"{"weight": -1}"#, 422, Some("/weight")),
        ("PUT", BLUE, r#"{"weight": 1000001}"#, 422, Some("/weight")),
    ] {
        let refused = instance.call(method, path, (!body.is_empty()).then_some(body));
        assert_eq!(refused.status, status, "{path} {body}: {refused:?}");
        assert_eq!(refused.json().get("pointer").and_then(Value::as_str), pointer, "{refused:?}");
    }
    let unknown = post(&instance, "/v1/pools/blue/endpoints/127.0.0.1:9002/drain", "").json();
    assert_eq!(unknown["errors"][0]["did_you_mean"], json!("127.0.0.1:9001"));
    for query in ["?wait=drained", "?timeout=1s"] {
        assert_eq!(post(&instance, &format!("{BLUE}/undrain{query}"), "").status, 400);
    }
    assert_eq!(instance.get("/v1/status").json()["revision"], json!(0));
}

#[test]
fn a_dry_run_changes_nothing() {
    let instance = Instance::start();
    for (method, path) in [
        ("POST", format!("{BLUE}/drain")),
        ("DELETE", BLUE.to_owned()),
        ("POST", "/v1/pools/blue/drain".to_owned()),
        ("PUT", "/v1/pools/blue/endpoints/127.0.0.1:9002".to_owned()),
    ] {
        let answer = instance.call(method, &format!("{path}?dry_run=true"), None).json();
        assert_eq!(
            (&answer["dry_run"], &answer["changed"]),
            (&json!(true), &json!(true)),
            "{path}: {answer}"
        );
    }
    assert_eq!(instance.plane.live.table().generation, 1);
    assert!(is_open(&instance, "blue"));
}

#[test]
fn a_wait_ends_when_nothing_is_in_flight_or_at_the_deadline() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    let path = format!("{BLUE}/drain?wait=drained&timeout=100ms");
    let left = post(&instance, &path, "").json();
    assert_eq!((&left["drained"], &left["in_flight"]), (&json!(false), &json!(1)));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| post(&instance, &format!("{BLUE}/drain?wait=drained"), "").json());
        thread::sleep(Duration::from_millis(150));
        assert!(!waiting.is_finished());
        instance.occupy("blue", false);
        let ended = waiting.join().unwrap();
        assert_eq!(
            (&ended["drained"], &ended["in_flight"], &ended["changed"]),
            (&json!(true), &json!(0), &json!(false))
        );
        assert_eq!(ended["cut"], json!({"requests": 0, "tunnels": 0, "event_streams": 0}));
    });
    // Nothing is cut here, since no worker serves what is in flight: the wait ends a moment after the deadline.
    instance.occupy("green", true);
    let begun = Instant::now();
    let late = post(&instance, &format!("{GREEN}/drain?wait=drained"), r#"{"deadline": "200ms"}"#).json();
    assert_eq!((&late["drained"], &late["in_flight"]), (&json!(false), &json!(1)));
    assert!((Duration::from_millis(200)..Duration::from_secs(12)).contains(&begun.elapsed()));
    let table = instance.plane.live.table();
    let progress = &table.pools[1].endpoints[0].0.drain;
    assert!(progress.is_over(), "workers are told to cut");
    assert_eq!(progress.cut(Kind::Request), 0);
    instance.occupy("green", false);
}

#[test]
fn a_wait_ends_when_the_drain_is_taken_back() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| post(&instance, &format!("{BLUE}/drain?wait=drained"), "").json());
        wait_until("it drains", || endpoint(&instance, "blue")["state"] == json!("draining"));
        post(&instance, &format!("{BLUE}/undrain"), "");
        assert_eq!(waiting.join().unwrap()["drained"], json!(false));
    });
    instance.occupy("blue", false);
}

#[test]
fn a_deleted_endpoint_is_gone_when_it_is_drained_and_can_come_back() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    let leaving = instance.call("DELETE", BLUE, Some(r#"{"deadline": "1h"}"#)).json();
    assert_eq!((&leaving["endpoint"]["leaving"], &leaving["revision"]), (&json!(true), &json!(1)));
    assert_eq!(endpoint(&instance, "blue")["state"], json!("draining"));
    instance.occupy("blue", false);
    wait_until("it is gone", || addresses(&instance, "blue").is_empty());
    assert_eq!(instance.get("/v1/status").json()["revision"], json!(2), "its removal is a change, too");
    assert_eq!(instance.call("DELETE", BLUE, None).status, 404);
    let put = instance.call("PUT", BLUE, Some(r#"{"weight": 5}"#)).json();
    assert_eq!((&put["endpoint"]["weight"], &put["previous"]), (&json!(5), &Value::Null));
    assert!(is_open(&instance, "blue"), "it comes back without its drain");
    let gone = instance.call("DELETE", &format!("{BLUE}?wait=drained"), None).json();
    assert_eq!((&gone["drained"], &gone["kind"]), (&json!(true), &json!("delete_endpoint")));
    assert!(addresses(&instance, "blue").is_empty());
}

#[test]
fn an_endpoint_that_outlasts_its_deadline_is_removed_and_shown_until_it_is_idle() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    let table = instance.plane.live.table();
    instance.call("DELETE", BLUE, Some(r#"{"deadline": "50ms"}"#));
    wait_until("it is gone", || addresses(&instance, "blue").is_empty());
    let pool = instance.get("/v1/pools/blue").json();
    assert_eq!(
        (&pool["gone"][0]["address"], &pool["gone"][0]["in_flight"]),
        (&json!("127.0.0.1:9001"), &json!(1))
    );
    table.pools[0].endpoints[0].0.occupancy.release();
    wait_until("nothing is left to show", || instance.get("/v1/pools/blue").json()["gone"].is_null());
}

#[test]
fn a_drained_pool_passes_its_share_on_and_keeps_its_weight() {
    let instance = Instance::start();
    let answer = post(&instance, "/v1/pools/blue/drain?wait=drained", r#"{"deadline": "10m"}"#).json();
    assert_eq!((&answer["drained"], &answer["drain"]["pins"]), (&json!(true), &json!("keep")), "{answer}");
    assert!(!is_open(&instance, "blue"));
    let arms =
        || -> Vec<u32> { instance.plane.live.table().splits[0].arms.iter().map(|arm| arm.weight).collect() };
    assert_eq!(arms(), [0, 5, 0]);
    let split = instance.get("/v1/splits/shop").json();
    assert_eq!(split["weights"], json!({"blue": 95, "green": 5, "old": 0}));
    let pool = instance.get("/v1/pools/blue").json();
    assert_eq!((&pool["splits"]["shop"], &pool["drain"]["deadline"]), (&json!(95), &json!("10m")));
    let asked = r#"{"host": "shop.example.com"}"#;
    let explained = instance.call("POST", "/v1/explain", Some(asked)).json();
    assert_eq!((&explained["pool"], &explained["pools"][0]["weight"]), (&json!("green"), &json!(95)));
    assert!(explained["steps"].to_string().contains("pool blue drains"), "{explained}");
    // Neither other weights nor a switch end it.
    instance.call("POST", "/v1/splits/shop/switch", Some(r#"{"to": "green"}"#));
    instance.call("PUT", "/v1/splits/shop/weights", Some(r#"{"blue": 1, "green": 1}"#));
    instance.call("PUT", BLUE, Some(r#"{"weight": 4}"#));
    assert!(!is_open(&instance, "blue"));
    // With nobody else left it is as if none had a drain: requests find no endpoint.
    post(&instance, "/v1/pools/green/drain", "");
    assert_eq!(arms(), [1, 1, 0]);
    post(&instance, "/v1/pools/blue/undrain", "");
    assert!(is_open(&instance, "blue") && !is_open(&instance, "green"));
    assert_eq!(arms(), [1, 0, 0]);
    let slot = Key::Pool(admin_support::name("blue"));
    assert_eq!(instance.series.counts(&slot).requests(), 0);
}
