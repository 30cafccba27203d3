//! Reloads under load: nothing is lost, and nothing moves that the file does not move.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use crate::support::{
    Client, Switchback, Upstream, config::blue_green, is_long, seeded, upstream::response, wait_until,
};

/// Keeps a client busy; answers how many requests were answered, and what went wrong.
pub fn one_client(address: std::net::SocketAddr, stop: &AtomicBool, sent: &AtomicU64) -> (u64, Vec<String>) {
    let (mut answered, mut failures) = (0, Vec::new());
    let mut client = Client::connect(address);
    while !stop.load(Ordering::Relaxed) {
        client.send("GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n");
        sent.fetch_add(1, Ordering::Relaxed);
        match client.try_response("GET") {
            Ok(answer) if answer.status == 200 && answer.broken.is_none() => {
                answered += 1;
                if answer.closes() {
                    client = Client::connect(address);
                }
            }
            other => {
                failures.push(format!("{other:?}"));
                client = Client::connect(address);
            }
        }
    }
    (answered, failures)
}

/// Serves a file under the load of some clients while `work` is done; asserts that no request failed.
pub fn under_load(switchback: &Switchback, work: impl FnOnce()) {
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> =
            (0..4).map(|_| scope.spawn(|| one_client(switchback.address, &stop, &sent))).collect();
        work();
        stop.store(true, Ordering::Relaxed);
        let mut answered = 0;
        for client in clients {
            let (of_client, failures) = client.join().expect("a client does not panic");
            assert_eq!(failures, Vec::<String>::new());
            answered += of_client;
        }
        assert_eq!(answered, sent.load(Ordering::Relaxed));
        assert!(answered > 100, "too little load to prove anything: {answered}");
    });
}

/// The part of a pool's JSON that a reload must leave alone.
fn standing(switchback: &Switchback, pool: &str) -> Vec<(String, String, u64)> {
    let answer = switchback.json("GET", &format!("/v1/pools/{pool}"), "");
    let endpoints = answer["endpoints"].as_array().expect("endpoints").iter();
    endpoints
        .map(|endpoint| {
            let text = |key: &str| endpoint[key].as_str().unwrap_or_default().to_owned();
            (text("address"), text("state"), endpoint["ejections"].as_u64().expect("a count"))
        })
        .collect()
}

#[test]
fn a_thousand_reloads_half_of_them_wrong_lose_nothing_and_move_nothing() {
    let mut rng = seeded("a_thousand_reloads_half_of_them_wrong_lose_nothing_and_move_nothing");
    let [blue, green, drained] =
        [(); 3].map(|()| Upstream::start(|exchange| exchange.send(&response(200, b"ok"))));
    // It fails, and is ejected.
    let failing = Upstream::start(|exchange| exchange.send(&response(503, b"no")));
    let file = |timeout: u64| {
        blue_green(2, (50, 50), "", &blue, &green)
            + &format!(
                "timeout = \"{timeout}s\"\n[pool.old]\nendpoints = [\"{}\", \"{}\"]\neject = {{ consecutive_5xx = 2, base_time = \"1h\", max_time = \"1h\", max_ejected = 1.0 }}\npanic = 0.0\n\
                 [[route]]\nname = \"old\"\npath = \"/old\"\npool = \"old\"\n",
                drained.address, failing.address
            )
    };
    let switchback = Switchback::start(&file(30));
    let mut client = switchback.client();
    let old = format!("/v1/pools/old/endpoints/{}", drained.address);
    wait_until("the failing endpoint is ejected", || {
        client.send("GET /old HTTP/1.1\r\nHost: a.example\r\n\r\n").response("GET");
        standing(&switchback, "old").iter().any(|(_, state, _)| state == "ejected")
    });
    assert_eq!(switchback.admin("POST", &format!("{old}/drain"), "{\"deadline\": \"1h\"}").status, 200);
    switchback.weigh(7, 93);
    let before = standing(&switchback, "old");
    let count = if is_long() { 1000 } else { 100 };
    let mut wrong = 0;
    under_load(&switchback, || {
        for number in 0..count {
            let is_wrong = number % 2 == 1;
            let text = match (is_wrong, rng.u8(..4)) {
                (false, _) => file(60 + number),
                (true, 0) => String::new(),
                (true, 1) => file(30).replace("[split.main]", "[split.main"),
                (true, 2) => file(30).replace("split = \"main\"", "split = \"mian\""),
                (true, _) => file(30)[..rng.usize(10..200)].to_owned() + "\n= half",
            };
            switchback.write(&text);
            let answer = switchback.admin("POST", "/v1/config/reload", "");
            assert_eq!(answer.status, if is_wrong { 422 } else { 200 }, "{}: {text}", answer.text());
            wrong += usize::from(is_wrong);
        }
    });
    assert_eq!(wrong as u64, count / 2);
    assert_eq!(standing(&switchback, "old"), before, "health, ejection and drains are as they were");
    let split = switchback.json("GET", "/v1/splits/main", "");
    assert_eq!(split["weights"]["blue"], 7, "the live weights are as they were set");
    let revision = switchback.json("GET", "/v1/status", "")["revision"].as_u64().expect("a number");
    assert_eq!(revision, 2 + count / 2, "each good edit is one revision, and a wrong one is none");
}

#[test]
fn what_the_file_newly_says_takes_effect_and_the_rest_stays_live() {
    let [blue, green] = [(); 2].map(|()| Upstream::start(|exchange| exchange.send(&response(200, b"ok"))));
    let file = |weights| blue_green(1, weights, "", &blue, &green);
    let switchback = Switchback::start(&file((50, 50)));
    switchback.weigh(0, 100);
    let drift = switchback.json("GET", "/v1/drift", "");
    assert_eq!(drift["differences"][0]["key"], "split.main.weights");
    switchback.write(&(file((50, 50)) + "timeout = \"9s\"\n"));
    let reload = || switchback.json("POST", "/v1/config/reload", "");
    assert_eq!(reload()["changed"], true);
    assert_eq!(reload()["changed"], false, "the same content is no change");
    assert_eq!(switchback.json("GET", "/v1/splits/main", "")["weights"]["blue"], 0);
    switchback.write(&file((90, 10)));
    assert_eq!(reload()["changed"], true);
    assert_eq!(switchback.json("GET", "/v1/splits/main", "")["weights"]["blue"], 90);
    assert_eq!(switchback.json("GET", "/v1/drift", "")["in_sync"], true);
}
