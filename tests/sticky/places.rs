//! Where a pinned session goes when its pool or endpoint drains, fails or comes back.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use serde_json::{Value, json};
use switchback::{app::Instance, config as file, upstream::occupancy::Occupancy};

use crate::{
    browser::{Jar, config, named, session_on, sticky},
    support::{Client, Switchback, Upstream, upstream::response, wait_until},
};

/// Both planes in this process, so that a test can set the bits that a drain or a probe sets.
fn start(text: &str) -> Instance {
    let (config, _) = file::parse("test", text).map_err(|errors| errors.render()).expect("a good file");
    Instance::start(config, None).expect("it starts")
}

/// Does something to every endpoint of a pool.
fn each_endpoint(instance: &Instance, pool: &str, act: impl Fn(&Occupancy)) {
    let table = instance.control.live.table();
    let pool = table.pools.iter().find(|known| known.settings.name.as_str() == pool).expect("a pool");
    pool.endpoints.iter().for_each(|(endpoint, _)| act(&endpoint.occupancy));
}

#[test]
fn a_pool_that_drains_keeps_or_moves_its_sessions_as_its_bits_say() {
    let (blue, green) = (named("blue"), named("green"));
    let instance = start(&config(1, (1, 1), "cookie = \"sb\"", &blue, &green));
    let mut client = Client::connect(instance.addresses[0]);
    let (mut first, mut second) = (session_on("green", &mut client), session_on("green", &mut client));

    // pins = "keep": no new session, and those that are there go on.
    each_endpoint(&instance, "green", Occupancy::reserve);
    for _ in 0..20 {
        assert_eq!(first.visit(&mut client).pool, "green");
        let visit = Jar::default().visit(&mut client);
        assert_eq!((visit.pool.as_str(), visit.issued.is_some()), ("blue", true));
    }

    // pins = "move", or the deadline: with their next request they move, once.
    each_endpoint(&instance, "green", drain);
    let visit = first.visit(&mut client);
    assert_eq!((visit.pool.as_str(), visit.issued.is_some()), ("blue", true));
    each_endpoint(&instance, "green", Occupancy::undrain);
    for _ in 0..5 {
        let visit = first.visit(&mut client);
        assert_eq!(
            (visit.pool.as_str(), visit.issued),
            ("blue", None),
            "it has moved, and moves back no more"
        );
    }
    assert_eq!(second.visit(&mut client).pool, "green", "who was not there meanwhile has not moved");
    instance.end();
}

#[test]
fn a_pool_that_is_not_well_loses_its_sessions_once_and_in_panic_keeps_them() {
    let (blue, green) = (named("blue"), named("green"));
    let text = config(1, (1, 1), "cookie = \"sb\"", &blue, &green);
    for may_panic in [true, false] {
        let share = if may_panic { "0.5" } else { "0" };
        let text = text.replace("[pool.green]\n", &format!("[pool.green]\npanic = {share}\n"));
        let instance = start(&text);
        let mut client = Client::connect(instance.addresses[0]);
        let (mut first, mut second) = (session_on("green", &mut client), session_on("green", &mut client));
        each_endpoint(&instance, "green", |occupancy| occupancy.set_ejected(true));
        let visit = first.visit(&mut client);
        let stays = if may_panic { ("green", false) } else { ("blue", true) };
        assert_eq!((visit.pool.as_str(), visit.issued.is_some()), stays, "panic = {share}");
        each_endpoint(&instance, "green", |occupancy| occupancy.set_ejected(false));
        assert_eq!(first.visit(&mut client).pool, stays.0, "it has moved once, if at all");
        each_endpoint(&instance, "green", |occupancy| occupancy.set_healthy(false));
        let visit = second.visit(&mut client);
        assert_eq!((visit.pool.as_str(), visit.issued.is_some()), ("blue", true));
        instance.end();
    }
}

/// Where a request of a session would go, by `explain`: outcome, status and pool.
fn explained(switchback: &Switchback, jar: &Jar) -> [Value; 3] {
    let question = json!({"host": "a.example", "headers": {"cookie": jar.cookie}});
    let response = switchback.admin("POST", "/v1/explain", &question.to_string());
    let mut story: Value = serde_json::from_slice(&response.body.bytes).expect("a story in JSON");
    ["outcome", "status", "pool"].map(|part| story[part].take())
}

#[test]
fn a_session_whose_place_is_full_is_turned_away_and_stays_and_explain_says_so() {
    for (to, limit) in [("pool", "max_requests"), ("endpoint", "max_endpoint_requests")] {
        let is_open = Arc::new(AtomicBool::new(false));
        let (gate, blue) = (Arc::clone(&is_open), named("blue"));
        let green = Upstream::start(move |exchange| {
            if exchange.head.start.contains("/held") {
                wait_until("the test opens the gate", || gate.load(SeqCst));
            }
            exchange.send(&response(200, b"green"));
        });
        let text = config(1, (1, 1), &format!("cookie = \"sb\", to = \"{to}\""), &blue, &green);
        let text = text.replace("[pool.green]\n", &format!("[pool.green]\n{limit} = 1\n"));
        let switchback = Switchback::start(&text);
        let mut client = switchback.client();
        let mut jar = session_on("green", &mut client);
        let cookie = format!("Cookie: {}\r\n", jar.cookie.as_deref().expect("it was set"));
        let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{cookie}\r\n");
        let goes = [json!("forward"), Value::Null, json!("green")];
        // The request before has its answer a moment before its place is free.
        wait_until("green has room", || explained(&switchback, &jar) == goes);

        let before = green.requests();
        let mut holder = switchback.client();
        holder.send(request("/held"));
        wait_until("green is full", || green.requests() > before);
        assert_eq!(explained(&switchback, &jar), [json!("unavailable"), json!(503), json!("green")], "{to}");
        let shed = client.exchange(request("/"));
        assert!(shed.status == 503 && shed.text().contains(limit), "{to}: {shed:?}");
        assert_eq!(shed.head.one("set-cookie"), None);
        is_open.store(true, SeqCst);
        assert_eq!(holder.response("GET").status, 200);
        wait_until("green has room again", || explained(&switchback, &jar) == goes);
        let visit = jar.visit(&mut client);
        assert_eq!((visit.pool.as_str(), visit.issued), ("green", None), "{to}");
    }
}

