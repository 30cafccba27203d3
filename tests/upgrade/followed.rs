//! What a replaced process still serves goes by what is in force in its successor, and is counted where that waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    Line, json,
    support::{Client, Upstream, config::blue_green, upstream::response, wait_until},
};

/// An application that holds requests for `/held` until it is told to answer them.
fn holding(name: &'static str, release: &Arc<AtomicBool>) -> Upstream {
    let release = Arc::clone(release);
    Upstream::start(move |exchange| {
        exchange.body();
        while exchange.head.target() == "/held" && !release.load(SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        exchange.send(&response(200, name.as_bytes()));
    })
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

/// A line of processes before blue and green, all weight on blue, with a minute for what is in flight.
struct Scene {
    line: Line,
    blue: Upstream,
    _green: Upstream,
    release: Arc<AtomicBool>,
}

impl Scene {
    fn start() -> Self {
        let release = Arc::new(AtomicBool::new(false));
        let (blue, green) = (holding("blue", &release), holding("green", &release));
        let shutdown = "[shutdown]\ndelay = \"0s\"\ndeadline = \"60s\"\n";
        let line = Line::start(&(blue_green(2, (1, 0), "", &blue, &green) + shutdown));
        Self { line, blue, _green: green, release }
    }

    /// A request that is in flight at blue.
    fn hold(&self) -> Client {
        let (mut client, before) = (self.line.first.client(), self.blue.requests());
        client.send(get("/held"));
        wait_until("it is in flight", || self.blue.requests() > before);
        client
    }

    /// Lets what is held be answered.
    fn release(&self, mut held: Client) {
        self.release.store(true, SeqCst);
        assert_eq!(held.response("GET").whole().text(), "blue");
    }
}

fn post(line: &Line, path: &str, body: &str) -> Value {
    let answer = line.first.admin("POST", path, body);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    json(&answer)
}

#[test]
fn a_switch_decides_the_next_request_of_a_connection_from_before() {
    let scene = Scene::start();
    let Scene { line, .. } = &scene;
    let mut connections: Vec<Client> = (0..8).map(|_| line.first.client()).collect();
    for client in &mut connections {
        assert_eq!(client.exchange(get("/")).whole().text(), "blue");
    }
    line.replace();
    line.replace();
    let answer = post(line, "/v1/splits/main/switch?wait=drained", "{\"to\": \"green\"}");
    assert_eq!((&answer["drained"], &answer["in_flight"]["blue"]), (&true.into(), &0.into()), "{answer}");
    for client in &mut connections {
        assert_eq!(client.exchange(get("/")).whole().text(), "green", "it was switched before this was sent");
    }
}

#[test]
fn a_drain_is_over_when_nothing_is_in_flight_in_the_process_before_either() {
    let scene = Scene::start();
    let Scene { line, blue, .. } = &scene;
    let held = scene.hold();
    line.replace();
    let drain = format!("/v1/pools/blue/endpoints/{}/drain?wait=drained&timeout=200ms", blue.address);
    let answer = post(line, &drain, "{\"deadline\": \"off\"}");
    assert_eq!((&answer["drained"], &answer["in_flight"]), (&false.into(), &1.into()), "{answer}");
    let shown = || line.status()["pools"][0]["endpoints"][0].clone();
    assert_eq!(shown()["in_flight"], 1, "{}", shown());
    assert_eq!(shown()["drain"]["drained"], false, "{}", shown());
    scene.release(held);
    let answer = post(line, &drain.replace("200ms", "20s"), "{\"deadline\": \"off\"}");
    assert_eq!((&answer["drained"], &answer["in_flight"]), (&true.into(), &0.into()), "{answer}");
    wait_until("it is shown", || shown()["drain"]["drained"] == true);
}

/// The process in the middle has nothing of its own to do, but hears and tells for the one before it.
#[test]
fn a_process_before_the_one_before_is_heard_and_counted_to_its_end() {
    let scene = Scene::start();
    let Scene { line, .. } = &scene;
    let mut idle = line.first.client();
    assert_eq!(idle.exchange(get("/")).whole().text(), "blue");
    let held = scene.hold();
    line.replace();
    line.replace();
    // Longer than a process that is not needed stays.
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(line.processes().len(), 3);
    let answer = post(line, "/v1/splits/main/switch?wait=drained&timeout=200ms", "{\"to\": \"green\"}");
    assert_eq!((&answer["drained"], &answer["in_flight"]["blue"]), (&false.into(), &1.into()), "{answer}");
    assert_eq!(idle.exchange(get("/")).whole().text(), "green");
    scene.release(held);
    drop(idle);
    wait_until("the old processes have ended", || line.processes().len() == 1);
}

#[test]
fn an_endpoint_is_removed_when_nothing_is_in_flight_in_the_process_before_either() {
    let scene = Scene::start();
    let Scene { line, blue, .. } = &scene;
    let held = scene.hold();
    line.replace();
    let other = Upstream::ok();
    let endpoints = "/v1/pools/blue/endpoints";
    assert_eq!(line.first.admin("PUT", &format!("{endpoints}/{}", other.address), "{}").status, 200);
    let remove = format!("{endpoints}/{}?wait=drained&timeout=300ms", blue.address);
    let answer = json(&line.first.admin("DELETE", &remove, "{\"deadline\": \"off\"}"));
    assert_eq!((&answer["drained"], &answer["in_flight"]), (&false.into(), &1.into()), "{answer}");
    let listed = || line.status()["pools"][0]["endpoints"].as_array().map_or(0, Vec::len);
    assert_eq!(listed(), 2, "it is still there");
    scene.release(held);
    wait_until("it is removed", || listed() == 1);
}

#[test]
fn a_drain_that_is_taken_back_cuts_nothing_in_the_process_before() {
    let scene = Scene::start();
    let Scene { line, blue, .. } = &scene;
    let held = scene.hold();
    line.replace();
    let endpoint = format!("/v1/pools/blue/endpoints/{}", blue.address);
    post(line, &format!("{endpoint}/drain"), "{\"deadline\": \"400ms\"}");
    post(line, &format!("{endpoint}/undrain"), "");
    // Longer than the drain would have let it.
    thread::sleep(Duration::from_millis(800));
    scene.release(held);
}

#[test]
fn a_file_that_changes_is_gone_by_too() {
    let scene = Scene::start();
    let Scene { line, .. } = &scene;
    let mut client = line.first.client();
    assert_eq!(client.exchange(get("/")).whole().text(), "blue");
    line.replace();
    let text = std::fs::read_to_string(line.first.file()).expect("the test's file");
    line.first.write(&text.replace("blue = 1, green = 0", "blue = 0, green = 1"));
    post(line, "/v1/config/reload", "");
    assert_eq!(client.exchange(get("/")).whole().text(), "green");
}
