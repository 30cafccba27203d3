//! Under a service manager: sockets that it has opened, and what it is told.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    Line, kill, running,
    support::{Client, PATIENCE, Setup, Switchback, Upstream, port::Reserved, wait_for, wait_until},
};

#[test]
fn a_socket_of_the_service_manager_is_served_and_handed_on() {
    let upstream = Upstream::ok();
    let port = Reserved::any();
    let folder = std::env::temp_dir().join(format!("switchback-activation-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder of our own");
    let _started = Started(folder.clone());
    let (file, admin) = (folder.join("switchback.toml"), folder.join("admin"));
    // The name decides: the address in the file is another one.
    let config = Setup::new().toml(&[&upstream]);
    let config =
        config.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"unix:{}\"", admin.display()), 1);
    fs::write(&file, config).expect("a writable folder");
    let mut activating = Command::new("systemd-socket-activate")
        .args([
            "--fdname=web",
            "-l",
            &port.address.to_string(),
            env!("CARGO_BIN_EXE_switchback"),
            "run",
            "-c",
        ])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-socket-activate is installed");
    wait_until("it listens", || std::net::TcpStream::connect(port.address).is_ok());
    // The first connection starts it, and waits in the kernel for it.
    Client::connect(port.address).expect_alive("a connection to the unit's socket");
    let mut open = Client::connect(port.address);
    open.expect_alive("before the replacement");
    let upgrade = Command::new(env!("CARGO_BIN_EXE_switchback"))
        .args(["upgrade", "--admin", &format!("unix:{}", admin.display())])
        .output()
        .expect("the binary");
    assert!(upgrade.status.success(), "{upgrade:?}");
    open.expect_alive("over the replacement");
    for _ in 0..10 {
        Client::connect(port.address).expect_alive("after it");
    }
    wait_until("the old process has ended", || activating.try_wait().expect("our own child").is_some());
    Client::connect(port.address).expect_alive("alone");
    assert!(admin.exists(), "the socket of the admin API was left to the successor");
}

#[test]
fn the_admin_socket_of_the_service_manager_stays_when_the_last_process_ends() {
    let upstream = Upstream::ok();
    let folder = std::env::temp_dir().join(format!("switchback-given-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder of our own");
    let _started = Started(folder.clone());
    let (file, admin, said) =
        (folder.join("switchback.toml"), folder.join("admin"), folder.join("standard error"));
    let config = Setup::new().toml(&[&upstream]);
    let config =
        config.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"unix:{}\"", admin.display()), 1);
    fs::write(&file, config).expect("a writable folder");
    let mut activating = Command::new("systemd-socket-activate")
        .args(["--fdname=admin", "-l"])
        .arg(&admin)
        .args([env!("CARGO_BIN_EXE_switchback"), "run", "-c"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&said).expect("a writable folder"))
        .spawn()
        .expect("systemd-socket-activate is installed");
    wait_until("it listens", || admin.exists());
    fs::set_permissions(&admin, fs::Permissions::from_mode(0o666)).expect("our own");
    let call = |arguments: &[&str]| {
        let admin = format!("unix:{}", admin.display());
        let output =
            Command::new(env!("CARGO_BIN_EXE_switchback")).args(arguments).args(["--admin", &admin]).output();
        output.expect("the binary that cargo built").status.success()
    };
    assert!(call(&["status"]) && call(&["upgrade"]));
    let said = || fs::read_to_string(&said).expect("it is there");
    assert!(said().contains("every user of this machine may call the admin API"), "{}", said());
    wait_until("the first has ended", || activating.try_wait().expect("our own child").is_some());
    let sent =
        Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &running(&file)[0].to_string()]).status();
    assert!(sent.expect("a shell").success());
    wait_until("the successor has ended", || running(&file).is_empty());
    assert!(admin.exists(), "the next connection could not wait in it");
}

/// What was started from a file in a folder of its own. It is ended with this.
struct Started(PathBuf);

impl Drop for Started {
    fn drop(&mut self) {
        running(&self.0.join("switchback.toml")).into_iter().for_each(kill);
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn the_service_manager_is_told_of_each_step() {
    let path = std::env::temp_dir().join(format!("switchback-notify-{}", std::process::id()));
    let manager = UnixDatagram::bind(&path).expect("a path of our own");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
    let told = || {
        let mut text = [0; 256];
        let length = manager.recv(&mut text).expect("something is told");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let upstream = Upstream::ok();
    let setup = Setup::new().tables("[shutdown]\ndelay = \"0s\"\ndeadline = \"2s\"\n");
    let notify = format!("NOTIFY_SOCKET={} exec \"$0\" run -c \"$1\"", path.display());
    let line = Line { first: Switchback::run(&setup.toml(&[&upstream]), &notify), database: None };
    assert_eq!(told(), "READY=1");
    let pid = line.replace();
    let reloading = told();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    let mut both = [told(), told()];
    both.sort();
    assert_eq!(both, [format!("MAINPID={pid}\nREADY=1"), "READY=1".to_owned()]);
    let failed = line.upgrade(&["--binary", "/bin/false"]);
    assert!(!failed.status.success());
    assert!(told().starts_with("RELOADING=1"));
    assert_eq!(told(), "READY=1");
    let sent = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &pid.to_string()]).status();
    assert!(sent.expect("a shell").success());
    assert_eq!(told(), "STOPPING=1");
    wait_for("it has ended", || line.processes().is_empty().then_some(()));
    fs::remove_file(path).ok();
}
