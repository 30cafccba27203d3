//! The calls about the file, and a file that is applied.

use std::{fs, process::Command};

use crate::support::{Switchback, Upstream, config::blue_green, upstream::response, wait_until};

struct Bench {
    blue: Upstream,
    green: Upstream,
    switchback: Switchback,
}

impl Bench {
    fn start(more: &str) -> Self {
        let [blue, green] =
            [(); 2].map(|()| Upstream::start(|exchange| exchange.send(&response(200, b"ok"))));
        let text = more.to_owned() + &blue_green(1, (1, 99), "", &blue, &green);
        Self { switchback: Switchback::start(&text), blue, green }
    }

    fn text(&self, weight: u32) -> String {
        blue_green(1, (weight, 99), "", &self.blue, &self.green)
    }

    fn blue(&self) -> u64 {
        self.switchback.json("GET", "/v1/splits/main", "")["weights"]["blue"].as_u64().expect("a weight")
    }

    /// Runs the command line; answers its exit code and what it printed.
    fn cli(&self, arguments: &[&str]) -> (i32, String) {
        let admin = format!("http://{}", self.switchback.admin);
        let output = Command::new(env!("CARGO_BIN_EXE_switchback"))
            .args(arguments)
            .args(["--admin", &admin])
            .output()
            .expect("the binary that cargo built");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().expect("it ended by itself"), said)
    }
}

#[test]
fn a_text_is_checked_as_the_command_line_checks_a_file() {
    let bench = Bench::start("");
    let good = bench.switchback.post_file("/v1/config/validate", &bench.text(5));
    assert_eq!(good.status, 200, "{}", good.text());
    let wrong = bench.text(5).replace("[pool.blue]", "[pool.bleu]");
    let refused = bench.switchback.post_file("/v1/config/validate", &wrong);
    assert_eq!(refused.status, 422);
    let problem: serde_json::Value = serde_json::from_str(&refused.text()).expect("a problem");
    let path = bench.switchback.file().with_file_name("wrong.toml");
    fs::write(&path, &wrong).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_switchback"))
        .args(["check", "--json", "-c"])
        .arg(&path)
        .output()
        .expect("the binary that cargo built");
    let checked: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    let of = |errors: &serde_json::Value, message: &str| -> Vec<_> {
        let errors = errors.as_array().expect("errors").iter();
        errors
            .map(|error| {
                (
                    error["line"].clone(),
                    error["column"].clone(),
                    error["pointer"].clone(),
                    error[message].clone(),
                )
            })
            .collect()
    };
    assert_eq!(of(&problem["errors"], "detail"), of(&checked["errors"], "message"));
    assert_eq!(bench.blue(), 1);
}

