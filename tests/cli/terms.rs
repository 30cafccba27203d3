//! Changes that are made only if nobody else was there first.

use serde_json::{Value, json};

use super::{
    admin_support::Instance,
    run::{code, complained, on, parsed, said},
};

fn guarded() -> Instance {
    Instance::with(|config| config.require_if_match = true)
}

#[test]
fn where_if_match_is_demanded_every_command_works() {
    let instance = guarded();
    let plain = instance.call("PUT", "/v1/splits/shop/weights", Some("{\"blue\": 1}"));
    assert_eq!(plain.status, 428, "the instance demands it");
    let changes: &[&[&str]] = &[
        &["weights", "shop", "blue=90", "green=10"],
        &["switch", "shop", "green", "--wait"],
        &["rollback", "shop"],
        &["drain", "blue", "127.0.0.1:9001"],
        &["undrain", "blue", "127.0.0.1:9001"],
        &["drain", "blue", "--wait"],
        &["undrain", "blue"],
        &["endpoint", "set", "blue", "127.0.0.1:9002"],
        &["endpoint", "remove", "blue", "127.0.0.1:9002"],
        &["restore", "1"],
    ];
    for (place, change) in changes.iter().enumerate() {
        let dry = on(&instance, &[change, &["--dry-run"][..]].concat());
        assert_eq!(code(&dry), 0, "{dry:?}");
        let made = on(&instance, &[change, &["--json"][..]].concat());
        assert_eq!(code(&made), 0, "{made:?}");
        assert_eq!(parsed(&made)["changed"], json!(true), "change {place}: {made:?}");
        assert!(parsed(&made)["etag"].as_str().is_some_and(|tag| tag.starts_with("\"r")), "{made:?}");
    }
    let unknown = on(&instance, &["weights", "shopp", "blue=1"]);
    assert_eq!(code(&unknown), 1);
    assert!(complained(&unknown).contains("did you mean \"shop\"?"), "{unknown:?}");
}

#[test]
fn who_was_there_first_is_named_and_nothing_is_overwritten() {
    let instance = Instance::start();
    let seen = parsed(&on(&instance, &["weights", "shop", "blue=90", "green=10", "--json"]));
    on(&instance, &["switch", "shop", "green", "--reason", "4711 is out"]);
    let tag = seen["etag"].as_str().expect("an entity tag");
    for condition in
        [&["--if-match", tag][..], &["--if-match", tag.trim_matches('"')], &["--if-revision", "1"]]
    {
        let late = on(&instance, &[&["weights", "shop", "blue=80", "green=20"], condition].concat());
        assert_eq!((code(&late), said(&late)), (1, String::new()), "{late:?}");
        let told = complained(&late);
        for part in [
            "revision 2, switch by 127.0.0.1 (cli)",
            "4711 is out",
            "blue 90 -> 0, green 10 -> 100",
            "switchback history",
        ] {
            assert!(told.contains(part), "{condition:?} lacks {part}: {told}");
        }
        let late =
            on(&instance, &[&["weights", "shop", "blue=80", "green=20", "--json"], condition].concat());
        let problem: Value = serde_json::from_slice(&late.stderr).expect("a problem");
        assert_eq!(
            (&problem["status"], &problem["moved_by"]["revision"]),
            (&json!(412), &json!(2)),
            "{problem}"
        );
        assert_eq!(problem["moved_by"]["reason"], json!("4711 is out"));
    }
    let dry = on(&instance, &["rollback", "shop", "--dry-run", "--if-revision", "1"]);
    assert_eq!(code(&dry), 1, "a dry run is refused in the same way: {dry:?}");
    assert_eq!(instance.plane.control.snapshot().state.revision(), 2);
}

#[test]
fn what_nobody_has_touched_since_is_changed() {
    let instance = Instance::start();
    on(&instance, &["weights", "shop", "blue=90", "green=10"]);
    on(&instance, &["endpoint", "set", "blue", "127.0.0.1:9002"]);
    // Revision 2 was about a pool: the split is as it was at revision 1, and at 2.
    for (number, weight) in [("2", "green=11"), ("3", "green=12")] {
        let made = on(&instance, &["weights", "shop", "blue=90", weight, "--if-revision", number]);
        assert_eq!(code(&made), 0, "{made:?}");
    }
    let ahead = on(&instance, &["weights", "shop", "blue=1", "--if-revision", "77"]);
    assert_eq!(code(&ahead), 1, "{ahead:?}");
    assert!(complained(&ahead).contains("no revision 77 yet: the newest is 4"), "{ahead:?}");
    let drained = on(&instance, &["drain", "blue", "127.0.0.1:9002", "--if-revision", "2"]);
    assert_eq!(code(&drained), 0, "{drained:?}");
    let late = on(&instance, &["undrain", "blue", "127.0.0.1:9001", "--if-revision", "2"]);
    assert_eq!(code(&late), 1, "the pool was touched: {late:?}");
    let any = on(&instance, &["weights", "shop", "blue=2", "--if-match", "*"]);
    assert_eq!(code(&any), 0, "{any:?}");
}
