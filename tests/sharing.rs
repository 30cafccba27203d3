//! How traffic is shared, seen from outside: exact at low traffic, and the same for a key everywhere and always.

mod support;

use std::collections::BTreeMap;

use support::{Switchback, Upstream, config::blue_green, upstream::response};

fn named(name: &'static str) -> Upstream {
    Upstream::answering(response(200, name.as_bytes()))
}

fn ask(client: &mut support::Client, fields: &str) -> String {
    client.exchange(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")).whole().text()
}

#[test]
fn shares_are_within_a_few_requests_over_every_window() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = Switchback::start(&blue_green(1, (90, 10), "", &blue, &green));
    let mut client = switchback.client();
    let answers: Vec<bool> = (0..1000).map(|_| ask(&mut client, "") == "green").collect();
    let greens = answers.iter().filter(|is_green| **is_green).count();
    assert!((96..=104).contains(&greens), "{greens} of 1000 at 10 %");
    for window in answers.windows(100) {
        let greens = window.iter().filter(|is_green| **is_green).count();
        assert!((5..=15).contains(&greens), "{greens} of 100 at 10 %");
    }
    // Still random: a fixed sequence would put the same distance between any two.
    let at: Vec<usize> = (0..1000).filter(|index| answers[*index]).collect();
    let distances: std::collections::BTreeSet<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(distances.len() > 3, "not random: {distances:?}");
    assert_eq!(green.requests(), greens);
}

#[test]
fn shares_hold_over_all_workers_and_connections() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = Switchback::start(&blue_green(2, (90, 10), "", &blue, &green));
    for _ in 0..1000 {
        let answer = ask(&mut switchback.client(), "");
        assert!(["blue", "green"].contains(&answer.as_str()), "{answer:?}");
    }
    let greens = green.requests();
    assert!((92..=108).contains(&greens), "{greens} of 1000 at 10 %");
    assert_eq!(blue.requests() + greens, 1000);
}

#[test]
fn a_weight_of_0_gets_nothing_and_a_change_is_exact_too() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = Switchback::start(&blue_green(1, (1, 0), "", &blue, &green));
    let mut client = switchback.client();
    (0..200).for_each(|_| assert_eq!(ask(&mut client, ""), "blue"));
    switchback.weigh(1, 1);
    let greens = (0..200).filter(|_| ask(&mut client, "") == "green").count();
    assert!((96..=104).contains(&greens), "{greens} of 200 at 50 %");
    switchback.weigh(0, 1);
    (0..200).for_each(|_| assert_eq!(ask(&mut client, ""), "green"));
}

/// Which pool each of many keys gets.
fn buckets(switchback: &Switchback, field: impl Fn(u32) -> String) -> BTreeMap<u32, String> {
    let mut client = switchback.client();
    (0..400).map(|key| (key, ask(&mut client, &field(key)))).collect()
}

#[test]
fn a_key_gets_the_same_pool_on_every_instance_and_after_every_restart() {
    let (blue, green) = (named("blue"), named("green"));
    for (key, field) in [
        ("key = { cookie = \"user\" }", (|key| format!("Cookie: a=b; user=u{key}\r\n")) as fn(u32) -> String),
        ("key = { header = \"x-user\" }", |key| format!("X-User: u{key}\r\n")),
    ] {
        let config = blue_green(2, (70, 30), key, &blue, &green);
        let first = Switchback::start(&config);
        let second = Switchback::start(&config);
        let by_first = buckets(&first, field);
        assert_eq!(by_first, buckets(&second, field), "two instances differ: {key}");
        assert_eq!(by_first, buckets(&first, field), "one instance differs with itself: {key}");
        drop(first);
        assert_eq!(by_first, buckets(&Switchback::start(&config), field), "a restart changed it: {key}");
        let greens = by_first.values().filter(|pool| *pool == "green").count();
        // 400 keys at 30 %: five standard deviations.
        assert!((74..=166).contains(&greens), "{greens} of 400 keys at 30 %: {key}");
    }
}

#[test]
fn raising_a_weight_moves_keys_to_that_pool_only() {
    let (blue, green) = (named("blue"), named("green"));
    let config = blue_green(2, (95, 5), "key = { header = \"x-user\" }", &blue, &green);
    let switchback = Switchback::start(&config);
    let field = |key| format!("X-User: u{key}\r\n");
    let mut before = buckets(&switchback, field);
    for weight in [10, 25, 50, 100, 1000] {
        switchback.weigh(95, weight);
        let after = buckets(&switchback, field);
        for (key, pool) in &before {
            assert!(
                pool != "green" || after[key] == "green",
                "key {key} left green as its weight rose to {weight}"
            );
        }
        assert_ne!(before, after, "nothing moved at {weight}");
        before = after;
    }
}

#[test]
fn the_clients_address_can_be_the_key() {
    let (blue, green) = (named("blue"), named("green"));
    let config = blue_green(2, (50, 50), "key = { client = \"ip\" }", &blue, &green);
    let switchback = Switchback::start(&config);
    let mut pools = std::collections::BTreeSet::new();
    for last in 1..=40 {
        let local = std::net::Ipv4Addr::new(127, 0, 1, last).into();
        let answers: std::collections::BTreeSet<_> =
            (0..3).map(|_| ask(&mut support::Client::connect_from(local, switchback.address), "")).collect();
        assert_eq!(answers.len(), 1, "one address got {answers:?}");
        pools.extend(answers);
    }
    assert_eq!(pools.len(), 2, "forty addresses, one pool");
}

#[test]
fn a_pool_with_nothing_passes_its_share_on_or_fails_as_the_split_says() {
    let (blue, green) = (named("blue"), named("green"));
    let without_green = |split: &str| {
        blue_green(1, (50, 50), split, &blue, &green)
            .replace(&format!("endpoints = [\"{}\"]", green.address), "endpoints = []")
    };
    let switchback = Switchback::start(&without_green(""));
    let mut client = switchback.client();
    (0..100).for_each(|_| assert_eq!(ask(&mut client, ""), "blue"));

    let switchback = Switchback::start(&without_green("when_unavailable = \"fail\""));
    let mut client = switchback.client();
    let mut refused = 0;
    for _ in 0..100 {
        let answer = client.exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").whole();
        match answer.status {
            200 => {}
            503 => {
                assert!(answer.head.one("retry-after").is_some(), "{answer:?}");
                refused += 1;
            }
            other => panic!("{other}: {answer:?}"),
        }
        if answer.closes() {
            client = switchback.client();
        }
    }
    assert!((46..=54).contains(&refused), "{refused} of 100 at 50 %");
}
