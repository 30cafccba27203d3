//! Endpoints by name over real sockets: a real name server whose zone changes, and real traffic behind it.

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod hosts;
mod services;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use self::support::{Reserved, Setup, Switchback, Upstream, dns::NameServer, wait_for, wait_until};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// Applications on one port of several loopback addresses, as a name with several addresses needs them.
struct Machines {
    port: u16,
    upstreams: Vec<Upstream>,
}

impl Machines {
    /// Each answers with its own address.
    fn start(count: u8) -> Self {
        let addresses: Vec<IpAddr> = (1..=count).map(|last| IpAddr::from([127, 0, 9, last])).collect();
        let ports = wait_for("a port is free on all addresses", || same_port(&addresses));
        let port = ports[0].address.port();
        let upstreams = ports.into_iter().map(|port| {
            let text = port.address.ip().to_string();
            Upstream::start_on(port, move |exchange| {
                exchange.body();
                exchange.send(&support::upstream::response(200, text.as_bytes()));
            })
        });
        Self { port, upstreams: upstreams.collect() }
    }

    fn ip(&self, index: usize) -> IpAddr {
        self.upstreams[index].address.ip()
    }

    fn ips(&self, indices: &[usize]) -> Vec<IpAddr> {
        indices.iter().map(|index| self.ip(*index)).collect()
    }
}

/// The same port on each of these addresses.
fn same_port(addresses: &[IpAddr]) -> Option<Vec<Reserved>> {
    let first = Reserved::at((addresses[0], 0).into()).ok()?;
    let port = first.address.port();
    let others = addresses[1..].iter().map(|ip| Reserved::at((*ip, port).into()).ok());
    std::iter::once(Some(first)).chain(others).collect()
}

/// Switchback with pool `app` of these endpoints, asking this server.
fn start(endpoints: &[&str], server: &NameServer) -> Switchback {
    let quoted: Vec<_> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    let file = Setup::new().pool("balance = \"round_robin\"").tables(&server.table()).toml(&[]);
    Switchback::start(&file.replace("endpoints = []", &format!("endpoints = [{}]", quoted.join(", "))))
}

/// What the admin API says of pool `app`.
fn pool(switchback: &Switchback) -> serde_json::Value {
    let answer = switchback.admin("GET", "/v1/pools/app", "");
    serde_json::from_str(&answer.text()).expect("JSON")
}

/// The addresses that pool `app` has now.
fn in_pool(switchback: &Switchback) -> BTreeSet<String> {
    let endpoints = pool(switchback)["endpoints"].as_array().expect("a list").clone();
    endpoints.iter().map(|endpoint| endpoint["address"].as_str().expect("a text").to_owned()).collect()
}

fn wait_in_pool(switchback: &Switchback, addresses: &[IpAddr], port: u16) {
    let wanted = addresses.iter().map(|ip| SocketAddr::new(*ip, port).to_string()).collect();
    wait_until(&format!("the pool is {wanted:?}"), || in_pool(switchback) == wanted);
}

/// What some requests in a row were answered with, each with 200.
fn answered_by(switchback: &Switchback, requests: usize) -> BTreeSet<IpAddr> {
    let mut client = switchback.client();
    let one = |_| {
        let answer = client.exchange(GET).whole();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text().parse().expect("an address")
    };
    (0..requests).map(one).collect()
}

/// What is known of a name, by the admin API.
fn known(switchback: &Switchback, name: &str) -> serde_json::Value {
    let names = pool(switchback)["names"].as_array().expect("a list").clone();
    names.into_iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no {name} is shown"))
}

#[test]
fn a_names_addresses_are_there_before_the_first_request_and_all_get_some() {
    let (machines, server) = (Machines::start(3), NameServer::start());
    server.addresses("app.test", &machines.ips(&[0, 1, 2]));
    let name = format!("app.test:{}", machines.port);
    let switchback = start(&[&name], &server);
    // No waiting: the start has resolved the name.
    assert_eq!(answered_by(&switchback, 30), BTreeSet::from_iter(machines.ips(&[0, 1, 2])));
    let shown = known(&switchback, &name);
    assert_eq!((&shown["state"], &shown["addresses"]), (&"answered".into(), &3.into()), "{shown}");
    let endpoints = pool(&switchback)["endpoints"].clone();
    assert!(endpoints.as_array().unwrap().iter().all(|endpoint| endpoint["name"] == *name), "{endpoints}");
    assert_eq!(switchback.metric("switchback_names"), 1.0);
    assert_eq!(switchback.metric("switchback_name_addresses"), 3.0);
    assert!(switchback.metric("switchback_name_rounds_total") >= 1.0);
}

