//! Row 34 of `docs/http.md`: a pin that is tampered with or unknown is as if absent, never a 5xx, and never a way to
//! what is drained or not declared.

use crate::{
    browser::{Jar, config, named, session_on, sticky},
    support::{Switchback, seeded},
};

/// Every text here is no pin of split `main`.
fn forgeries(good: &str, rng: &mut fastrand::Rng) -> Vec<String> {
    let mut texts: Vec<String> =
        ["", "v1", "v1.", "v1..", "u1.", "blue", "green", "v1.AAAA.BBBB", "v2.x.y", "\"\"", "=="]
            .map(str::to_owned)
            .to_vec();
    texts.push("A".repeat(8_000));
    texts.push(format!("{good}.{good}"));
    texts.push(good.replacen("v1", "u1", 1));
    texts.push(good.replacen("v1.", "v1.A", 1));
    texts.push(good[..good.len() - 1].to_owned());
    for _ in 0..300 {
        let mut bytes = good.as_bytes().to_vec();
        let place = rng.usize(0..bytes.len());
        let other = rng.choice(b"ABCxyz019_-.~").expect("there are some");
        if bytes[place] != *other {
            bytes[place] = *other;
            texts.push(String::from_utf8(bytes).expect("ASCII"));
        }
    }
    texts
}

#[test]
fn row_34_a_tampered_pin_is_as_if_absent_and_issued_anew() {
    let mut rng = seeded("row_34_a_tampered_pin_is_as_if_absent_and_issued_anew");
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(1, (1, 1), "cookie = \"sb\", query = \"pin\"", &blue, &green);
    let mut client = switchback.client();
    let jar = session_on("green", &mut client);
    switchback.weigh(1, 0);
    for text in forgeries(jar.pin(), &mut rng) {
        let mut forged = Jar { cookie: Some(format!("sb={text}")) };
        let visit = forged.visit(&mut client);
        assert_eq!(visit.pool, "blue", "{text} is a way to green");
        assert!(visit.issued.is_some(), "{text} was taken for a pin");
        let by_field = Jar::default().visit_with(&mut client, &format!("X-Switchback-Pin: {text}\r\n"));
        assert_eq!(by_field.pool, "blue", "{text} in the field");
        let (by_query, _) =
            Jar::default().exchange(&mut client, &format!("/?pin={}", text.replace('"', "")), "");
        assert_eq!(by_query.pool, "blue", "{text} in the query");
    }
    assert!(switchback.metric("switchback_pins_not_honoured_total") > 300.0);
    assert_eq!(jar.clone().visit(&mut client).pool, "green", "the real one still counts");
}

#[test]
fn a_pin_counts_behind_forged_ones_of_its_name() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(1, (1, 1), "cookie = \"sb\"", &blue, &green);
    let mut client = switchback.client();
    let jar = session_on("green", &mut client);
    switchback.weigh(1, 0);
    let mut tossed = Jar { cookie: Some(format!("a=b; sb=x; sb=v1.A.B; sb={}", jar.pin())) };
    assert_eq!(tossed.visit_with(&mut client, "X-Switchback-Pin: y\r\n").pool, "green");
    let many = "sb=x; ".repeat(500);
    let mut flood = Jar { cookie: Some(format!("{many}sb={}", jar.pin())) };
    assert_eq!(flood.visit(&mut client).pool, "blue", "only so many are looked at");
}

#[test]
fn a_pin_is_nothing_in_another_split_nor_on_another_instance_without_its_key() {
    let (blue, green) = (named("blue"), named("green"));
    let first = sticky(1, (0, 1), "cookie = \"sb\"", &blue, &green);
    let mut jar = Jar::default();
    assert_eq!(jar.visit(&mut first.client()).pool, "green");
    // The same keys, the same pools and the same cookie, but the split has another name.
    let other = config(1, (1, 0), "cookie = \"sb\", signed = false", &blue, &green);
    let mut unsigned = Jar::default();
    let unsigned_first = sticky(1, (0, 1), "cookie = \"sb\", signed = false", &blue, &green);
    assert_eq!(unsigned.visit(&mut unsigned_first.client()).pool, "green");
    let renamed = Switchback::start(
        &other.replace("[split.main]", "[split.cart]").replace("split = \"main\"", "split = \"cart\""),
    );
    assert_eq!(unsigned.clone().visit(&mut renamed.client()).pool, "blue", "a pin of main counts in cart");
    let same = Switchback::start(&other);
    assert_eq!(unsigned.clone().visit(&mut same.client()).pool, "green", "unsigned, it counts everywhere");
    let stranger = sticky(1, (1, 0), "cookie = \"sb\"", &blue, &green);
    let visit = jar.clone().visit(&mut stranger.client());
    assert_eq!(
        (visit.pool.as_str(), visit.issued.is_some()),
        ("blue", true),
        "another process has another key"
    );
}

#[test]
fn a_good_pin_to_a_pool_that_is_none_of_the_splits_any_more_moves_once() {
    let folder = std::env::temp_dir().join(format!("switchback-undeclared-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of our own");
    let keys = format!("[pins]\nkey_file = {:?}\n", folder.join("pins.keys"));
    let (blue, green) = (named("blue"), named("green"));
    let both = config(1, (0, 1), "cookie = \"sb\"", &blue, &green) + &keys;
    let mut jar = Jar::default();
    assert_eq!(jar.visit(&mut Switchback::start(&both).client()).pool, "green");
    let alone = both.replace("weights = { blue = 0, green = 1 }", "weights = { blue = 1 }");
    let switchback = Switchback::start(&alone);
    let mut client = switchback.client();
    let visit = jar.visit(&mut client);
    assert_eq!((visit.pool.as_str(), visit.issued.is_some()), ("blue", true));
    let visit = jar.visit(&mut client);
    assert_eq!((visit.pool.as_str(), visit.issued), ("blue", None), "once");
    let counted = switchback.metrics();
    assert!(counted.contains("not_honoured_total{split=\"main\",reason=\"unknown\"} 1"), "{counted}");
    assert!(counted.contains("issued_total{split=\"main\",pool=\"blue\",reason=\"moved\"} 1"), "{counted}");
    std::fs::remove_dir_all(&folder).ok();
}
