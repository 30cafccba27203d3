//! A successor that keeps its state elsewhere: it goes on with what is in force, or does not come to serve.

use std::{fs, net::SocketAddr, path::PathBuf};

use serde_json::Value;

use crate::{
    Line, green, json,
    support::{Upstream, config::blue_green},
    weigh,
};

/// A line whose file can be told another place for the state.
struct Moving {
    line: Line,
    config: String,
    blue: SocketAddr,
    _upstreams: [Upstream; 2],
}

impl Moving {
    fn start() -> Self {
        let upstreams = [Upstream::ok(), Upstream::ok()];
        let config = blue_green(1, (1_000_000, 0), "", &upstreams[0], &upstreams[1]);
        let blue = upstreams[0].address;
        Self { line: Line::start(&config), config, blue, _upstreams: upstreams }
    }

    fn database(&self, name: &str) -> PathBuf {
        self.line.first.file().with_file_name(name)
    }

    /// Has the file name a database, or none, and replaces the process.
    fn move_to(&self, name: Option<&str>) {
        self.name(name);
        self.line.replace();
    }

    fn name(&self, name: Option<&str>) {
        let state = name.map(|name| format!("state = {{ path = {:?} }}\n", self.database(name)));
        fs::write(self.line.first.file(), state.unwrap_or_default() + &self.config)
            .expect("a writable folder");
    }

    /// What must not change: the weights, and since when an endpoint drains.
    fn in_force(&self) -> (u64, Value) {
        let status = self.line.status();
        (green(&status), status["pools"][0]["endpoints"][0]["drain"]["since"].clone())
    }

    /// Newest first.
    fn revisions(&self) -> Vec<Value> {
        let page = json(&self.line.first.admin("GET", "/v1/revisions", ""));
        page["revisions"].as_array().expect("a list").clone()
    }
}

#[test]
fn the_live_state_follows_to_wherever_the_file_has_it_kept() {
    let moving = Moving::start();
    let line = &moving.line;
    assert_eq!(weigh(&line.first, 7).status, 200);
    let path = format!("/v1/pools/blue/endpoints/{}/drain", moving.blue);
    assert_eq!(line.first.admin("POST", &path, "").status, 200);
    let since = moving.in_force().1;
    assert!(since.is_string(), "it drains");
    for (round, name) in
        [Some("a.db"), Some("b.db"), None, Some("a.db"), Some("a.db")].into_iter().enumerate()
    {
        let (before, history) = (moving.in_force(), moving.revisions());
        moving.move_to(name);
        assert_eq!(moving.in_force(), before, "to {name:?}");
        assert!(moving.revisions().ends_with(&history), "its history, too");
        assert_eq!(line.status()["durable"], name.is_some_and(|name| moving.database(name).exists()));
        // What comes later is kept where the file says, and leads from there to the next place.
        assert_eq!(weigh(&line.first, 100 + round as u64).status, 200);
    }
    assert_eq!(moving.in_force(), (104, since));
    let back = line.first.admin("POST", "/v1/splits/main/rollback", "");
    assert_eq!((back.status, green(&line.status())), (200, 0), "{}", back.text());
}

#[test]
fn a_place_that_holds_another_history_is_refused_and_the_old_process_serves_on() {
    let moving = Moving::start();
    let line = &moving.line;
    let state = format!("state = {{ path = {:?} }}\n", moving.database("other.db"));
    let other = crate::support::Switchback::start(&(state + &moving.config));
    assert_eq!(weigh(&other, 1).status, 200);
    drop(other);
    assert_eq!(weigh(&line.first, 7).status, 200);
    let (before, pid) = (moving.in_force(), line.serving());
    let file = fs::read(moving.database("other.db")).expect("it is kept");
    moving.name(Some("other.db"));
    let output = line.upgrade(&[]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("holds another history already") && said.contains("name a path"), "{said}");
    assert_eq!((moving.in_force(), line.serving()), (before, pid));
    assert_eq!(weigh(&line.first, 8).status, 200, "changes are taken again");
    let restored = fs::read(moving.database("other.db")).expect("it is kept");
    assert!(restored.len() >= file.len(), "it is not begun anew");
    moving.move_to(Some("new.db"));
    assert_eq!(green(&line.status()), 8, "a place where nothing is");
}