fn drain(occupancy: &Occupancy) {
    occupancy.drain();
}

/// An upstream that ends each connection after its answer, so that whoever comes next must connect.
fn closing(answer: &'static str) -> Upstream {
    Upstream::start(move |exchange| {
        exchange.send(&response(200, answer.as_bytes()));
        exchange.close();
    })
}

/// Three endpoints of green that answer with their numbers, and a file that pins to endpoints.
fn endpoints() -> (Vec<Upstream>, Upstream, String) {
    let numbered = ["0", "1", "2"].map(closing);
    let blue = named("blue");
    let text = config(1, (0, 1), "cookie = \"sb\", to = \"endpoint\"", &blue, &numbered[0]);
    let addresses: Vec<_> = numbered.iter().map(|upstream| format!("\"{}\"", upstream.address)).collect();
    let text =
        text.replace(&format!("[\"{}\"]", numbered[0].address), &format!("[{}]", addresses.join(", ")));
    (numbered.into(), blue, text)
}

#[test]
fn a_session_stays_with_its_endpoint_and_moves_within_its_pool_when_that_goes() {
    let (_upstreams, _blue, text) = endpoints();
    let instance = start(&text);
    let mut client = Client::connect(instance.addresses[0]);
    let mut sessions: Vec<(Jar, String)> = (0..30)
        .map(|_| {
            let mut jar = Jar::default();
            let visit = jar.visit(&mut client);
            (jar, visit.pool)
        })
        .collect();
    for _ in 0..3 {
        for (jar, endpoint) in &mut sessions {
            let visit = jar.visit(&mut client);
            assert_eq!((&visit.pool, visit.issued), (&*endpoint, None));
        }
    }
    let table = instance.control.live.table();
    let green = table.pools.iter().find(|pool| pool.settings.name.as_str() == "green").expect("a pool");
    green.endpoints[1].0.occupancy.drain();
    green.endpoints[2].0.occupancy.reserve();
    for (jar, endpoint) in &mut sessions {
        let visit = jar.visit(&mut client);
        match endpoint.as_str() {
            "1" => {
                assert_eq!((visit.pool.as_str(), visit.issued.is_some()), ("0", true), "2 takes no new ones")
            }
            stays => assert_eq!((visit.pool.as_str(), visit.issued), (stays, None)),
        }
        let again = jar.visit(&mut client);
        assert_eq!((again.pool, again.issued), (visit.pool, None));
    }
    instance.end();
}

#[test]
fn a_request_that_is_retried_elsewhere_takes_its_session_along() {
    let (blue, green) = (closing("blue"), closing("green"));
    let switchback = sticky(1, (1, 1), "cookie = \"sb\"", &blue, &green);
    let mut client = switchback.client();
    let mut jar = session_on("green", &mut client);
    green.stop();
    green.wait_refusing();
    crate::support::wait_until("the session has moved", || {
        let visit = jar.visit(&mut client);
        assert_eq!(visit.issued.is_some(), visit.pool == "blue", "a move is told, and only a move");
        visit.pool == "blue"
    });
    assert_eq!(jar.visit(&mut client).issued, None);

    // With endpoints: the retry stays in the pool, and the pin follows it.
    let (upstreams, _blue, text) = endpoints();
    let switchback = crate::support::Switchback::start(&text);
    let mut client = switchback.client();
    let mut jar = Jar::default();
    let first = jar.visit(&mut client).pool;
    let gone = &upstreams[first.parse::<usize>().expect("a number")];
    gone.stop();
    gone.wait_refusing();
    let mut client = switchback.client();
    crate::support::wait_until("the session has moved", || jar.visit(&mut client).pool != first);
    let visit = jar.visit(&mut client);
    assert!(visit.issued.is_none() && ["0", "1", "2"].contains(&&*visit.pool), "{visit:?}");
}

#[test]
fn a_session_whose_pin_is_not_honoured_is_answered_all_the_same() {
    let (blue, green) = (named("blue"), named("green"));
    let instance = start(&config(1, (1, 1), "cookie = \"sb\"", &blue, &green));
    let address: SocketAddr = instance.addresses[0];
    let mut client = Client::connect(address);
    let jar = session_on("green", &mut client);
    each_endpoint(&instance, "green", drain);
    each_endpoint(&instance, "blue", drain);
    let request =
        format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", jar.cookie.as_ref().expect("set"));
    let nobody = client.exchange(&request).whole();
    assert_eq!((nobody.status, nobody.head.one("set-cookie")), (503, None));
    each_endpoint(&instance, "green", Occupancy::undrain);
    let back = client.exchange(&request).whole();
    assert_eq!((back.status, back.text().as_str(), back.head.one("set-cookie")), (200, "green", None));
    instance.end();
}
