//! Changes of listeners, with others who want the same address.

use socket2::{Domain, Socket, Type};

use super::*;

const ALLOWANCE: Allowance = Allowance { connections: 8, idle_upstream: 8 };

fn config(address: SocketAddr) -> Config {
    let text = format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{address}\"\n\
         [pool.app]\nendpoints = []\n[[route]]\nname = \"all\"\npool = \"app\"\n"
    );
    crate::config::parse("test.toml", &text).unwrap().0
}

/// A socket that has an address of its own, lets others bind it, and does not listen yet.
fn stranger() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn is_listening(prepared: &Prepared) -> bool {
    let sockets = prepared.next.iter().filter_map(|(_, sockets)| sockets.as_ref());
    sockets.flat_map(|sockets| sockets.sockets.iter().flatten()).all(|socket| socket.is_listener().unwrap())
}

#[test]
fn an_address_that_another_has_taken_is_an_error_before_anything_moves() {
    let (stranger, address) = stranger();
    let (listeners, _orders) = Listeners::new(2, ALLOWANCE);
    let prepared = listeners.prepare(&config(address), &Fronts::default()).expect("both allow its reuse");
    stranger.listen(1).unwrap();
    let error = prepared.listen().unwrap_err().to_string();
    assert!(error.contains("web") && error.contains(&address.to_string()), "{error}");
    assert!(listeners.addresses().is_empty());
}

#[test]
fn an_address_is_had_before_it_is_in_force_but_for_one_that_a_listener_of_ours_serves() {
    let (stranger, address) = stranger();
    let (listeners, _orders) = Listeners::new(2, ALLOWANCE);
    let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
    let prepared = listeners.prepare(&config(address), &Fronts::default()).unwrap();
    prepared.listen().unwrap();
    assert!(is_listening(&prepared));
    assert!(stranger.listen(1).is_err(), "nobody else can have it any more");
    drop(stranger);
    prepared.put_in_force(Duration::ZERO).unwrap();
    // It would take connections that the one in force is to have, should the change be given up.
    let wider = listeners.prepare(&config(everywhere), &Fronts::default()).unwrap();
    wider.listen().unwrap();
    assert!(!is_listening(&wider));
    wider.put_in_force(Duration::ZERO).unwrap();
    assert_eq!(listeners.addresses(), [everywhere]);
}
