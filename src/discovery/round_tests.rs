//! Rounds over a zone in memory.

use std::{collections::BTreeMap, sync::Mutex};

use super::*;

/// A zone that a test changes as it likes. What it does not have is denied.
#[derive(Debug, Default)]
struct Zone {
    answers: Mutex<BTreeMap<Question, Answer>>,
    search: Vec<&'static str>,
}

impl Ask for Zone {
    fn candidates(&self, name: &str) -> Vec<Box<str>> {
        let within = self.search.iter().map(|domain| format!("{name}.{domain}").into());
        within.chain([name.into()]).collect()
    }

    async fn ask(&self, question: &Question) -> Answer {
        self.answers.lock().unwrap().get(question).cloned().unwrap_or(Answer::Nothing)
    }
}

impl Zone {
    fn set(&self, name: &str, kind: Kind, answer: Answer) {
        self.answers.lock().unwrap().insert(Question::new(name, kind), answer);
    }

    fn addresses(&self, name: &str, addresses: &[&str]) {
        for (kind, is_four) in [(Kind::A, true), (Kind::Aaaa, false)] {
            let of_kind = addresses
                .iter()
                .map(|text| text.parse().unwrap())
                .filter(|ip: &IpAddr| ip.is_ipv4() == is_four);
            let records: Vec<_> = of_kind.map(Record::Address).collect();
            self.set(name, kind, if records.is_empty() { Answer::Nothing } else { with_ttl(records, 5) });
        }
    }

    fn service(&self, name: &str, records: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            Record::Service(Service {
                priority: *priority,
                weight: *weight,
                port: *port,
                target: (*target).into(),
            })
        };
        self.set(name, Kind::Srv, with_ttl(records.iter().map(record).collect(), 9));
    }
}

fn with_ttl(records: Vec<Record>, seconds: u64) -> Answer {
    Answer::Records { records, ttl: Duration::from_secs(seconds) }
}

fn failed() -> Answer {
    Answer::Failed("SERVFAIL".into())
}

fn shown(round: &Round) -> Option<Vec<(String, u32)>> {
    let show = |target: &Target| (target.address.to_string(), target.weight);
    round.targets.as_ref().map(|targets| targets.iter().map(show).collect())
}

fn even(addresses: &[&str]) -> Option<Vec<(String, u32)>> {
    Some(addresses.iter().map(|address| ((*address).to_owned(), 1)).collect())
}

