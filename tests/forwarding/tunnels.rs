//! Upgrades: once the upstream says 101, bytes pass both ways as they are.

use std::{
    sync::{Arc, Mutex},
    thread,
};

use crate::{
    get,
    support::{Broken, Setup, Upstream, pattern, seeded, wait_until},
};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";

#[test]
fn large_data_passes_both_ways_at_once() {
    let upstream = Upstream::start(|exchange| exchange.tunnel_echo("websocket"));
    let switchback = Setup::new().start(&upstream);
    let mut rng = seeded("large_data_passes_both_ways_at_once");
    let data = pattern(16 << 20, rng.u64(..));
    let mut client = switchback.client();
    client.send(get("/ws", UPGRADE));
    assert_eq!(client.any_response("GET").status, 101);
    let writing = client.wire.stream().try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            std::io::Write::write_all(&mut &writing, &data).unwrap();
            writing.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let (echo, end) = client.wire.rest();
        assert_eq!(end, Broken::Eof);
        assert!(echo == data, "{} of {} bytes came back, or others", echo.len(), data.len());
    });
    wait_until("the tunnel's upstream connection has ended", || upstream.open() == 0);
}

#[test]
fn either_end_may_half_close_and_the_other_direction_goes_on() {
    // The upstream ends its direction first and still reads all.
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    let upstream = Upstream::start(move |exchange| {
        let hearing = Arc::clone(&hearing);
        exchange.tunnel("websocket", move |wire| {
            wire.send(b"bye").expect("an open tunnel");
            wire.half_close();
            *hearing.lock().expect("no panic holds it") = wire.rest().0;
        });
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    client.send(get("/ws", UPGRADE));
    assert_eq!(client.any_response("GET").status, 101);
    assert_eq!(client.wire.rest(), (b"bye".to_vec(), Broken::Eof));
    client.send("still talking").half_close();
    wait_until("the upstream heard the rest", || *heard.lock().unwrap() == b"still talking");
    wait_until("the tunnel has ended", || upstream.open() == 0);
}

#[test]
fn a_reset_of_either_end_ends_the_tunnel() {
    let upstream = Upstream::start(|exchange| {
        let resets = exchange.head.target() == "/upstream";
        exchange.tunnel("websocket", move |wire| {
            wire.send(b"x").expect("an open tunnel");
            if resets {
                wire.exactly(1).expect("a byte of the client");
                wire.linger_zero();
            } else {
                wire.rest();
            }
        });
    });
    let switchback = Setup::new().start(&upstream);
    for target in ["/upstream", "/client"] {
        let mut client = switchback.client();
        client.send(get(target, UPGRADE));
        assert_eq!(client.any_response("GET").status, 101);
        client.wire.exactly(1).unwrap();
        if target == "/upstream" {
            client.send("y");
            assert_ne!(client.wire.rest().1, Broken::Timeout);
        } else {
            client.reset();
        }
        wait_until("the tunnel has ended", || upstream.open() == 0);
    }
}

#[test]
fn a_tunnel_outlives_the_routes_timeout() {
    let upstream = Upstream::start(|exchange| exchange.tunnel_echo("websocket"));
    let switchback = Setup::new().route("timeout = \"200ms\"").start(&upstream);
    let mut client = switchback.client();
    client.send(get("/ws", UPGRADE));
    assert_eq!(client.any_response("GET").status, 101);
    std::thread::sleep(std::time::Duration::from_millis(500));
    client.send("late").half_close();
    assert_eq!(client.wire.rest(), (b"late".to_vec(), Broken::Eof));
}

#[test]
fn bytes_that_come_with_the_101_are_the_tunnels() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst frame");
        exchange.wire().rest();
        exchange.close();
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    client.send(get("/ws", UPGRADE));
    assert_eq!(client.any_response("GET").status, 101);
    assert_eq!(client.wire.exactly(11).unwrap(), b"first frame");
    client.half_close();
    assert_eq!(client.wire.rest(), (Vec::new(), Broken::Eof));
}
