//! What is kept: the order of revisions and of events, keys of repeated calls, and a restart by another time.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use serde_json::Value;

use crate::{
    WallClock,
    support::{Client, PATIENCE, Switchback, Upstream, config::blue_green},
};

fn file(clock: &WallClock, blue: &Upstream, green: &Upstream) -> String {
    let state = format!("[state]\npath = {:?}\n", clock.file("switchback.db"));
    blue_green(1, (100, 0), "", blue, green) + &state
}

/// The revisions that are kept, oldest first, each with its moment.
fn revisions(switchback: &Switchback) -> Vec<(u64, String)> {
    let page = switchback.json("GET", "/v1/revisions?limit=100", "");
    let revisions = page["revisions"].as_array().unwrap_or_else(|| panic!("a list: {page}"));
    let read = |revision: &Value| {
        let number = revision["revision"].as_u64().unwrap_or_else(|| panic!("a number: {revision}"));
        (number, revision["at"].as_str().expect("a moment").to_owned())
    };
    let mut revisions: Vec<_> = revisions.iter().map(read).collect();
    revisions.sort();
    revisions
}

/// Asserts that there are this many changes, and that later ones are never dated before earlier ones.
fn assert_in_order(switchback: &Switchback, changes: u64) {
    let revisions = revisions(switchback);
    let numbers: Vec<_> = revisions.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (0..=changes).collect::<Vec<_>>(), "{revisions:?}");
    assert!(revisions.is_sorted_by(|(_, one), (_, next)| one <= next), "{revisions:?}");
}

#[test]
fn revisions_stay_in_order_over_jumps_and_restarts() {
    let (blue, green) = (Upstream::ok(), Upstream::ok());
    let clock = WallClock::new();
    let mut switchback = clock.start(&file(&clock, &blue, &green));
    let mut changes = 0;
    for shift in ["+86400", "-86400", "+0", "-172800"] {
        clock.set(shift, &switchback);
        for _ in 0..3 {
            changes += 1;
            switchback.weigh(changes, 1);
        }
        assert_in_order(&switchback, changes.into());
        // A kill, and a start by that time.
        drop(switchback);
        switchback = clock.start_again(&clock.file("switchback.toml"));
        let split = switchback.json("GET", "/v1/splits/main", "");
        assert_eq!(split["weights"]["blue"], changes, "{shift}: {split}");
        changes += 1;
        switchback.weigh(changes, 1);
        assert_in_order(&switchback, changes.into());
    }
    let events = events_after(&switchback, 0, changes.into());
    assert_eq!(events, (1..=u64::from(changes)).collect::<Vec<_>>());
}

/// The positions of the events after a revision, as they come, up to the last that is expected.
fn events_after(switchback: &Switchback, revision: u64, last: u64) -> Vec<u64> {
    let mut stream = TcpStream::connect(switchback.admin).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let fields = format!("Host: {}\r\nLast-Event-ID: {revision}\r\n", switchback.admin);
    stream.write_all(format!("GET /v1/events HTTP/1.1\r\n{fields}\r\n").as_bytes()).expect("it reads");
    let mut positions = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.expect("the stream goes on");
        if let Some(position) = line.strip_prefix("id: ").or_else(|| line.strip_prefix("id:")) {
            positions.push(position.trim().parse().expect("a number"));
            if positions.last() == Some(&last) {
                break;
            }
        }
    }
    positions
}

/// A caller repeats a call whose answer it did not get, a day later and a day earlier.
#[test]
fn a_call_that_is_repeated_is_done_once_whatever_the_time() {
    let (blue, green) = (Upstream::ok(), Upstream::ok());
    let clock = WallClock::new();
    let switchback = clock.start(&file(&clock, &blue, &green));
    let call = || {
        let mut client = Client::connect(switchback.admin);
        let body = r#"{"to": "green"}"#;
        client.exchange(format!(
            "POST /v1/splits/main/switch HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Idempotency-Key: \"8e03\"\r\nContent-Length: {}\r\n\r\n{body}",
            switchback.admin,
            body.len()
        ))
    };
    let first = call();
    assert_eq!((first.status, first.head.one("idempotency-replayed")), (200, None));
    for shift in ["+86400", "-86400"] {
        clock.set(shift, &switchback);
        let again = call();
        assert_eq!(again.head.one("idempotency-replayed"), Some("true"), "{shift}: {again:?}");
    }
    assert_in_order(&switchback, 1);
}
