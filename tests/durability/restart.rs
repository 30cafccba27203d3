//! What a restart finds again: weights and their history, endpoints, drains.

use serde_json::json;

use crate::{
    Home, json,
    support::{Switchback, Upstream},
    weigh,
};

fn done(switchback: &Switchback, method: &str, path: &str, body: &str) -> serde_json::Value {
    let answer = switchback.admin(method, path, body);
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    json(&answer)
}

#[test]
fn weights_their_history_endpoints_and_drains_are_there_again() {
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    let mut switchback = home.start(&blue, &green);
    for weight in [5, 25, 50] {
        assert_eq!(weigh(&switchback, weight), Some(200));
    }
    done(&switchback, "PUT", "/v1/pools/green/endpoints/127.0.0.1:9", r#"{"weight": 7}"#);
    let drain = format!("/v1/pools/blue/endpoints/{}/drain", blue.address);
    done(&switchback, "POST", &drain, r#"{"deadline": "1h"}"#);
    let before = done(&switchback, "GET", "/v1/pools/blue", "");
    switchback.signal("TERM");
    switchback.wait();
    drop(switchback);

    let switchback = home.start(&blue, &green);
    let split = done(&switchback, "GET", "/v1/splits/main", "");
    assert_eq!((&split["weights"]["green"], &split["revision"]), (&json!(50), &json!(3)));
    let added = &done(&switchback, "GET", "/v1/pools/green", "")["endpoints"][1];
    assert_eq!((&added["address"], &added["weight"]), (&json!("127.0.0.1:9"), &json!(7)));
    let after = done(&switchback, "GET", "/v1/pools/blue", "");
    let since = |pool: &serde_json::Value| pool["endpoints"][0]["drain"]["since"].clone();
    assert!(since(&before).is_string());
    assert_eq!(since(&after), since(&before), "it is the same drain, with the same beginning");
    // The run of rises is remembered, so one rollback undoes it.
    let back = done(&switchback, "POST", "/v1/splits/main/rollback", "");
    assert_eq!((&back["weights"]["green"], &back["revision"]), (&json!(0), &json!(6)));
}

#[test]
fn a_start_with_an_edited_file_changes_what_was_edited_alone() {
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    let mut switchback = home.start(&blue, &green);
    assert_eq!(weigh(&switchback, 10), Some(200));
    switchback.signal("TERM");
    switchback.wait();
    drop(switchback);
    let file = home.file(&blue, &green);
    let mut unrelated = Switchback::start(&format!("{file}\ntimeout = \"9s\"\n"));
    let split = done(&unrelated, "GET", "/v1/splits/main", "");
    assert_eq!(split["weights"]["green"], json!(10), "the live switch stands");
    unrelated.signal("TERM");
    unrelated.wait();
    drop(unrelated);
    let edited = file.replace("green = 0", "green = 3");
    assert_ne!(edited, file);
    let edited = Switchback::start(&edited);
    let split = done(&edited, "GET", "/v1/splits/main", "");
    assert_eq!(split["weights"]["green"], json!(3), "the edit takes effect");
}