#[test]
fn an_export_is_a_file_that_declares_the_live_state() {
    let bench = Bench::start("# a comment that stays\n");
    bench.switchback.weigh(40, 60);
    let [blue, green] = [&bench.blue, &bench.green].map(|upstream| upstream.address);
    let put = |path: String, body| assert_eq!(bench.switchback.admin("PUT", &path, body).status, 200);
    put(format!("/v1/pools/blue/endpoints/{blue}"), "{\"weight\": 7}");
    put("/v1/pools/green/endpoints/127.0.0.1:9".to_owned(), "{\"weight\": 3}");
    let drained = bench.switchback.admin("POST", &format!("/v1/pools/green/endpoints/{green}/drain"), "");
    assert_eq!(drained.status, 200);
    let (code, text) = bench.cli(&["config", "export"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("# a comment that stays"), "{text}");
    fs::write(bench.switchback.file(), &text).expect("written");
    wait_until("the export is the file", || {
        bench.switchback.json("GET", "/v1/config", "")["text"].as_str() == Some(&text)
    });
    assert_eq!(bench.switchback.json("GET", "/v1/drift", "")["in_sync"], true, "{text}");
    assert_eq!(bench.cli(&["drift", "--exit-code"]).0, 0);
    assert_eq!(bench.blue(), 40);
}

#[test]
fn an_applied_file_is_idempotent_survives_a_restart_and_gives_way_to_an_edit() {
    let folder = std::env::temp_dir().join(format!("switchback-applied-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder of our own");
    let state = folder.join("state.db");
    let with_state = |text: String| format!("{text}\n[state]\npath = {state:?}\n");
    let [blue, green] = [(); 2].map(|()| Upstream::start(|exchange| exchange.send(&response(200, b"ok"))));
    let of = |weight| with_state(blue_green(1, (weight, 99), "", &blue, &green));
    let bench = Bench { switchback: Switchback::start(&of(1)), blue, green };
    let of = |weight| with_state(bench.text(weight));
    let path = bench.switchback.file().with_file_name("next.toml");
    fs::write(&path, of(20)).expect("written");
    let file = path.display().to_string();
    let apply = |more: &[&str]| bench.cli(&[&["apply", "-f", &file, "--exit-code"], more].concat());
    let (code, said) = apply(&["--dry-run"]);
    assert_eq!((code, bench.blue()), (4, 1), "{said}");
    assert!(said.contains("blue 1 -> 20"), "{said}");
    assert_eq!(apply(&[]).0, 4);
    assert_eq!((apply(&[]).0, bench.blue()), (0, 20), "a second time changes nothing");
    assert_eq!(bench.switchback.json("GET", "/v1/status", "")["file"]["source"], "applied");
    assert_eq!(bench.switchback.json("POST", "/v1/config/reload", "")["changed"], false, "the file is older");

    let bench = Bench { switchback: bench.switchback.restart(), blue: bench.blue, green: bench.green };
    assert_eq!(bench.blue(), 20, "it survives a restart");
    assert_eq!(bench.switchback.json("GET", "/v1/status", "")["file"]["source"], "applied");

    bench.switchback.write(&with_state(bench.text(30)));
    wait_until("the edit is in force", || bench.blue() == 30);
    assert_eq!(bench.switchback.json("GET", "/v1/status", "")["file"]["source"], "file");
    drop(bench);
    fs::remove_dir_all(&folder).ok();
}

#[test]
fn a_reload_with_a_field_that_it_does_not_know_loads_nothing() {
    let bench = Bench::start("");
    let reload = |body: &str| bench.switchback.admin("POST", "/v1/config/reload", body);
    let revision = || bench.switchback.json("GET", "/v1/status", "")["revision"].clone();
    let before = revision();
    let refused = reload("{\"reson\": \"x\", \"dry_run\": true}");
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(
        ["\"/reson\"", "\"/dry_run\""].iter().all(|at| refused.text().contains(at)),
        "{}",
        refused.text()
    );
    assert_eq!(revision(), before);
    for good in ["", "{}", "{\"reason\": \"x\"}"] {
        assert_eq!(reload(good).status, 200, "{good}");
    }
}

#[test]
fn an_applied_file_opens_no_address_and_names_no_file() {
    let bench = Bench::start("");
    let text =
        bench.text(5).replace("listen = \"127.0.0.1:0\"\n\n[pool", "listen = \"127.0.0.1:1\"\n\n[pool");
    let refused = bench.switchback.put_file(&text);
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("/listener/0/listen"), "{}", refused.text());
    for more in ["[access_log]\npath = \"/tmp/x\"\n", "[pins]\nkey_file = \"${file:/etc/passwd}\"\n"] {
        assert_eq!(bench.switchback.put_file(&(bench.text(5) + more)).status, 422, "{more}");
    }
    assert_eq!(bench.blue(), 1);
}

#[test]
fn an_applied_file_brings_no_endpoint_that_no_call_may_bring() {
    let bench = Bench::start("");
    let blue = bench.blue.address.to_string();
    let (web, admin) = (bench.switchback.address, bench.switchback.admin);
    let localhost = format!("localhost:{}", admin.port());
    for bad in
        [web.to_string(), admin.to_string(), localhost, "169.254.169.254:80".into(), "[fe80::1]:80".into()]
    {
        let text = bench.text(5).replace(&format!("[\"{blue}\"]"), &format!("[\"{blue}\", \"{bad}\"]"));
        assert!(text.contains(&bad));
        let refused = bench.switchback.put_file(&text);
        assert_eq!(refused.status, 422, "{bad}: {}", refused.text());
        assert!(refused.text().contains("/pool/blue/endpoints/1"), "{}", refused.text());
        let valid = bench.switchback.post_file("/v1/config/validate", &text).text();
        assert!(valid.contains("/pool/blue/endpoints/1"), "{valid}");
        let alone = format!("/v1/pools/blue/endpoints/{}", bad.replace('[', "%5B").replace(']', "%5D"));
        assert_eq!(bench.switchback.admin("PUT", &alone, "").status, 422, "{bad}");
    }
    assert_eq!(bench.blue(), 1);
    // What the file on the machine declares may stay in a file that is applied.
    let declared =
        bench.text(1).replace(&format!("[\"{blue}\"]"), &format!("[\"{blue}\", \"169.254.0.9:80\"]"));
    bench.switchback.write(&declared);
    wait_until("the edit is in force", || {
        bench.switchback.json("GET", "/v1/config", "")["text"] == *declared
    });
    assert_eq!(bench.switchback.put_file(&declared.replace("blue = 1", "blue = 6")).status, 200);
    assert_eq!(bench.blue(), 6);
    // It is gone by now, and does not come back by the way of the history.
    bench.switchback.write(&bench.text(7));
    wait_until("the edit is in force", || bench.blue() == 7);
    let refused = bench.switchback.admin("POST", "/v1/revisions/1/restore", "");
    assert_eq!(refused.status, 422, "{}", refused.text());
}

#[test]
fn texts_by_the_dozen_are_checked_one_after_the_other() {
    let bench = Bench::start("");
    let large = bench.text(5) + &"# a comment that goes on and on\n".repeat(30_000);
    let statuses = std::thread::scope(|scope| {
        let calls = || bench.switchback.post_file("/v1/config/validate", &large);
        let calls: Vec<_> = (0..40).map(|_| scope.spawn(calls)).collect();
        calls.into_iter().map(|call| call.join().expect("an answer")).collect::<Vec<_>>()
    });
    for answer in &statuses {
        assert!(
            answer.status == 200 || answer.status == 503 && answer.head.one("retry-after").is_some(),
            "{}",
            answer.text()
        );
    }
    assert!(statuses.iter().any(|answer| answer.status == 200));
    assert_eq!(
        bench.switchback.post_file("/v1/config/validate", &bench.text(5)).status,
        200,
        "and then again"
    );
}

#[test]
fn the_tag_of_a_pool_tells_of_its_settings() {
    let bench = Bench::start("");
    let tags = || {
        ["/v1/pools/blue", "/v1/pools/green", "/v1/splits/main"].map(|path| {
            bench.switchback.admin("GET", path, "").head.one("etag").map(str::to_owned).expect("a tag")
        })
    };
    let before = tags();
    let text = bench.text(1).replacen("endpoints", "max_requests = 77\nendpoints", 1);
    bench.switchback.write(&text);
    wait_until("the edit is in force", || bench.switchback.json("GET", "/v1/config", "")["text"] == *text);
    let after = tags();
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
}
