//! Who guesses tokens is slowed down and told of once; who has a good one never notices.

use std::net::Ipv4Addr;

use super::{Ask, Folder, Guarded};

#[test]
fn a_guesser_gets_429_and_a_good_token_of_the_same_address_works() {
    let folder = Folder::new();
    let good = folder.make("viewer", "good", &[]);
    let guarded = Guarded::start(folder);
    let guess = |from: Ipv4Addr, number: u32| {
        let token = format!("sb_{number:064x}");
        guarded.ask("GET", "/v1/status", Ask { from, token: Some(&token), ..Ask::default() })
    };
    let statuses: Vec<_> = (0..40).map(|number| guess(Ipv4Addr::LOCALHOST, number).status).collect();
    assert_eq!(&statuses[..10], &[401; 10], "{statuses:?}");
    let late = statuses.iter().filter(|status| **status == 429).count();
    assert!(late >= 20, "{statuses:?}");
    let turned_away = guess(Ipv4Addr::LOCALHOST, 99);
    assert_eq!((turned_away.status, turned_away.problem().as_str()), (429, "too-many-tries"));
    let wait: u32 = turned_away.field("retry-after").expect("it says when").parse().expect("seconds");
    assert!((1..=3).contains(&wait), "{wait}");
    assert_eq!(guarded.get("/v1/status", Some(&good)).status, 200, "from the guesser's own address");
    assert_eq!(guess(Ipv4Addr::new(127, 9, 9, 9), 1).status, 401, "another address has tries of its own");
    assert_eq!(guarded.get("/livez", None).status, 200);

    // Everybody together, from more addresses than all may try.
    let statuses: Vec<_> =
        (0..300).map(|number| guess(Ipv4Addr::from_bits(0x7f02_0000 + number), number).status).collect();
    assert!(statuses.contains(&429), "all together have a limit, too");
    assert_eq!(guarded.get("/v1/status", Some(&good)).status, 200);

    let metrics = guarded.get("/metrics", Some(&good)).body;
    let refused = "switchback_admin_refused_total{reason=\"unknown\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(refused)).expect("it is counted");
    assert_eq!(count, "342");
    let said = guarded.switchback.stderr();
    let of_guesser = said.lines().filter(|line| line.contains("was refused") && line.contains("127.0.0.1"));
    assert_eq!(of_guesser.count(), 1, "a burst is told of once:\n{said}");
    assert!(!said.contains("sb_"), "no token is in the log:\n{said}");
}

#[test]
fn a_call_without_a_token_is_no_try() {
    let folder = Folder::new();
    folder.make("viewer", "good", &[]);
    let guarded = Guarded::start(folder);
    for _ in 0..30 {
        let answer = guarded.get("/v1/status", None);
        assert_eq!((answer.status, answer.problem().as_str()), (401, "no-token"));
    }
    let basic = Ask { fields: "Authorization: Basic YTpi\r\n", ..Ask::default() };
    assert_eq!(guarded.ask("GET", "/v1/status", basic).status, 401);
    let query = guarded.get("/v1/status?access_token=sb_1", None);
    assert_eq!(query.status, 401, "a token in the query is none");
}
