//! Name servers that fail, lie or flood.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    Machines, answered_by, known, start,
    support::dns::{Mood, NameServer},
    support::{Switchback, wait_until},
    wait_in_pool,
};

#[test]
fn whatever_fails_what_was_last_known_good_serves_on() {
    let (machines, server) = (Machines::start(2), NameServer::start());
    server.addresses("app.test", &machines.ips(&[0]));
    let name = format!("app.test:{}", machines.port);
    let switchback = start(&[&name], &server);
    // What it says when it is well again.
    server.addresses("app.test", &machines.ips(&[1]));
    let all = BTreeSet::from_iter(machines.ips(&[0]));
    let before = rounds(&switchback, "incomplete");
    for (number, mood) in
        [Mood::Failing, Mood::Silent, Mood::Garbage, Mood::Cut, Mood::Truncated, Mood::Astray]
            .into_iter()
            .enumerate()
    {
        server.mood(Mood::Well);
        server.addresses("app.test", &machines.ips(&[0]));
        wait_until("the name is well", || known(&switchback, &name)["state"] == "answered");
        wait_in_pool(&switchback, &machines.ips(&[0]), machines.port);
        server.mood(mood);
        server.addresses("app.test", &machines.ips(&[1]));
        wait_until(&format!("{mood:?} is noticed"), || known(&switchback, &name)["state"] == "incomplete");
        let so_far = rounds(&switchback, "incomplete");
        wait_until("more rounds have failed", || rounds(&switchback, "incomplete") >= so_far + 5.0);
        assert_eq!(answered_by(&switchback, 5), all, "{mood:?}");
        assert!(known(&switchback, &name)["error"].is_string());
        assert!(so_far > before + number as f64);
    }
    server.mood(Mood::Well);
    wait_in_pool(&switchback, &machines.ips(&[1]), machines.port);
}

#[test]
fn that_a_name_is_gone_is_believed_when_it_is_said_again() {
    let (machines, server) = (Machines::start(1), NameServer::start());
    server.addresses("app.test", &machines.ips(&[0]));
    let name = format!("app.test:{}", machines.port);
    let switchback = start(&[&name], &server);
    assert_eq!(answered_by(&switchback, 3).len(), 1);
    server.mood(Mood::Denying);
    wait_in_pool(&switchback, &[], machines.port);
    assert!(rounds(&switchback, "incomplete") >= 2.0, "it was doubted first");
    assert_eq!(known(&switchback, &name)["state"], "empty");
    let answer = switchback.client().exchange(crate::GET);
    assert_eq!(answer.status, 503, "{answer:?}");
    server.mood(Mood::Well);
    wait_in_pool(&switchback, &machines.ips(&[0]), machines.port);
    assert_eq!(answered_by(&switchback, 3).len(), 1);
}

#[test]
fn a_server_that_is_away_at_the_start_stops_neither_the_start_nor_other_pools() {
    let (machines, server) = (Machines::start(2), NameServer::start());
    server.mood(Mood::Silent);
    let declared = machines.upstreams[0].address.to_string();
    let name = format!("app.test:{}", machines.port);
    let switchback = start(&[&declared, &name], &server);
    assert_eq!(answered_by(&switchback, 5), BTreeSet::from_iter(machines.ips(&[0])));
    assert_eq!(known(&switchback, &name)["state"], "failed");
    server.addresses("app.test", &machines.ips(&[1]));
    server.mood(Mood::Well);
    wait_in_pool(&switchback, &machines.ips(&[0, 1]), machines.port);
}

#[test]
fn thousands_of_addresses_are_cut_to_the_limit() {
    let server = NameServer::start();
    let many: Vec<IpAddr> =
        (0..2_500u16).map(|number| IpAddr::from([127, 8, (number >> 8) as u8, number as u8])).collect();
    server.addresses("app.test", &many);
    let switchback = start(&["app.test:9"], &server);
    wait_in_pool(&switchback, &many[..256], 9);
    assert!(server.asked_over_tcp() > 0, "the answer does not fit into a datagram");
    assert!(known(&switchback, "app.test:9")["left_out"].as_str().expect("a text").contains("2500"));
}

#[test]
fn addresses_that_are_no_endpoints_are_ignored() {
    let (machines, server) = (Machines::start(1), NameServer::start());
    let bad = ["169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "fe80::1", "::", "ff02::1"];
    let mut addresses: Vec<IpAddr> = bad.iter().map(|text| text.parse().expect("an address")).collect();
    addresses.push(machines.ip(0));
    server.addresses("app.test", &addresses);
    let name = format!("app.test:{}", machines.port);
    let switchback = start(&[&name], &server);
    wait_in_pool(&switchback, &machines.ips(&[0]), machines.port);
    assert!(known(&switchback, &name)["left_out"].is_string());
    assert!(switchback.stderr().contains("is left out"));
}

fn rounds(switchback: &Switchback, result: &str) -> f64 {
    switchback.metric(&format!("switchback_name_rounds_total{{result=\"{result}\"}}"))
}
