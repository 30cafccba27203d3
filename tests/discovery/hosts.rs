//! Names that no name server is asked for.

use crate::{
    answered_by, known, start,
    support::Upstream,
    support::dns::{Mood, NameServer},
};

#[test]
fn the_hosts_file_goes_before_the_name_servers() {
    let server = NameServer::start();
    // Whoever asked it would get nothing.
    server.mood(Mood::Silent);
    let upstream = Upstream::answering(crate::support::upstream::response(200, b"127.0.0.1"));
    let name = format!("localhost:{}", upstream.address.port());
    let switchback = start(&[&name], &server);
    assert_eq!(answered_by(&switchback, 5).len(), 1);
    assert_eq!(known(&switchback, &name)["state"], "answered");
    assert_eq!(server.asked(), 0);
}
