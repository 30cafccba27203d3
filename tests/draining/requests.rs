//! Requests: none new from the answer on, those in flight end, and at the deadline what is left is cut and said.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    change, endpoint, get, shown,
    support::{
        Setup, Switchback, Upstream,
        upstream::{OK, response},
        wait_until,
    },
};

/// Two endpoints behind two workers.
fn pair(first: &Upstream, second: &Upstream) -> Switchback {
    Setup::new().global("workers = 2").start_all(&[first, second])
}

/// An upstream that answers with OK once it may, and says how many requests wait.
fn gated(open: &Arc<AtomicBool>) -> Upstream {
    let open = Arc::clone(open);
    Upstream::start(move |exchange| {
        exchange.body();
        wait_until("the gate is open", || open.load(Ordering::SeqCst));
        exchange.send(OK);
    })
}

/// Clients that send one request after the other; each is answered with 200.
fn hammer(switchback: &Switchback, clients: usize, stop: &AtomicBool) -> usize {
    thread::scope(|scope| {
        let one = || {
            let mut client = switchback.client();
            let mut sent = 0;
            while !stop.load(Ordering::SeqCst) {
                let answer = client.exchange(get("/", "")).whole();
                assert_eq!(answer.status, 200, "{}", answer.text());
                sent += 1;
                if sent % 50 == 0 {
                    client = switchback.client();
                }
            }
            sent
        };
        let running: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        running.into_iter().map(|client| client.join().expect("a client does not panic")).sum()
    })
}

#[test]
fn no_request_comes_after_the_answer_and_none_fails() {
    let (first, second) = (Upstream::ok(), Upstream::ok());
    let switchback = pair(&first, &second);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| hammer(&switchback, 6, &stop));
        for _round in 0..15 {
            for drained in [&first, &second] {
                let answer =
                    change(&switchback, "POST", &format!("{}/drain?wait=drained", endpoint(drained)), "");
                assert_eq!(answer["drained"], json!(true), "{answer}");
                let then = drained.requests();
                let other = if drained.address == first.address { &second } else { &first };
                let goal = other.requests() + 30;
                wait_until("the other endpoint has had its share", || other.requests() >= goal);
                assert_eq!(drained.requests(), then, "a request came after the drain was answered");
                change(&switchback, "POST", &format!("{}/undrain", endpoint(drained)), "");
                wait_until("it is back", || drained.requests() > then);
            }
        }
        stop.store(true, Ordering::SeqCst);
        assert!(load.join().expect("the load does not panic") > 500);
    });
}

/// Without a wait: requests that are in flight at the answer may still be on their way, but those that are sent
/// after it go elsewhere.
#[test]
fn a_request_that_is_sent_after_the_answer_goes_elsewhere() {
    let (first, second) = (Upstream::ok(), Upstream::ok());
    let switchback = pair(&first, &second);
    let mut clients: Vec<_> = (0..8).map(|_| switchback.client()).collect();
    for round in 0..40 {
        let (drained, other) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        change(&switchback, "POST", &format!("{}/drain", endpoint(drained)), "");
        let (then, before) = (drained.requests(), other.requests());
        for client in &mut clients {
            assert_eq!(client.exchange(get("/", "")).whole().status, 200);
        }
        assert_eq!((drained.requests(), other.requests()), (then, before + clients.len()), "round {round}");
        change(&switchback, "POST", &format!("{}/undrain", endpoint(drained)), "");
    }
}

#[test]
fn what_is_in_flight_ends_and_the_wait_with_it() {
    let open = Arc::new(AtomicBool::new(false));
    let upstream = gated(&open);
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    client.send(get("/slow", ""));
    wait_until("the request is there", || upstream.requests() == 1);
    let path = format!("{}/drain?wait=drained", endpoint(&upstream));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| change(&switchback, "POST", &path, ""));
        wait_until("it drains", || shown(&switchback, &upstream)["state"] == json!("draining"));
        assert_eq!(switchback.client().exchange(get("/", "")).whole().status, 503, "nothing new is taken");
        assert!(!waiting.is_finished());
        open.store(true, Ordering::SeqCst);
        assert_eq!(client.response("GET").whole().status, 200);
        let answer = waiting.join().expect("the wait ends");
        assert_eq!((&answer["drained"], &answer["in_flight"]), (&json!(true), &json!(0)));
        assert_eq!(answer["cut"]["requests"], json!(0));
    });
    wait_until("its idle connections are closed", || upstream.open() == 0);
    change(&switchback, "POST", &format!("{}/undrain", endpoint(&upstream)), "");
    assert_eq!(
        client.exchange(get("/", "")).whole().status,
        200,
        "the client's connection has outlived the drain"
    );
}

