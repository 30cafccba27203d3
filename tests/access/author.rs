//! Who is written into the history for a caller on a unix socket: what the kernel knows of him, whatever he says of himself.

use std::process::{Command, Stdio};

use switchback::config::AdminAddress;

use crate::{
    Folder,
    admin_support::{Instance, raw_unix},
};

#[test]
fn a_change_by_a_unix_socket_names_the_process_and_its_user() {
    let folder = Folder::new();
    let socket = folder.0.join("admin.sock");
    let instance = Instance::at(AdminAddress::Unix(socket.clone()));
    let call = |request: &str| raw_unix(&socket, request).json();
    let body = r#"{"to": "green"}"#;
    call(&format!(
        "POST /v1/splits/shop/switch HTTP/1.1\r\nHost: switchback\r\nConnection: close\r\nForwarded: for=10.0.0.1\r\n\
         X-Forwarded-For: 10.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let child = Command::new(env!("CARGO_BIN_EXE_switchback"))
        .args(["weights", "shop", "blue=1", "green=1", "--admin", &format!("unix:{}", socket.display())])
        .stdout(Stdio::null())
        .spawn();
    let mut child = child.expect("the binary that cargo built");
    let of_child = child.id();
    assert!(child.wait().expect("our own child").success());
    let user = rustix::process::geteuid().as_raw();
    for (revision, origin, pid) in [(1, "api", std::process::id()), (2, "cli", of_child)] {
        let path = format!("/v1/revisions/{revision}");
        let kept = call(&format!("GET {path} HTTP/1.1\r\nHost: switchback\r\nConnection: close\r\n\r\n"));
        assert_eq!(kept["who"], format!("uid {user} pid {pid}"), "{kept:#}");
        assert_eq!(kept["origin"], origin);
    }
    instance.plane.stop();
}
