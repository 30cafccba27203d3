//! Ten thousand sessions through a whole release and its rollback: none changes its pool but by the rules, and new
//! sessions are shared exactly as the weights say.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::{
    browser::{Jar, named, sticky},
    support::{Client, Switchback},
};

const SESSIONS: usize = 10_000;
const CLIENTS: usize = 4;
const WORKERS: usize = 2;
/// Blue and green at each step of the release.
const STEPS: [(u32, u32); 4] = [(100, 0), (95, 5), (75, 25), (0, 100)];

/// A session and the pool that it belongs to.
struct Session {
    jar: Jar,
    pool: String,
}

/// The sessions of one client, and its connection.
struct Visitor {
    client: Client,
    sessions: Vec<Session>,
}

impl Visitor {
    /// Opens new sessions; each is pinned by its first answer.
    fn open(&mut self, count: usize) {
        for _ in 0..count {
            let mut jar = Jar::default();
            let visit = jar.visit(&mut self.client);
            assert!(visit.issued.is_some(), "a new session gets a pin");
            self.sessions.push(Session { jar, pool: visit.pool });
        }
    }

    /// Makes a request of each session: all stay, and none gets a new pin.
    fn revisit(&mut self) {
        for session in &mut self.sessions {
            let visit = session.jar.visit(&mut self.client);
            assert_eq!((&visit.pool, visit.issued), (&session.pool, None), "a session has changed its pool");
        }
    }
}

/// Runs something for all visitors at once.
fn all(visitors: &mut [Visitor], act: impl Fn(&mut Visitor) + Sync) {
    thread::scope(|scope| {
        for visitor in visitors {
            scope.spawn(|| act(visitor));
        }
    });
}

fn on_green(visitors: &[Visitor]) -> usize {
    visitors.iter().flat_map(|visitor| &visitor.sessions).filter(|session| session.pool == "green").count()
}

/// The release: at each step the weights change while all sessions go on, and new ones come then.
fn release(switchback: &Switchback, visitors: &mut [Visitor]) {
    let new = SESSIONS / STEPS.len();
    for (blue, green) in STEPS {
        thread::scope(|scope| {
            let going_on = scope.spawn(|| all(visitors, Visitor::revisit));
            switchback.weigh(blue, green);
            going_on.join().expect("no session has moved");
        });
        let before = on_green(visitors);
        all(visitors, |visitor| visitor.open(new / CLIENTS));
        let share = (on_green(visitors) - before) as f64 / new as f64;
        let weight = f64::from(green) / f64::from(blue + green);
        println!("{blue}:{green}: {:.2} % of {new} new sessions came to green", share * 100.0);
        assert!((share - weight).abs() <= 0.005, "{share} of the new sessions at a weight of {weight}");
    }
}

#[test]
fn ten_thousand_sessions_stay_through_a_release_and_leave_with_its_rollback() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(WORKERS, (100, 0), "cookie = \"sb\", ttl = \"1h\"", &blue, &green);
    let mut visitors: Vec<Visitor> =
        (0..CLIENTS).map(|_| Visitor { client: switchback.client(), sessions: Vec::new() }).collect();
    release(&switchback, &mut visitors);
    let (green_before, opened) = (on_green(&visitors), SESSIONS as f64);

    // The rollback comes while all sessions go on: those on blue stay, those on green leave at once, each once.
    let rolled_back = AtomicBool::new(false);
    thread::scope(|scope| {
        let going_on = scope.spawn(|| {
            all(&mut visitors, |visitor| {
                for session in &mut visitor.sessions {
                    let is_over = rolled_back.load(Ordering::SeqCst);
                    let visit = session.jar.visit(&mut visitor.client);
                    let has_moved = session.pool == "green" && visit.pool == "blue";
                    assert!(has_moved || visit.pool == session.pool, "a session has left {}", session.pool);
                    assert!(!is_over || visit.pool == "blue", "a session is on green after the rollback");
                    assert_eq!(visit.issued.is_some(), has_moved);
                    session.pool = visit.pool;
                }
            });
        });
        let answer = switchback.admin("POST", "/v1/splits/main/rollback", "");
        rolled_back.store(true, Ordering::SeqCst);
        assert!(
            answer.status == 200 && answer.text().contains("\"released\":[\"green\"]"),
            "{}",
            answer.text()
        );
        going_on.join().expect("no session went astray");
    });
    all(&mut visitors, |visitor| {
        for session in &mut visitor.sessions {
            let visit = session.jar.visit(&mut visitor.client);
            assert_eq!(visit.pool, "blue", "a session is on green after the rollback");
            assert_eq!(visit.issued.is_some(), session.pool == "green", "it moves once");
            session.pool = visit.pool;
        }
    });
    all(&mut visitors, Visitor::revisit);

    let issued = switchback.metric("switchback_pins_issued_total");
    assert_eq!(issued, opened + green_before as f64, "one pin for each session and one for each move");
    assert_eq!(
        switchback.metric("switchback_split_requests_total"),
        (blue.requests() + green.requests()) as f64
    );
    let sessions = switchback.metrics();
    let line = sessions
        .lines()
        .find(|line| line.starts_with("switchback_pins_sessions{split=\"main\",pool=\"blue\"}"));
    let estimate: f64 = line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a number");
    assert!((estimate / opened - 1.0).abs() < 0.08, "{estimate} sessions are estimated on blue");
}