/// Between the two another process may have taken the endpoint's place, and its predecessor's connections may have
/// ended without the worker knowing yet: a POST on one of them would be lost.
#[test]
fn no_connection_from_before_a_drain_serves_a_request_after_it() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    for round in 0..20 {
        for _ in 0..2 {
            assert_eq!(client.exchange(get("/", "")).whole().status, 200);
            assert_eq!(
                upstream.last().connection,
                round,
                "a connection is kept within a round, and no longer"
            );
        }
        change(&switchback, "POST", &format!("{}/drain", endpoint(&upstream)), "");
        change(&switchback, "POST", &format!("{}/undrain", endpoint(&upstream)), "");
    }
}

#[test]
fn at_the_deadline_what_is_left_is_cut_and_said() {
    let never = Arc::new(AtomicBool::new(false));
    let stuck = Arc::clone(&never);
    let upstream = Upstream::start(move |exchange| {
        exchange.body();
        if exchange.head.target() == "/begun" {
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun");
        }
        wait_until("the test has ended", || stuck.load(Ordering::SeqCst));
        exchange.close();
    });
    let switchback = Setup::new().start(&upstream);
    let mut posting = switchback.client();
    posting.send("POST /p HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi");
    let mut begun = switchback.client();
    begun.send(get("/begun", ""));
    wait_until("both are there", || upstream.requests() == 2);
    let at = Instant::now();
    let path = format!("{}/drain?wait=drained", endpoint(&upstream));
    let answer = change(&switchback, "POST", &path, r#"{"deadline": "300ms"}"#);
    assert!(
        (Duration::from_millis(300)..Duration::from_secs(4)).contains(&at.elapsed()),
        "{:?}",
        at.elapsed()
    );
    assert_eq!((&answer["drained"], &answer["cut"]["requests"]), (&json!(true), &json!(2)), "{answer}");
    let refused = posting.response("POST").whole();
    assert_eq!((refused.status, refused.head.one("retry-after")), (503, Some("1")));
    assert_eq!(posting.exchange(get("/again", "")).whole().status, 503, "the connection is kept");
    let broken = begun.any_response("GET");
    assert!(broken.status == 200 && broken.broken.is_some(), "{broken:?}");
    assert_eq!(switchback.metric("switchback_drain_cut_total") as u64, 2);
    assert_eq!(switchback.metric("switchback_endpoint_requests_in_flight") as u64, 0);
    never.store(true, Ordering::SeqCst);
}

#[test]
fn a_get_that_is_cut_before_its_answer_goes_to_another_endpoint() {
    let never = Arc::new(AtomicBool::new(false));
    let (stuck, other) = (gated(&never), Upstream::ok());
    let switchback = Setup::new().start_all(&[&stuck, &other]);
    change(&switchback, "POST", &format!("{}/drain", endpoint(&other)), "");
    let mut client = switchback.client();
    client.send(get("/", ""));
    wait_until("the request is stuck", || stuck.requests() == 1);
    change(&switchback, "POST", &format!("{}/undrain", endpoint(&other)), "");
    let path = format!("{}/drain?wait=drained", endpoint(&stuck));
    let answer = change(&switchback, "POST", &path, r#"{"deadline": "0s"}"#);
    assert_eq!(client.response("GET").whole().status, 200);
    assert_eq!(
        (other.requests(), &answer["cut"]["requests"]),
        (1, &json!(0)),
        "its client has lost nothing: {answer}"
    );
    never.store(true, Ordering::SeqCst);
}

#[test]
fn a_deleted_endpoint_gets_nothing_more_and_is_gone() {
    let (first, second) = (Upstream::ok(), Upstream::ok());
    let switchback = pair(&first, &second);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| hammer(&switchback, 4, &stop));
        wait_until("both are used", || first.requests() > 20 && second.requests() > 20);
        let gone = change(&switchback, "DELETE", &format!("{}?wait=drained", endpoint(&first)), "");
        assert_eq!(gone["drained"], json!(true));
        assert!(shown(&switchback, &first).is_null());
        let (then, goal) = (first.requests(), second.requests() + 100);
        wait_until("the other goes on", || second.requests() >= goal);
        assert_eq!(first.requests(), then);
        change(&switchback, "PUT", &endpoint(&first), r#"{"weight": 2}"#);
        wait_until("it is back", || first.requests() > then);
        stop.store(true, Ordering::SeqCst);
        load.join().expect("the load does not panic");
    });
}

