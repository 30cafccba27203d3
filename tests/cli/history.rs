//! The history and the way back, with who and why.

use serde_json::json;

use super::{
    admin_support::Instance,
    run::{code, complained, on, parsed, said},
};

#[test]
fn every_change_stands_in_the_history_with_who_and_why() {
    let instance = Instance::start();
    for (arguments, reason) in [
        (&["weights", "shop", "blue=90", "green=10"][..], "10 % for a start"),
        (&["switch", "shop", "green"], "all is well ✓"),
        (&["rollback", "shop"], "4711"),
        (&["drain", "blue", "127.0.0.1:9001"], "a new kernel"),
        (&["undrain", "blue", "127.0.0.1:9001"], "it is up"),
        (&["endpoint", "set", "blue", "127.0.0.1:9002"], "one more"),
        (&["endpoint", "remove", "blue", "127.0.0.1:9002"], "one less"),
    ] {
        let made = on(&instance, &[arguments, &["--reason", reason]].concat());
        assert_eq!(code(&made), 0, "{made:?}");
        let newest = parsed(&on(&instance, &["history", "--limit", "10", "--json"]))["revisions"].clone();
        let of_reason =
            newest.as_array().expect("a list").iter().find(|revision| revision["reason"] == reason);
        let of_reason = of_reason.unwrap_or_else(|| panic!("no {reason} in {newest}"));
        assert_eq!(
            (&of_reason["origin"], &of_reason["who"]),
            (&json!("cli"), &json!("127.0.0.1")),
            "{arguments:?}"
        );
    }
    let table = said(&on(&instance, &["history", "--before", "3"]));
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("REVISION  TIME") && lines[0].ends_with("REASON"), "{table}");
    assert!(lines[1].starts_with("2 ") && lines[1].ends_with("all is well ✓"), "{table}");
    assert!(lines[1].contains("127.0.0.1") && lines[1].contains("cli"), "{table}");
    assert!(lines[1].contains("switch: split shop: blue 90 -> 0, green 10 -> 100"), "{table}");
    assert_eq!(lines.len(), 4, "revisions 2, 1 and 0: {table}");
}

#[test]
fn the_history_is_read_page_after_page() {
    let instance = Instance::start();
    for weight in 1..=120 {
        let body = format!("{{\"blue\": {weight}, \"green\": 1000}}");
        assert_eq!(instance.call("PUT", "/v1/splits/shop/weights", Some(&body)).status, 200);
    }
    let numbers = |arguments: &[&str]| -> (Vec<u64>, bool) {
        let page = parsed(&on(&instance, &[&["history", "--json"], arguments].concat()));
        let revisions = page["revisions"].as_array().expect("a list");
        let numbers = revisions.iter().map(|revision| revision["revision"].as_u64().expect("a number"));
        (numbers.collect(), page["next"].is_null())
    };
    assert_eq!(numbers(&[]), ((101..=120).rev().collect(), false));
    assert_eq!(
        numbers(&["--limit", "110"]),
        ((11..=120).rev().collect(), false),
        "more than a page of the API"
    );
    assert_eq!(numbers(&["--before", "11"]), ((0..=10).rev().collect(), true));
    assert_eq!(numbers(&["--before", "0"]), (vec![], true));
    let table = said(&on(&instance, &["history", "--limit", "1", "--before", "5"]));
    assert!(table.ends_with("(older ones: switchback history --before 4)\n"), "{table}");
    assert_eq!(said(&on(&instance, &["history", "--before", "0"])), "there is nothing before that\n");
}

#[test]
fn a_revision_is_shown_whole_and_restored() {
    let instance = Instance::start();
    on(&instance, &["weights", "shop", "blue=90", "green=10", "--reason", "first"]);
    on(&instance, &["switch", "shop", "green"]);
    let shown = said(&on(&instance, &["revision", "1"]));
    let (head, differences) = shown.split_once('\n').expect("two parts");
    assert!(
        head.starts_with("revision 1, weights by 127.0.0.1 (cli), ") && head.ends_with(": first"),
        "{shown}"
    );
    assert_eq!(differences, "  split shop: blue 95 -> 90, green 5 -> 10\n");
    let whole = parsed(&on(&instance, &["revision", "1", "--json"]));
    assert_eq!(whole["state"]["weights"]["shop"]["green"], json!(10), "{whole}");

    let tried = on(&instance, &["restore", "1", "--dry-run"]);
    assert_eq!(
        (code(&tried), said(&tried).as_str()),
        (0, "to go back to revision 1 would change:\n  split shop: blue 0 -> 90, green 100 -> 10\n")
    );
    assert_eq!(instance.plane.control.snapshot().state.revision(), 2);
    let restored = on(&instance, &["restore", "1", "--reason", "it was better"]);
    assert_eq!(
        (code(&restored), said(&restored).as_str()),
        (
            0,
            "what was in force at revision 1 is again, revision 3\n  split shop: blue 0 -> 90, green 100 -> 10\n"
        )
    );
    let again = parsed(&on(&instance, &["restore", "1", "--json"]));
    assert_eq!((&again["changed"], &again["restored"]), (&json!(false), &json!(1)));
    let third = said(&on(&instance, &["revision", "3"]));
    assert!(third.contains("restore") && third.contains(": it was better"), "{third}");
    for missing in [&["revision", "99"][..], &["restore", "99"]] {
        let refused = on(&instance, missing);
        assert_eq!((code(&refused), said(&refused)), (1, String::new()), "{refused:?}");
        assert!(complained(&refused).contains("no revision 99"), "{refused:?}");
    }
}

#[test]
fn what_an_instance_says_moves_no_cursor_and_makes_no_row() {
    let instance = Instance::start();
    let body = r#"{"to": "green", "reason": "\u001b[2Jwiped\nrevision 9"}"#;
    assert_eq!(instance.call("POST", "/v1/splits/shop/switch", Some(body)).status, 200);
    let table = said(&on(&instance, &["history"]));
    assert!(table.contains("\u{fffd}[2Jwiped revision 9") && !table.contains('\u{1b}'), "{table:?}");
    assert_eq!(table.lines().count(), 3, "{table}");
}