#[test]
fn an_address_that_comes_takes_traffic_and_one_that_leaves_takes_no_more() {
    let (machines, server) = (Machines::start(3), NameServer::start());
    server.addresses("app.test", &machines.ips(&[0, 1]));
    let switchback = start(&[&format!("app.test:{}", machines.port)], &server);
    assert_eq!(answered_by(&switchback, 20), BTreeSet::from_iter(machines.ips(&[0, 1])));
    server.addresses("app.test", &machines.ips(&[1, 2]));
    wait_in_pool(&switchback, &machines.ips(&[1, 2]), machines.port);
    assert_eq!(answered_by(&switchback, 20), BTreeSet::from_iter(machines.ips(&[1, 2])));
    machines.upstreams[0].wait_all_ended();
    // It comes back: it takes traffic as if it had never left.
    server.addresses("app.test", &machines.ips(&[0, 1, 2]));
    wait_in_pool(&switchback, &machines.ips(&[0, 1, 2]), machines.port);
    assert_eq!(answered_by(&switchback, 30), BTreeSet::from_iter(machines.ips(&[0, 1, 2])));
}

#[test]
fn what_is_in_flight_on_an_address_that_leaves_ends_in_peace() {
    use std::sync::mpsc;
    let (machines, server) = (Machines::start(1), NameServer::start());
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let slow =
        Upstream::start_at(format!("127.0.9.200:{}", machines.port).parse().unwrap(), move |exchange| {
            exchange.body();
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsl");
            released.lock().unwrap().recv().ok();
            exchange.send(b"ow");
        });
    server.addresses("app.test", &[slow.address.ip()]);
    let switchback = start(&[&format!("app.test:{}", machines.port)], &server);
    let mut waiting = switchback.client();
    waiting.send(GET);
    wait_until("the request is in flight", || slow.requests() == 1);
    server.addresses("app.test", &machines.ips(&[0]));
    wait_in_pool(&switchback, &machines.ips(&[0]), machines.port);
    assert_eq!(answered_by(&switchback, 5), BTreeSet::from_iter(machines.ips(&[0])));
    release.send(()).unwrap();
    assert_eq!(waiting.response("GET").whole().text(), "slow");
    assert_eq!(slow.requests(), 1, "nothing new came");
    slow.wait_all_ended();
}

#[test]
fn a_change_of_addresses_is_a_generation_and_no_revision() {
    let (machines, server) = (Machines::start(2), NameServer::start());
    server.addresses("app.test", &machines.ips(&[0]));
    let switchback = start(&[&format!("app.test:{}", machines.port)], &server);
    let (generation, revision) =
        (switchback.metric("switchback_table_generation"), switchback.metric("switchback_revision"));
    // Rounds that find the same make no table.
    server.wait_asked(6);
    assert_eq!(switchback.metric("switchback_table_generation"), generation);
    server.addresses("app.test", &machines.ips(&[1]));
    wait_in_pool(&switchback, &machines.ips(&[1]), machines.port);
    assert_eq!(switchback.metric("switchback_table_generation"), generation + 1.0);
    assert_eq!(switchback.metric("switchback_revision"), revision);
}

#[test]
fn an_alias_leads_to_the_addresses_behind_it() {
    let (machines, server) = (Machines::start(2), NameServer::start());
    server.alias("app.test", "blue.test");
    server.addresses("blue.test", &machines.ips(&[0]));
    server.addresses("green.test", &machines.ips(&[1]));
    let switchback = start(&[&format!("app.test:{}", machines.port)], &server);
    assert_eq!(answered_by(&switchback, 5), BTreeSet::from_iter(machines.ips(&[0])));
    server.alias("app.test", "green.test");
    wait_in_pool(&switchback, &machines.ips(&[1]), machines.port);
    assert_eq!(answered_by(&switchback, 5), BTreeSet::from_iter(machines.ips(&[1])));
}
