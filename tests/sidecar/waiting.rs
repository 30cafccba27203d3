//! `unavailable_wait`: requests that wait for an endpoint, in a file as in a sidecar, and what bounds them.

use crate::{
    application::Application,
    get, is_ready, pending, sidecar,
    support::{Reserved, Setup, Switchback, Upstream, wait_until},
};

/// A file with one endpoint at which nobody listens, and probes that find that out at once.
fn down(port: &Reserved, pool: &str) -> String {
    let nobody = Upstream::ok();
    let probes = "health = { tcp = true, interval = \"50ms\", down_interval = \"50ms\", healthy_after = 1 }";
    let file = Setup::new().pool(probes).pool(pool).toml(&[&nobody]);
    file.replace(&nobody.address.to_string(), &port.address.to_string())
}

#[test]
fn who_has_waited_in_vain_is_refused_and_may_come_again() {
    let port = Reserved::any();
    let switchback = sidecar(port.address, "--app-wait 300ms");
    let mut client = switchback.client();
    for _ in 0..2 {
        let answer = client.exchange(get("/")).whole();
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.head.one("retry-after").is_some(), "{answer:?}");
    }
    assert_eq!(pending(&switchback), 0.0);
    let _app = Application::start(&port);
    wait_until("it is ready", || is_ready(&switchback));
    assert_eq!(client.exchange(get("/")).whole().text(), "/ ");
}

/// Probes that come seldom have not seen that the app is gone: who is refused a connection waits as well.
#[test]
fn a_request_whose_connection_is_refused_waits_with_its_body_in_hand() {
    let port = Reserved::any();
    let mut app = Application::start(&port);
    let switchback = sidecar(port.address, "--health-interval 1h --app-wait 60s");
    wait_until("it is ready", || is_ready(&switchback));
    app.kill();
    let mut client = switchback.client();
    client.send("POST /form HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello");
    wait_until("it waits", || pending(&switchback) == 1.0);
    assert!(is_ready(&switchback), "nobody has told");
    let _app = Application::start(&port);
    assert_eq!(client.response("POST").whole().text(), "/form hello");
    assert_eq!(pending(&switchback), 0.0);
    client.expect_alive("after its wait");
}

#[test]
fn as_many_wait_as_the_pool_allows() {
    let port = Reserved::any();
    let switchback = Switchback::start(&down(&port, "unavailable_wait = \"60s\"\nmax_pending = 1"));
    let mut first = switchback.client();
    first.send(get("/first"));
    wait_until("one waits", || pending(&switchback) == 1.0);
    let answer = switchback.client().exchange(get("/second")).whole();
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("max_pending"), "{}", answer.text());
    assert_eq!(switchback.metric("switchback_pool_shed_total"), 1.0);
    let _app = Application::start(&port);
    assert_eq!(first.response("GET").whole().text(), "/first ");
}

#[test]
fn a_client_that_goes_gives_its_place_back() {
    let port = Reserved::any();
    let switchback = Switchback::start(&down(&port, "unavailable_wait = \"60s\""));
    let mut client = switchback.client();
    client.send(get("/"));
    wait_until("it waits", || pending(&switchback) == 1.0);
    client.reset();
    wait_until("nobody waits", || pending(&switchback) == 0.0);
    wait_until("its connection has ended", || switchback.metric("switchback_connections_open") == 0.0);
}

#[test]
fn by_default_and_while_all_is_drained_nobody_waits() {
    let port = Reserved::any();
    let file = down(&port, "");
    let switchback = Switchback::start(&file);
    assert_eq!(switchback.client().exchange(get("/")).whole().status, 503);
    drop(switchback);
    let app = Upstream::ok();
    let switchback = Setup::new().pool("unavailable_wait = \"60s\"\ndrain = true").start(&app);
    assert_eq!(switchback.client().exchange(get("/")).whole().status, 503);
}

/// The pool gets another endpoint while a request waits for the one that it knows.
#[test]
fn another_table_is_taken_up_while_a_request_waits() {
    let port = Reserved::any();
    let switchback = Switchback::start(&down(&port, "unavailable_wait = \"60s\""));
    let mut client = switchback.client();
    client.send(get("/"));
    wait_until("it waits", || pending(&switchback) == 1.0);
    let other = Upstream::ok();
    switchback.json("PUT", &format!("/v1/pools/app/endpoints/{}", other.address), "{}");
    assert_eq!(client.response("GET").whole().text(), "ok");
}
