//! A pool that is drained by the admin API, and the sessions that are pinned to it: kept until the deadline or moved at
//! once, and each moves once.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    browser::{Jar, named, session_on, sticky},
    support::{Client, Switchback, wait_until},
};

const SESSIONS: usize = 12;

/// Drains or undrains pool `green`; answers what the call says.
fn green(switchback: &Switchback, act: &str, body: &str) -> Value {
    let response = switchback.admin("POST", &format!("/v1/pools/green/{act}"), body);
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_str(&response.text()).expect("JSON")
}

/// Asserts that a session of green comes to blue with a new cookie, and then stays there with that.
fn assert_moves_once(jar: &mut Jar, client: &mut Client) {
    let visit = jar.visit(client);
    assert_eq!((visit.pool.as_str(), visit.issued.is_some()), ("blue", true));
    assert_stays_on_blue(jar, client);
}

fn assert_stays_on_blue(jar: &mut Jar, client: &mut Client) {
    for _ in 0..3 {
        let visit = jar.visit(client);
        assert_eq!((visit.pool.as_str(), visit.issued), ("blue", None));
    }
}

#[test]
fn kept_sessions_stay_until_the_deadline_and_then_move_once() {
    let (blue, green_upstream) = (named("blue"), named("green"));
    let switchback = sticky(2, (1, 1), "cookie = \"sb\"", &blue, &green_upstream);
    let mut client = switchback.client();
    let mut sessions: Vec<Jar> = (0..SESSIONS).map(|_| session_on("green", &mut client)).collect();
    let mut late = session_on("green", &mut client);
    let begun = Instant::now();
    let deadline = Duration::from_millis(1_500);
    let answer = green(&switchback, "drain", r#"{"deadline": "1500ms"}"#);
    assert_eq!(answer["drain"]["pins"], "keep", "the default of a pool: {answer}");
    wait_until("every session has moved", || {
        assert_eq!(Jar::default().visit(&mut client).pool, "blue", "no new session comes");
        sessions.retain_mut(|jar| {
            // Over every worker: each visit is a connection of its own.
            let visit = jar.visit(&mut switchback.client());
            if visit.pool == "green" {
                assert_eq!(visit.issued, None, "a session that stays keeps its cookie");
                return true;
            }
            assert!(begun.elapsed() >= deadline, "it moved after {:?}", begun.elapsed());
            assert!(visit.issued.is_some(), "a move is told");
            assert_stays_on_blue(jar, &mut switchback.client());
            false
        });
        sessions.is_empty()
    });
    // Nobody was there to see the deadline pass.
    assert_moves_once(&mut late, &mut client);
    green(&switchback, "undrain", "");
    assert_stays_on_blue(&mut late, &mut client);
    session_on("green", &mut client);
}

#[test]
fn moved_sessions_move_once_with_their_next_request() {
    let (blue, green_upstream) = (named("blue"), named("green"));
    let switchback = sticky(2, (1, 1), "cookie = \"sb\"", &blue, &green_upstream);
    let mut client = switchback.client();
    let mut sessions: Vec<Jar> = (0..SESSIONS).map(|_| session_on("green", &mut client)).collect();
    let mut absent = session_on("green", &mut client);
    let answer = green(&switchback, "drain", r#"{"deadline": "10m", "pins": "move"}"#);
    assert_eq!(answer["drain"]["pins"], "move", "{answer}");
    let then = green_upstream.requests();
    for jar in &mut sessions {
        assert_moves_once(jar, &mut switchback.client());
    }
    assert_eq!(green_upstream.requests(), then, "nothing comes from the answer on");
    green(&switchback, "undrain", "");
    for jar in &mut sessions {
        assert_stays_on_blue(jar, &mut switchback.client());
    }
    let visit = absent.visit(&mut client);
    assert_eq!((visit.pool.as_str(), visit.issued), ("green", None), "who was not there has not moved");
}
