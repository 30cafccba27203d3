//! Edits that are about other parts than the routing table: who is asked for names, and which keys sign pins.

use std::{fs, net::IpAddr};

use crate::support::{
    Reserved, Setup, Switchback, Upstream, config::blue_green, dns::NameServer, upstream::response, wait_for,
    wait_until,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

fn named(name: &'static str) -> Upstream {
    Upstream::answering(response(200, name.as_bytes()))
}

#[test]
fn another_name_server_is_asked_from_the_edit_on() {
    let hosts: [IpAddr; 2] = [[127, 0, 10, 1].into(), [127, 0, 10, 2].into()];
    let [first, second] = wait_for("a port is free on both addresses", || {
        let first = Reserved::at((hosts[0], 0).into()).ok()?;
        let second = Reserved::at((hosts[1], first.address.port()).into()).ok()?;
        Some([first, second])
    });
    let port = first.address.port();
    let _upstreams = [(first, "first"), (second, "second")].map(|(port, name)| {
        Upstream::start_on(port, move |exchange| exchange.send(&response(200, name.as_bytes())))
    });
    let servers = [NameServer::start(), NameServer::start()];
    let text = |server: &NameServer| {
        let text = Setup::new().tables(&server.table()).toml(&[]);
        text.replace("endpoints = []", &format!("endpoints = [\"app.example:{port}\"]"))
    };
    servers.iter().zip(hosts).for_each(|(server, host)| server.addresses("app.example", &[host]));
    let switchback = Switchback::start(&text(&servers[0]));
    let answered = || switchback.client().exchange(GET).whole();
    assert_eq!(answered().text(), "first");
    switchback.write(&text(&servers[1]));
    wait_until("the other server's answer is in force", || {
        let answer = answered();
        assert_eq!(answer.status, 200, "no request is lost over it");
        answer.text() == "second"
    });
    let asked = servers[0].asked();
    servers[1].wait_asked(3);
    assert!(servers[0].asked() <= asked + 1, "the first one is asked no more, but for what was on its way");
}

#[test]
fn another_file_of_keys_signs_from_the_edit_on() {
    let (blue, green) = (named("blue"), named("green"));
    let folder = std::env::temp_dir().join(format!("switchback-keys-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder of our own");
    let key = |number: u8| format!("{number:02x}").repeat(32);
    let file = |name: &str, keys: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, keys.iter().map(|number| key(*number)).collect::<Vec<_>>().join("\n"))
            .expect("written");
        format!("[pins]\nkey_file = {path:?}\n")
    };
    let (old, both, new) = (file("old", &[1]), file("both", &[2, 1]), file("new", &[2]));
    let text =
        |weights, keys: &str| blue_green(1, weights, "sticky = { cookie = \"sb\" }", &blue, &green) + keys;
    let switchback = Switchback::start(&text((0, 1), &old));
    let pin = || {
        let answer = switchback.client().exchange(GET).whole();
        let cookie = answer.head.one("set-cookie").expect("a pin").to_owned();
        cookie.split(';').next().expect("a cookie").to_owned()
    };
    let led_to = |pin: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\nCookie: {pin}\r\n\r\n");
        switchback.client().exchange(request).whole().text()
    };
    let edit = |weights, keys: &str| {
        switchback.write(&text(weights, keys));
        let text = text(weights, keys);
        wait_until("the edit is in force", || switchback.json("GET", "/v1/config", "")["text"] == *text);
    };
    let first = pin();
    edit((1, 0), &both);
    assert_eq!(led_to(&first), "green", "signed by a key that the new file has, too");
    edit((0, 1), &both);
    let second = pin();
    edit((1, 0), &new);
    assert_eq!(led_to(&first), "blue", "its key is gone");
    assert_eq!(led_to(&second), "green", "the new key has signed it");
    fs::remove_dir_all(&folder).ok();
}
