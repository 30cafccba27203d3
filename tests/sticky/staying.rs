//! What a pin does, and what the cookie looks like.

use crate::{
    browser::{Jar, named, session_on, sticky},
    support::wait_until,
};

#[test]
fn a_session_stays_whatever_the_weights_and_over_every_connection_and_worker() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(2, (50, 50), "cookie = \"sb\"", &blue, &green);
    let mut sessions: Vec<(Jar, String)> = (0..40)
        .map(|_| {
            let mut jar = Jar::default();
            let visit = jar.visit(&mut switchback.client());
            assert!(visit.issued.is_some(), "a session without a pin gets one");
            (jar, visit.pool)
        })
        .collect();
    for weights in [(50, 50), (1, 99), (0, 1), (1, 0)] {
        switchback.weigh(weights.0, weights.1);
        for (jar, pool) in &mut sessions {
            let visit = jar.visit(&mut switchback.client());
            assert_eq!(visit.pool, *pool, "at {weights:?}");
            assert_eq!(visit.issued, None, "a good pin is not issued again");
        }
    }
    let mut fresh = Jar::default();
    assert_eq!(fresh.visit(&mut switchback.client()).pool, "blue", "a pool of weight 0 gets no new session");
}

#[test]
fn the_cookie_has_the_attributes_that_the_file_says() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(1, (1, 1), "cookie = \"sb\"", &blue, &green);
    let issued = |switchback: &crate::support::Switchback, fields: &str| {
        let issued =
            Jar::default().visit_with(&mut switchback.client(), fields).issued.expect("a new session");
        let (_, attributes) = issued.split_once(';').expect("there are attributes");
        attributes.trim().to_owned()
    };
    assert_eq!(issued(&switchback, ""), "Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(issued(&switchback, "X-Forwarded-Proto: https\r\n"), "Path=/; HttpOnly; SameSite=Lax");
    drop(switchback);
    let text = crate::browser::config(
        1,
        (1, 1),
        "cookie = \"sb\", ttl = \"90s\", path = \"/x\", domain = \"a.example\", http_only = false, same_site = \"strict\"",
        &blue,
        &green,
    );
    let text = text.replace("name = \"web\"", "name = \"web\"\ntrusted_proxies = [\"127.0.0.0/8\"]");
    let switchback = crate::support::Switchback::start(&text);
    let common = "Path=/x; Domain=a.example; Max-Age=90;";
    assert_eq!(issued(&switchback, ""), format!("{common} SameSite=Strict"));
    let over_tls = issued(&switchback, "X-Forwarded-Proto: https\r\n");
    assert_eq!(over_tls, format!("{common} Secure; SameSite=Strict"));
}

#[test]
fn what_the_upstream_sets_is_not_touched() {
    let setting = b"HTTP/1.1 200 OK\r\nSet-Cookie: own=1; Path=/\r\nSet-Cookie: sb=mine\r\nContent-Length: 4\r\n\r\nblue";
    let (blue, green) = (crate::support::Upstream::answering(setting.to_vec()), named("green"));
    let switchback = sticky(1, (1, 0), "cookie = \"sb\"", &blue, &green);
    let response = switchback.client().exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").whole();
    let set = response.head.all("set-cookie");
    assert_eq!(set[..2], ["own=1; Path=/", "sb=mine"]);
    assert!(set.len() == 3 && set[2].starts_with("sb=v1."), "{set:?}");
}

#[test]
fn a_pin_is_over_with_its_time_and_is_renewed_in_its_second_half() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(1, (1, 1), "cookie = \"sb\", ttl = \"2s\"", &blue, &green);
    let mut client = switchback.client();
    let mut jar = session_on("green", &mut client);
    switchback.weigh(1, 0);
    let first = jar.clone();
    wait_until("the pin is renewed where it is", || {
        let visit = jar.visit(&mut client);
        assert_eq!(visit.pool, "green", "a session that goes on stays");
        visit.issued.is_some()
    });
    assert_ne!(jar, first);
    wait_until("a pin that nobody renewed is over", || first.clone().visit(&mut client).pool == "blue");
    // Renewed again and again, the session outlives the time of each of its pins.
    assert!(switchback.metric("switchback_pins_issued_total") >= 2.0);
}

#[test]
fn pins_are_counted_and_sessions_estimated() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(2, (1, 1), "cookie = \"sb\"", &blue, &green);
    let mut client = switchback.client();
    let mut jars: Vec<Jar> = (0..100).map(|_| Jar::default()).collect();
    for _ in 0..3 {
        jars.iter_mut().for_each(|jar| drop(jar.visit(&mut client)));
    }
    let split = switchback.admin("GET", "/v1/splits/main", "");
    let view: serde_json::Value = serde_json::from_str(&split.text()).expect("JSON");
    let sticky = &view["sticky"];
    for pool in ["blue", "green"] {
        let of = &sticky["pools"][pool];
        assert_eq!((of["pinned"].as_u64(), of["issued"]["new"].as_u64()), (Some(100), Some(50)), "{view}");
        let estimate = of["sessions"]["estimate"].as_u64().expect("a number");
        assert!((47..=53).contains(&estimate), "{view}");
        assert!(
            of["sessions"]["window_seconds"].as_u64() > Some(0) && of["sessions"]["error"].is_f64(),
            "{view}"
        );
    }
    let share = sticky["pinned_share"].as_f64().expect("a number");
    assert!((share - 2.0 / 3.0).abs() < 1e-9, "{view}");
    assert_eq!(switchback.metric("switchback_pins_pinned_requests_total"), 200.0);
    assert_eq!(switchback.metric("switchback_pins_issued_total"), 100.0);
    assert!((switchback.metric("switchback_pins_sessions") - 100.0).abs() < 6.0);
}

#[test]
fn a_tunnel_begins_a_session_and_a_pinned_one_comes_where_it_belongs() {
    let tunnel = || crate::support::Upstream::start(|exchange| exchange.tunnel_echo("websocket"));
    let (blue, green) = (tunnel(), tunnel());
    let switchback = sticky(1, (0, 1), "cookie = \"sb\"", &blue, &green);
    let upgrade = |cookie: &str| {
        let mut client = switchback.client();
        client.send(format!(
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{cookie}\r\n"
        ));
        let head = client.wire.head().expect("an answer");
        assert_eq!(head.status(), Ok(101));
        client.send("hello");
        assert_eq!(client.wire.exactly(5).expect("an echo"), b"hello");
        head.one("set-cookie").map(str::to_owned)
    };
    let issued = upgrade("").expect("a session begins");
    switchback.weigh(1, 0);
    let cookie = format!("Cookie: {}\r\n", issued.split(';').next().unwrap_or_default());
    assert_eq!(upgrade(&cookie), None);
    assert_eq!((blue.requests(), green.requests()), (0, 2));
}