#[test]
fn an_endpoint_is_added_while_requests_come() {
    let (first, second) = (Upstream::ok(), Upstream::ok());
    let switchback = Setup::new().global("workers = 2").start(&first);
    change(&switchback, "PUT", &endpoint(&second), "{}");
    let mut client = switchback.client();
    for _ in 0..40 {
        assert_eq!(client.exchange(get("/", "")).whole().status, 200);
    }
    assert!(second.requests() > 5, "{}", second.requests());
    let own = switchback.address;
    let refused = switchback.admin("PUT", &format!("/v1/pools/app/endpoints/{own}"), "{}");
    assert_eq!(refused.status, 422, "a listener of our own: {}", refused.text());
}

#[test]
fn what_the_file_drains_is_drained_from_the_start() {
    let (first, second, third) = (Upstream::ok(), Upstream::ok(), Upstream::ok());
    let setup = Setup::new().global("workers = 2");
    let file = setup.toml(&[&first, &second]);
    let drained = format!("{:?}", first.address.to_string());
    let file = file.replacen(&drained, &format!("{{ address = {drained}, drain = true }}"), 1);
    let file = format!(
        "{file}\n[pool.old]\nendpoints = [\"{}\"]\ndrain = true\n[[route]]\nname = \"old\"\npath = \"/old\"\npool = \"old\"\n",
        third.address
    );
    let switchback = Switchback::start(&file);
    let mut client = switchback.client();
    for _ in 0..20 {
        assert_eq!(client.exchange(get("/", "")).whole().status, 200);
    }
    assert_eq!((first.requests(), second.requests()), (0, 20));
    assert_eq!(client.exchange(get("/old", "")).whole().status, 503);
    change(&switchback, "POST", "/v1/pools/old/undrain", "");
    assert_eq!(client.exchange(get("/old", "")).whole().status, 200);
}

/// Its share goes to the others by their weights, whatever `when_unavailable` says, and comes back.
#[test]
fn a_drained_pool_passes_its_share_on() {
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    let upstream = |count: &Arc<AtomicUsize>| {
        let count = Arc::clone(count);
        Upstream::start(move |exchange| {
            exchange.body();
            count.fetch_add(1, Ordering::SeqCst);
            exchange.send(&response(200, b"ok"));
        })
    };
    let [blue, green] = [upstream(&counts[0]), upstream(&counts[1])];
    let fail = "when_unavailable = \"fail\"";
    let switchback = Switchback::start(&crate::support::config::blue_green(2, (90, 10), fail, &blue, &green));
    let mut client = switchback.client();
    let mut hundred = || {
        let before = counts.each_ref().map(|count| count.load(Ordering::SeqCst));
        for _ in 0..100 {
            assert_eq!(client.exchange(get("/", "")).whole().status, 200);
        }
        [0, 1].map(|pool| counts[pool].load(Ordering::SeqCst) - before[pool])
    };
    let [first, _] = hundred();
    assert!(first > 80, "{first}");
    change(&switchback, "POST", "/v1/pools/blue/drain", "");
    assert_eq!(hundred(), [0, 100]);
    switchback.weigh(50, 50);
    assert_eq!(hundred(), [0, 100], "other weights do not end the drain");
    change(&switchback, "POST", "/v1/pools/blue/undrain", "");
    let [first, _] = hundred();
    assert!((40..=60).contains(&first), "{first}");
}
