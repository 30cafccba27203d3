//! The ways in which a file is edited: each is in force within a second, and none is taken half.

use std::{
    fs,
    os::unix::fs::symlink,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Switchback, Upstream, config::blue_green, upstream::response, wait_until};

/// How soon an edit is to be in force. A machine that runs everything at once is given three times the promise.
const SOON: Duration = Duration::from_secs(3);

struct Bench {
    blue: Upstream,
    green: Upstream,
    switchback: Switchback,
}

impl Bench {
    fn start() -> Self {
        let [blue, green] =
            [(); 2].map(|()| Upstream::start(|exchange| exchange.send(&response(200, b"ok"))));
        let switchback = Switchback::start(&blue_green(1, (1, 99), "", &blue, &green));
        Self { blue, green, switchback }
    }

    fn text(&self, weight: u32) -> String {
        blue_green(1, (weight, 99), "", &self.blue, &self.green)
    }

    fn weight(&self) -> u64 {
        self.switchback.json("GET", "/v1/splits/main", "")["weights"]["blue"].as_u64().expect("a weight")
    }

    fn expect(&self, weight: u32, how: &str) {
        let began = Instant::now();
        wait_until(how, || self.weight() == u64::from(weight));
        assert!(began.elapsed() < SOON, "{how}: it took {:?}", began.elapsed());
    }

    fn error(&self) -> serde_json::Value {
        self.switchback.json("GET", "/v1/status", "")["file"]["error"].clone()
    }
}

#[test]
fn an_edit_is_in_force_however_an_editor_writes_it() {
    let bench = Bench::start();
    let file = bench.switchback.file();
    fs::write(&file, bench.text(2)).expect("written in place");
    bench.expect(2, "a file that is written in place");

    let beside = file.with_extension("swp");
    fs::write(&beside, bench.text(3)).expect("written beside");
    fs::rename(&beside, &file).expect("renamed over it");
    bench.expect(3, "a file that is renamed over it");

    fs::rename(&file, file.with_extension("bak")).expect("renamed away");
    fs::write(&file, bench.text(4)).expect("written anew");
    bench.expect(4, "a file that is renamed away and written anew");
}

#[test]
fn the_data_link_of_a_mounted_config_map_is_followed() {
    let bench = Bench::start();
    let folder = bench.switchback.file().with_file_name("mounted");
    for (version, weight) in [("..v1", 1), ("..v2", 5), ("..v3", 6)] {
        fs::create_dir_all(folder.join(version)).expect("a folder");
        fs::write(folder.join(version).join("switchback.toml"), bench.text(weight)).expect("a file in it");
    }
    symlink("..v1", folder.join("..data")).expect("a link to the folder");
    symlink("..data/switchback.toml", folder.join("switchback.toml")).expect("a link to the file");
    let mounted = Switchback::start_from(&folder.join("switchback.toml"));
    let mounted = Bench { switchback: mounted, ..bench };
    for (version, weight) in [("..v2", 5), ("..v3", 6)] {
        symlink(version, folder.join("..data_tmp")).expect("the next link");
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("swapped in one step");
        mounted.expect(weight, "a link that is swapped");
    }
}

#[test]
fn a_file_that_is_written_in_pieces_is_taken_when_it_is_whole() {
    let bench = Bench::start();
    let text = bench.text(8) + "[pool.later]\nendpoints = []\n";
    let mut written = fs::File::create(bench.switchback.file()).expect("begun anew");
    for piece in text.as_bytes().chunks(16) {
        std::io::Write::write_all(&mut written, piece).expect("a piece");
        // Slower than a disk, faster than the file is left to settle.
        thread::sleep(Duration::from_millis(5));
        assert!([1, 8].contains(&bench.weight()), "a file that is half written was taken");
    }
    drop(written);
    bench.expect(8, "a file that is written in pieces");
    wait_until("nothing is wrong with it", || bench.error().is_null());
}

#[test]
fn a_file_that_is_wrong_unreadable_or_gone_changes_nothing_and_is_told() {
    let bench = Bench::start();
    let file = bench.switchback.file();
    let told = |what: &str| {
        wait_until(what, || bench.error()["detail"].as_str().is_some_and(|detail| detail.contains(what)));
        assert_eq!(bench.weight(), 1);
        assert_eq!(bench.switchback.client().exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
        assert_eq!(bench.switchback.metric("switchback_file_refused"), 1.0);
    };
    fs::write(&file, bench.text(2).replace("path = \"/\"", "paht = \"/\"")).expect("written");
    told("unknown key \"paht\"");
    let error = &bench.error()["errors"][0];
    assert!(error["line"].as_u64().is_some() && error["pointer"] == "/route/0/paht", "{error}");
    fs::remove_file(&file).expect("removed");
    told("can't be read");
    fs::create_dir(&file).expect("a folder in its place");
    told("not a regular file");
    fs::remove_dir(&file).expect("removed");
    fs::write(&file, [0xff, 0xfe]).expect("written");
    told("not UTF-8");
    fs::write(&file, bench.text(2)).expect("written");
    bench.expect(2, "a file that is good again");
    wait_until("nothing is wrong with it", || bench.error().is_null());
    assert!(bench.switchback.metric("switchback_file_reads_total") >= 5.0);
}

#[test]
fn a_signal_has_the_file_read_and_what_can_not_change_is_refused_by_name() {
    let bench = Bench::start();
    fs::write(bench.switchback.file(), bench.text(3).replace("workers = 1", "workers = 2")).expect("written");
    bench.switchback.signal("HUP");
    wait_until("it is refused", || bench.error()["errors"][0]["pointer"] == "/workers");
    assert!(bench.error()["detail"].as_str().expect("a text").contains("restart"));
    assert_eq!(bench.weight(), 1, "nothing of it is in force");
    fs::write(bench.switchback.file(), bench.text(4)).expect("written");
    bench.switchback.signal("HUP");
    bench.expect(4, "a signal");
}
