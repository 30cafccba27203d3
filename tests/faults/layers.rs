//! Two layers of Switchback: their retries add up at worst, and never multiply.

use crate::{
    counted, get,
    support::{Message, Setup, Switchback, Upstream, upstream::response},
};

const STATUSES: &str = "retries = { statuses = [502, 503, 504] }";

fn attempt(message: &Message) -> Option<&str> {
    message.head.one("x-switchback-attempt")
}

#[test]
fn the_first_attempt_says_nothing_and_a_client_can_say_nothing_for_us() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    for fields in
        ["", "X-Switchback-Attempt: 7\r\n", "x-switchback-attempt: 2\r\nX-Switchback-Attempt: x\r\n"]
    {
        assert_eq!(switchback.client().exchange(get("/", fields)).status, 200);
        assert_eq!(attempt(&upstream.last()), None, "{fields:?}");
    }
}

#[test]
fn a_trusted_proxys_attempts_are_added_to_ours() {
    let upstream = Upstream::start(|exchange| match exchange.number {
        0 => exchange.close(),
        _ => exchange.send(&response(200, b"ok")),
    });
    let switchback = Setup::new().listener("trusted_proxies = [\"127.0.0.0/8\"]").start(&upstream);
    assert_eq!(switchback.client().exchange(get("/", "X-Switchback-Attempt: 3\r\n")).status, 200);
    let messages = upstream.messages();
    assert_eq!(messages.iter().map(attempt).collect::<Vec<_>>(), [Some("3"), Some("4")]);
    drop(switchback);
    upstream.assert_canonical();
}

#[test]
fn what_a_layer_in_front_repeats_is_repeated_for_no_status_here() {
    let upstream = Upstream::answering(response(503, b"busy"));
    let switchback = Setup::new().route(STATUSES).start(&upstream);
    let answer = switchback.client().exchange(get("/", "X-Switchback-Attempt: 2\r\n")).whole();
    assert_eq!((answer.status, answer.text().as_str()), (503, "busy"));
    assert_eq!(upstream.requests(), 1);
    assert_eq!(answer.head.one("x-switchback-attempt"), Some("2"), "and nobody in front is to repeat it");
    let hanging = Upstream::start(|exchange| {
        exchange.wire().fill().ok();
        exchange.close();
    });
    let switchback =
        Setup::new().route("timeout = \"700ms\"\nretries = { per_try_timeout = \"200ms\" }").start(&hanging);
    let answer = switchback.client().exchange(get("/", "X-Switchback-Attempt: 2\r\n"));
    assert_eq!((answer.status, hanging.requests()), (504, 1), "{answer:?}");
    assert_eq!(answer.head.one("x-switchback-attempt"), Some("2"));
}

#[test]
fn a_failure_that_was_repeated_behind_us_is_not_repeated() {
    for mark in ["2", "3", "17"] {
        let bytes =
            format!("HTTP/1.1 503 Busy\r\nX-Switchback-Attempt: {mark}\r\nContent-Length: 4\r\n\r\nbusy");
        let upstream = Upstream::answering(bytes);
        let switchback = Setup::new().route(STATUSES).start(&upstream);
        let answer = switchback.client().exchange(get("/", "")).whole();
        assert_eq!((answer.status, upstream.requests()), (503, 1));
        assert_eq!(answer.head.one("x-switchback-attempt"), Some(mark), "those in front are told");
    }
}

/// An application behind two instances, which are the endpoints of a third, all of which repeat all they may.
fn two_layers(app: &Upstream) -> (Switchback, [Switchback; 2]) {
    let inner = [Setup::new().route(STATUSES).start(app), Setup::new().route(STATUSES).start(app)];
    let nobody = Upstream::ok();
    let config = Setup::new().route(STATUSES).toml(&[&nobody]);
    let endpoints = format!("{}\", \"{}", inner[0].address, inner[1].address);
    (Switchback::start(&config.replace(&nobody.address.to_string(), &endpoints)), inner)
}

#[test]
fn retries_of_two_layers_do_not_multiply() {
    for (app, status) in [
        (Upstream::answering(response(503, b"busy")), 503),
        (Upstream::start(|exchange| exchange.close()), 502),
        (Upstream::start(|exchange| exchange.reset()), 502),
    ] {
        let (outer, inner) = two_layers(&app);
        let answer = outer.client().exchange(get("/", ""));
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.head.one("x-switchback-attempt"), Some("3"));
        assert_eq!(app.requests(), 3, "those of one layer, not nine");
        assert_eq!(counted(&outer, "switchback_route_retries_total", &[]), 0);
        let made: u64 = inner.iter().map(|one| counted(one, "switchback_route_retries_total", &[])).sum();
        assert_eq!(made, 2);
    }
}

#[test]
fn a_layer_that_is_gone_is_left_to_the_one_in_front() {
    let app = Upstream::ok();
    let (outer, [gone, _well]) = two_layers(&app);
    drop(gone);
    let mut client = outer.client();
    for _ in 0..6 {
        assert_eq!(client.exchange(get("/", "")).whole().text(), "ok");
    }
    assert_eq!(app.requests(), 6);
    assert!(app.messages().iter().all(|message| matches!(attempt(message), None | Some("2"))));
}
