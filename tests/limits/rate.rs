//! Rate limits: a bucket for each key over all workers, told to clients, and kept over changes of everything else.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use crate::support::{Client, Response, Setup, Switchback, Upstream, upstream::OK};

/// Three at once, and nothing that comes back while a test runs.
const BY_USER: &str = r#"rate_limit = { requests = 10, per = "1h", burst = 3, key = { header = "X-User" } }"#;

fn ask(switchback: &Switchback, user: &str) -> Response {
    let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\nX-User: {user}\r\n\r\n");
    switchback.client().exchange(request).whole()
}

fn statuses(switchback: &Switchback, user: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| ask(switchback, user).status).collect()
}

fn told(response: &Response) -> [Option<&str>; 3] {
    ["ratelimit-policy", "ratelimit", "retry-after"].map(|name| response.head.one(name))
}

#[test]
fn a_key_has_its_burst_and_clients_are_told() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().route(BY_USER).start(&upstream);
    let policy = Some(r#""all";q=3;w=1080"#);
    for left in [r#""all";r=2;t=360"#, r#""all";r=1;t=720"#, r#""all";r=0;t=1080"#] {
        let answer = ask(&switchback, "one");
        assert_eq!((answer.status, told(&answer)), (200, [policy, Some(left), None]));
    }
    let mut client = switchback.client();
    let body = "POST / HTTP/1.1\r\nHost: a.example\r\nX-User: one\r\nContent-Length: 2\r\n\r\nhi";
    let answer = client.exchange(body).whole();
    assert_eq!((answer.status, told(&answer)), (429, [policy, None, Some("360")]));
    assert!(answer.text().contains("the next one is taken in 360 s"), "{answer:?}");
    assert_eq!(client.exchange(body).whole().status, 429, "its connection goes on");
    assert_eq!(upstream.requests(), 3);
    assert_eq!(ask(&switchback, "two").status, 200);
    assert_eq!(switchback.metric("switchback_route_rate_limited_total"), 2.0);
    assert_eq!(switchback.metric("switchback_rate_limit_uncounted_total"), 0.0);
    let asked = |user: &str| {
        let body = format!(r#"{{"host": "a.example", "path": "/", "headers": {{"X-User": "{user}"}}}}"#);
        switchback.admin("POST", "/v1/explain", &body).text()
    };
    assert!(asked("one").contains("refuses it with 429 now"), "{}", asked("one"));
    let two = asked("two");
    assert!(two.contains("and then 1 more at once") && two.contains(r#""outcome":"forward""#), "{two}");
    assert_eq!(statuses(&switchback, "two", 3), [200, 200, 429], "explaining took none");
}

#[test]
fn workers_count_together_and_by_client_where_the_key_is_left_out() {
    let upstream = Upstream::ok();
    let limit = r#"rate_limit = { requests = 1, per = "24h", burst = 40, key = { cookie = "user" } }"#;
    let switchback = Setup::new().global("workers = 2").route(limit).start(&upstream);
    // Before the two workers meet the key in the same moment, which may give it two buckets.
    assert_eq!(ask(&switchback, "").status, 200);
    let address = switchback.address;
    let clients = (0..4).map(|_| {
        thread::spawn(move || {
            let asked = (0..20).map(|_| {
                let answer = Client::connect(address).exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
                usize::from(answer.whole().status == 200)
            });
            asked.sum::<usize>()
        })
    });
    let clients: Vec<_> = clients.collect();
    let taken: usize = clients.into_iter().map(|client| client.join().expect("no panic")).sum();
    assert_eq!(taken, 39);
    let mut other = Client::connect_from([127, 0, 0, 9].into(), address);
    assert_eq!(other.exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").status, 200);
}

#[test]
fn buckets_outlive_changes_of_everything_but_the_limit_itself() {
    let upstream = Upstream::ok();
    let setup = Setup::new().route(BY_USER);
    let switchback = Switchback::start(&setup.toml(&[&upstream]));
    assert_eq!(statuses(&switchback, "one", 4), [200, 200, 200, 429]);
    let (start, retries) = (setup.toml(&[&upstream]), "retries = { attempts = 1 }\n");
    let put = |text: &str| assert_eq!(switchback.put_file(text).status, 200);
    put(&setup.route(retries).toml(&[&upstream]));
    assert_eq!(ask(&switchback, "one").status, 429, "another setting of the route has changed");
    put(&start.replace("burst = 3", "burst = 2"));
    assert_eq!(statuses(&switchback, "one", 3), [200, 200, 429], "another limit begins anew");
    put(&start.replace(BY_USER, ""));
    assert_eq!(statuses(&switchback, "one", 5), [200; 5]);
}

#[test]
fn a_repetition_is_counted_once_and_the_fields_can_be_left_out() {
    let fails = AtomicBool::new(true);
    let upstream = Upstream::start(move |exchange| match fails.fetch_xor(true, SeqCst) {
        true => exchange.reset(),
        false => exchange.send(OK),
    });
    let route = format!("{BY_USER}\nresponse_headers = {{ remove = [\"RateLimit\", \"RateLimit-Policy\"] }}");
    let switchback = Setup::new().route(&route).start(&upstream);
    for _ in 0..3 {
        let answer = ask(&switchback, "one");
        assert_eq!((answer.status, told(&answer)), (200, [None; 3]));
    }
    assert_eq!(upstream.requests(), 6);
    let answer = ask(&switchback, "one");
    assert_eq!((answer.status, told(&answer)), (429, [None, None, Some("360")]));
}

#[test]
fn a_limit_that_makes_no_sense_is_refused_with_its_place() {
    let upstream = Upstream::ok();
    for (limit, why) in [
        ("{}", "a rate limit has a number of requests"),
        ("{ requests = 0 }", "from 1 to 1000000"),
        ("{ requests = 1, per = \"25h\" }", "at most 24h"),
        ("{ requests = 1, per = \"0s\" }", "at least"),
        ("{ requests = 1, burst = 2000000 }", "from 1 to 1000000"),
        ("{ requests = 1, keys = 0 }", "from 1 to 4194304"),
        ("{ requests = 1, key = {} }", "a key is one of"),
        ("{ requests = 1, limit = 3 }", "limit"),
    ] {
        let switchback = Setup::new().start(&upstream);
        let text = Setup::new().route(&format!("rate_limit = {limit}")).toml(&[&upstream]);
        let answer = switchback.put_file(&text);
        assert_eq!(answer.status, 422, "{limit}");
        assert!(answer.text().contains(why), "{limit}: {}", answer.text());
    }
}