fn name(text: &str) -> EndpointAddress {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_host_is_all_of_its_addresses_of_both_families() {
    let zone = Arc::new(Zone::default());
    let mut rounds = Rounds::new(Arc::clone(&zone), DnsFamily::Any, Arc::default());
    zone.addresses("app.example", &["10.0.0.2", "10.0.0.1", "2001:db8::1", "10.0.0.1"]);
    let round = rounds.round(&name("app.example:80")).await;
    assert_eq!(shown(&round), even(&["10.0.0.1:80", "10.0.0.2:80", "[2001:db8::1]:80"]));
    assert_eq!((round.ttl, round.fault, round.left_out), (Some(Duration::from_secs(5)), None, None));
    let mut only = Rounds::new(zone, DnsFamily::Ipv6, Arc::default());
    assert_eq!(shown(&only.round(&name("app.example:80")).await), even(&["[2001:db8::1]:80"]));
}

#[tokio::test]
async fn when_one_family_fails_the_other_is_fresh_and_the_failed_one_as_last_known() {
    let zone = Arc::new(Zone::default());
    let mut rounds = Rounds::new(Arc::clone(&zone), DnsFamily::Any, Arc::default());
    zone.addresses("app.example", &["10.0.0.1", "2001:db8::1"]);
    rounds.round(&name("app.example:80")).await;
    zone.addresses("app.example", &["10.0.0.2"]);
    zone.set("app.example", Kind::Aaaa, failed());
    let round = rounds.round(&name("app.example:80")).await;
    assert_eq!(shown(&round), even(&["10.0.0.2:80", "[2001:db8::1]:80"]));
    assert_eq!((round.fault.as_deref(), round.ttl), (Some("SERVFAIL"), Some(Duration::from_secs(5))));
}

#[tokio::test]
async fn nothing_known_is_not_the_same_as_known_to_be_nothing() {
    let zone = Arc::new(Zone::default());
    let mut rounds = Rounds::new(Arc::clone(&zone), DnsFamily::Ipv4, Arc::default());
    zone.set("app.example", Kind::A, failed());
    assert_eq!(rounds.round(&name("app.example:80")).await.targets, None);
    zone.set("app.example", Kind::A, Answer::Nothing);
    assert_eq!(rounds.round(&name("app.example:80")).await.targets, Some(Vec::new()));
}

#[tokio::test]
async fn addresses_that_are_no_endpoints_are_left_out_and_alone_change_nothing() {
    let zone = Arc::new(Zone::default());
    let mut rounds = Rounds::new(Arc::clone(&zone), DnsFamily::Any, Arc::default());
    zone.addresses("app.example", &["169.254.169.254", "10.0.0.1", "fe80::1"]);
    let round = rounds.round(&name("app.example:80")).await;
    assert_eq!(shown(&round), even(&["10.0.0.1:80"]));
    assert!(round.left_out.unwrap().contains("169.254.169.254"));
    zone.addresses("app.example", &["0.0.0.0", "224.0.0.1"]);
    let round = rounds.round(&name("app.example:80")).await;
    assert_eq!(shown(&round), even(&["10.0.0.1:80"]), "the last known good ones stay");
    assert!(round.fault.is_some());
}

#[tokio::test]
async fn of_too_many_addresses_the_same_ones_are_used_in_whatever_order_they_come() {
    let zone = Arc::new(Zone::default());
    let mut rounds = Rounds::new(Arc::clone(&zone), DnsFamily::Ipv4, Arc::default());
    let most = defaults::MAX_DNS_ADDRESSES;
    let mut records: Vec<_> = (0..3_000u16)
        .map(|number| Record::Address(IpAddr::from([10, 0, (number >> 8) as u8, number as u8])))
        .collect();
    zone.set("app.example", Kind::A, with_ttl(records.clone(), 1));
    let first = rounds.round(&name("app.example:80")).await;
    records.reverse();
    zone.set("app.example", Kind::A, with_ttl(records, 1));
    let second = rounds.round(&name("app.example:80")).await;
    assert_eq!(first, second);
    assert_eq!(first.targets.unwrap().len(), most);
    assert!(first.left_out.unwrap().contains("3000"));
}

#[tokio::test]
async fn a_service_is_the_targets_of_its_lowest_priority_by_weight() {
    let zone = Arc::new(Zone::default());
    let mut rounds = Rounds::new(Arc::clone(&zone), DnsFamily::Any, Arc::default());
    zone.service(
        "_http._tcp.app",
        &[(10, 1, 81, "a"), (10, 3, 82, "b"), (20, 9, 83, "c"), (10, 1, 84, "gone")],
    );
    for (host, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")] {
        zone.addresses(host, &[address]);
    }
    let round = rounds.round(&name("srv:_http._tcp.app")).await;
    assert_eq!(shown(&round), Some(vec![("10.0.0.1:81".into(), 1), ("10.0.0.2:82".into(), 3)]));
    assert_eq!((round.ttl, round.fault), (Some(Duration::from_secs(5)), None), "the shortest time counts");
    // One target can't be looked up: its last known address stands, those of the others are fresh.
    zone.set("a", Kind::A, failed());
    zone.addresses("b", &["10.0.0.9"]);
    let round = rounds.round(&name("srv:_http._tcp.app")).await;
    assert_eq!(shown(&round), Some(vec![("10.0.0.1:81".into(), 1), ("10.0.0.9:82".into(), 3)]));
    assert!(round.fault.is_some());
    // The service itself can't be looked up: all stays.
    zone.set("_http._tcp.app", Kind::Srv, failed());
    let again = rounds.round(&name("srv:_http._tcp.app")).await;
    assert_eq!(shown(&again), shown(&round));
    // It says that it is not to be had: that is an answer.
    zone.service("_http._tcp.app", &[(0, 0, 0, "")]);
    assert_eq!(rounds.round(&name("srv:_http._tcp.app")).await.targets, Some(Vec::new()));
}

#[tokio::test]
async fn the_search_list_is_followed_to_the_first_name_that_has_addresses() {
    let zone = Arc::new(Zone { search: vec!["prod.example", "example"], ..Zone::default() });
    let mut rounds = Rounds::new(Arc::clone(&zone), DnsFamily::Ipv4, Arc::default());
    zone.addresses("app.example", &["10.0.0.1"]);
    assert_eq!(shown(&rounds.round(&name("app:80")).await), even(&["10.0.0.1:80"]));
    zone.addresses("app.prod.example", &["10.0.0.2"]);
    assert_eq!(shown(&rounds.round(&name("app:80")).await), even(&["10.0.0.2:80"]));
    zone.set("app.prod.example", Kind::A, failed());
    assert_eq!(
        shown(&rounds.round(&name("app:80")).await),
        even(&["10.0.0.2:80"]),
        "it is known of that name"
    );
}

#[tokio::test]
async fn an_answer_that_leads_back_to_ourselves_is_left_out() {
    let zone = Arc::new(Zone::default());
    let own = Arc::from(["127.0.0.1:9900".parse().unwrap()]);
    let mut rounds = Rounds::new(Arc::clone(&zone), DnsFamily::Ipv4, own);
    zone.service("_http._tcp.app", &[(1, 1, 9900, "a"), (1, 1, 9901, "a")]);
    zone.addresses("a", &["127.0.0.1"]);
    let round = rounds.round(&name("srv:_http._tcp.app")).await;
    assert_eq!(shown(&round), even(&["127.0.0.1:9901"]));
    assert!(round.left_out.unwrap().contains("Switchback itself"));
    // Alone it is as if the question had failed: what stands is not taken away.
    zone.service("_http._tcp.app", &[(1, 1, 9900, "a")]);
    let round = rounds.round(&name("srv:_http._tcp.app")).await;
    assert_eq!(round.targets, None);
    assert!(round.fault.unwrap().contains("Switchback itself"));
    zone.service("_http._tcp.app", &[(1, 1, 9902, "a")]);
    let round = rounds.round(&name("srv:_http._tcp.app")).await;
    assert_eq!((shown(&round), round.fault), (even(&["127.0.0.1:9902"]), None));
}

#[tokio::test]
async fn a_name_with_a_last_dot_is_asked_for_as_it_is_and_in_no_other_domain() {
    let zone = Arc::new(Zone { search: vec!["first.test", "second.test"], ..Zone::default() });
    zone.addresses("app.example", &["10.0.0.1"]);
    zone.addresses("app.example.second.test", &["10.0.0.2"]);
    zone.service("_http._tcp.app", &[(1, 1, 81, "app.example")]);
    zone.service("_http._tcp.app.first.test", &[(1, 1, 82, "app.example")]);
    let mut rounds = Rounds::new(Arc::clone(&zone), DnsFamily::Any, Arc::default());
    for (text, address) in [
        ("app.example:80", "10.0.0.2:80"),
        ("app.example.:80", "10.0.0.1:80"),
        ("srv:_http._tcp.app", "10.0.0.1:82"),
        ("srv:_http._tcp.app.", "10.0.0.1:81"),
    ] {
        assert_eq!(shown(&rounds.round(&name(text)).await), even(&[address]), "{text}");
    }
    // It is not there, whatever the search list has.
    zone.addresses("app.example", &[]);
    let mut rounds = Rounds::new(zone, DnsFamily::Any, Arc::default());
    assert_eq!(shown(&rounds.round(&name("app.example.:80")).await), even(&[]));
}
