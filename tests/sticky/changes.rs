//! What switch, rollback and weights do to pins.

use serde_json::Value;

use crate::{
    browser::{Jar, named, session_on, sticky},
    support::Switchback,
};

/// Makes a change of split `main`; answers what it says.
fn change(switchback: &Switchback, method: &str, what: &str, body: &str) -> Value {
    let response = switchback.admin(method, &format!("/v1/splits/main/{what}"), body);
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_str(&response.text()).expect("JSON")
}

fn released(answer: &Value) -> Vec<&str> {
    answer["released"].as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

#[test]
fn a_switch_keeps_pins_and_a_rollback_releases_those_of_what_falls_at_once() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(2, (1, 1), "cookie = \"sb\"", &blue, &green);
    let mut client = switchback.client();
    let (mut on_blue, mut on_green) = (session_on("blue", &mut client), session_on("green", &mut client));
    let answer = change(&switchback, "POST", "switch", "{\"to\": \"green\"}");
    assert_eq!((answer["pins"].as_str(), released(&answer)), (Some("keep"), vec![]));
    assert_eq!(on_blue.visit(&mut client).pool, "blue", "a switch moves new sessions only");

    // Issued in the very moment before the rollback, within the same second.
    let mut late: Vec<Jar> = (0..20).map(|_| session_on("green", &mut client)).collect();
    let answer = change(&switchback, "POST", "rollback", "");
    assert_eq!((answer["pins"].as_str(), released(&answer)), (Some("release"), vec!["green"]));
    late.push(on_green.clone());
    let mut moved = 0;
    for jar in &mut late {
        // At 1:1 a released session is drawn like a new one, green included.
        let visit = jar.visit(&mut client);
        assert!(visit.issued.is_some(), "a released pin counts no more");
        moved += u32::from(visit.pool == "blue");
        let again = jar.visit(&mut client);
        assert_eq!((again.pool, again.issued), (visit.pool, None), "and its session moves once");
    }
    assert!((8..=13).contains(&moved), "{moved} of 21 were drawn to blue");
    let visit = on_blue.visit(&mut client);
    assert_eq!((visit.pool.as_str(), visit.issued), ("blue", None), "what does not fall keeps its pins");
    on_green.visit(&mut client);

    let again = change(&switchback, "POST", "rollback", "");
    assert_eq!(
        (again["changed"].as_bool(), released(&again)),
        (Some(false), vec![]),
        "repeating changes nothing"
    );
    let split = switchback.admin("GET", "/v1/splits/main", "").text();
    let split: Value = serde_json::from_str(&split).expect("JSON");
    assert!(split["sticky"]["pools"]["green"]["released_at"].is_string(), "{split}");
}

#[test]
fn a_change_does_with_pins_what_it_is_told() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(1, (1, 1), "cookie = \"sb\"", &blue, &green);
    let mut client = switchback.client();
    let mut on_blue = session_on("blue", &mut client);
    let mut on_green = session_on("green", &mut client);
    let kept = change(&switchback, "PUT", "weights", "{\"blue\": 1, \"green\": 3, \"pins\": \"keep\"}");
    assert_eq!(released(&kept), Vec::<&str>::new());
    let kept = change(&switchback, "POST", "rollback", "{\"pins\": \"keep\"}");
    assert_eq!((kept["changed"].as_bool(), released(&kept)), (Some(true), vec![]));
    assert_eq!(on_green.visit(&mut client).issued, None);

    let dry =
        change(&switchback, "POST", "switch?dry_run=true", "{\"to\": \"green\", \"pins\": \"release\"}");
    assert_eq!(released(&dry), ["blue"]);
    assert_eq!(on_blue.visit(&mut client).issued, None, "a dry run changes nothing");
    change(&switchback, "POST", "switch", "{\"to\": \"green\"}");
    assert_eq!(on_blue.visit(&mut client).pool, "blue");
    // Nothing but the pins is left to change.
    let answer = change(&switchback, "POST", "switch", "{\"to\": \"green\", \"pins\": \"release\"}");
    assert_eq!((answer["changed"].as_bool(), released(&answer)), (Some(true), vec!["blue"]));
    let visit = on_blue.visit(&mut client);
    assert_eq!((visit.pool.as_str(), visit.issued.is_some()), ("green", true));

    for (method, what, body) in [
        ("PUT", "weights", "{\"blue\": 1, \"pins\": \"drop\"}"),
        ("POST", "switch", "{\"to\": \"green\", \"pins\": true}"),
        ("POST", "rollback", "{\"pins\": \"\"}"),
    ] {
        let response = switchback.admin(method, &format!("/v1/splits/main/{what}"), body);
        assert_eq!(response.status, 422, "{}", response.text());
        assert!(response.text().contains("/pins"), "{}", response.text());
    }
}

#[test]
fn the_command_line_says_what_becomes_of_pins() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(1, (1, 1), "cookie = \"sb\"", &blue, &green);
    let mut client = switchback.client();
    let mut on_blue = session_on("blue", &mut client);
    let run = |arguments: &[&str]| {
        let ran = std::process::Command::new(env!("CARGO_BIN_EXE_switchback"))
            .args(arguments)
            .args(["--admin", &format!("http://{}", switchback.admin)])
            .output()
            .expect("the binary that cargo built");
        (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    let (code, said) = run(&["switch", "main", "green", "--pins", "release"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("pins to blue were released"), "{said}");
    assert_eq!(on_blue.visit(&mut client).pool, "green");
    let (_, said) = run(&["status"]);
    assert!(said.contains("SESSIONS") && said.contains("~1"), "{said}");
    let (code, _) = run(&["weights", "main", "blue=1", "--pins", "keep"]);
    assert_eq!(code, Some(0));
    assert_eq!(on_blue.visit(&mut client).pool, "green");
    let (code, said) = run(&["rollback", "main"]);
    assert!(code == Some(0) && said.contains("pins to blue were released"), "{said}");
    assert_eq!(run(&["rollback", "main", "--pins", "drop"]).0, Some(2));
}

#[test]
fn an_explanation_tells_what_a_pin_is_good_for() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(1, (1, 1), "cookie = \"sb\"", &blue, &green);
    let jar = session_on("green", &mut switchback.client());
    let explain = |cookie: &str| {
        let body = serde_json::json!({"host": "a.example", "path": "/", "headers": {"cookie": cookie}});
        let response = switchback.admin("POST", "/v1/explain", &body.to_string());
        let told: Value = serde_json::from_str(&response.text()).expect("JSON");
        (told["pool"].as_str().map(str::to_owned), told["steps"].to_string())
    };
    let sent = green.requests();
    switchback.weigh(1, 0);
    let cookie = jar.cookie.as_deref().expect("it was set");
    let (pool, steps) = explain(cookie);
    assert!(pool.as_deref() == Some("green") && steps.contains("the pin is honoured"), "{steps}");
    let (pool, steps) = explain(&cookie[..cookie.len() - 1]);
    assert!(pool.as_deref() == Some("blue") && steps.contains("as if absent"), "{steps}");
    change(&switchback, "POST", "switch", "{\"to\": \"blue\", \"pins\": \"release\"}");
    let (pool, steps) = explain(cookie);
    assert!(pool.as_deref() == Some("blue") && steps.contains("it was released"), "{steps}");
    assert_eq!(green.requests(), sent, "nothing of it was sent");
}
