//! SRV records.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    GET, Machines, start,
    support::{Switchback, dns::NameServer},
    wait_in_pool,
};

/// How many of this many requests each address answered.
fn counts(switchback: &Switchback, requests: usize) -> BTreeMap<IpAddr, usize> {
    let mut client = switchback.client();
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let answer = client.exchange(GET).whole();
        assert_eq!(answer.status, 200, "{answer:?}");
        *counts.entry(answer.text().parse().expect("an address")).or_default() += 1;
    }
    counts
}

#[test]
fn a_service_is_shared_by_weight_and_higher_priorities_wait() {
    let (machines, server) = (Machines::start(3), NameServer::start());
    for (name, index) in [("a.test", 0), ("b.test", 1), ("c.test", 2)] {
        server.addresses(name, &machines.ips(&[index]));
    }
    let port = machines.port;
    server.service(
        "_http._tcp.app.test",
        &[(1, 1, port, "a.test"), (1, 3, port, "b.test"), (2, 9, port, "c.test")],
    );
    let switchback = start(&["srv:_http._tcp.app.test"], &server);
    let shares = counts(&switchback, 400);
    let of = |index| shares.get(&machines.ip(index)).copied().unwrap_or(0);
    // Round robin by weight is exact within a few requests.
    assert!(of(0).abs_diff(100) <= 4 && of(1).abs_diff(300) <= 4 && of(2) == 0, "{shares:?}");
    // The lowest priority has gone: the next one takes over.
    server.service("_http._tcp.app.test", &[(2, 9, port, "c.test")]);
    wait_in_pool(&switchback, &machines.ips(&[2]), port);
    assert_eq!(counts(&switchback, 10), BTreeMap::from([(machines.ip(2), 10)]));
}

#[test]
fn a_targets_addresses_are_followed_as_the_service_is() {
    let (machines, server) = (Machines::start(3), NameServer::start());
    let port = machines.port;
    server.service("_http._tcp.app.test", &[(0, 0, port, "a.test"), (0, 0, port, "gone.test")]);
    server.addresses("a.test", &machines.ips(&[0, 1]));
    let switchback = start(&["srv:_http._tcp.app.test"], &server);
    assert_eq!(counts(&switchback, 40).len(), 2, "a target that does not exist has no share");
    server.addresses("a.test", &machines.ips(&[2]));
    wait_in_pool(&switchback, &machines.ips(&[2]), port);
    assert_eq!(counts(&switchback, 10), BTreeMap::from([(machines.ip(2), 10)]));
}
