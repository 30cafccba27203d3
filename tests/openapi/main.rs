//! The API's own description, held against the API: every call in it is served, and schemathesis, which makes good and
//! bad calls of it, finds no answer that it does not allow.

#[path = "../admin_support/mod.rs"]
mod admin_support;

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::Command,
};

use admin_support::Instance;
use serde_json::Value;

/// The calls that schemathesis does not make: a stream has no end.
const ENDLESS: &str = "/v1/events";
/// A call that is not made by chance: it starts a process.
const REPLACES: &str = "/v1/upgrade";
/// Its cases for each call, and the seconds that all of them may take.
const CASES: &str = "20";
const SECONDS: &str = "40";

fn calls(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, calls): (&String, &Value)| {
        let methods = calls.as_object().expect("calls").keys().filter(|key| *key != "parameters");
        methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[test]
fn what_is_described_is_served_and_nothing_else() {
    let instance = Instance::start();
    let answer = instance.get("/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let described = calls(&document);
    assert!(described.len() > 20, "{described:?}");
    for (method, path) in described.iter().filter(|(_, path)| path != ENDLESS && path != REPLACES) {
        let real = path.replace("{split}", "shop").replace("{pool}", "blue").replace("{n}", "0");
        let real = real.replace("{address}", "127.0.0.1:9001");
        let answer = instance.call(method, &real, None);
        // Some miss a body, and what another call has removed: somebody has looked.
        assert!(answer.status != 405 && !answer.body.contains("unknown-path"), "{method} {path}: {answer:?}");
        // Any other method that the path takes has to be described, too.
        let other = instance.call("TRACE", &real, None);
        let allowed = other.header("allow").expect("the methods of the path");
        for allowed in
            allowed.split(',').map(|method| method.trim().to_uppercase()).filter(|one| one != "HEAD")
        {
            assert!(
                described.contains(&(allowed.clone(), path.clone())),
                "{allowed} {path} is not described"
            );
        }
    }
    // What an unknown path is told to try instead is the same list.
    let unknown = instance.get("/v1").json();
    let told: BTreeSet<_> = unknown["allowed"].as_array().expect("a list").iter().map(told).collect();
    assert_eq!(told, described);
}

fn told(call: &Value) -> (String, String) {
    let (method, path) = call.as_str().and_then(|call| call.split_once(' ')).expect("a method and a path");
    (method.to_owned(), path.to_owned())
}

#[test]
fn schemathesis_finds_no_answer_that_the_description_does_not_allow() {
    let program = schemathesis().expect("schemathesis is not installed: tests/install tests installs it");
    let instance = Instance::start();
    // The long form looks further each time; the short one is the same for everybody, or a change would be held up by
    // what was there before it.
    let chosen = || if env::var_os("SWITCHBACK_LONG").is_some() { fastrand::u32(..) } else { 1 };
    let seed = env::var("SWITCHBACK_SEED").unwrap_or_else(|_| chosen().to_string());
    println!("SWITCHBACK_SEED={seed}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
    let scratch = env::temp_dir().join(format!("switchback-openapi-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a folder of our own");
    let output = Command::new(program)
        .arg("--config-file")
        .arg(folder.join("schemathesis.toml"))
        .args(["--no-color", "run", &format!("{}/openapi.json", instance.url())])
        .args(["--exclude-path", ENDLESS, "--exclude-path", REPLACES, "--seed", &seed])
        .args(["--max-examples", CASES, "--max-time", SECONDS])
        .env("SCHEMATHESIS_HOOKS", folder.join("serializers.py"))
        // It keeps what it has found where it runs.
        .current_dir(&scratch)
        .output()
        .expect("it can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_dir_all(scratch).expect("our own folder");
    assert!(output.status.success(), "schemathesis found something, or could not run: {}", output.status);
    let described = calls(&instance.get("/openapi.json").json()).len();
    let made = said.lines().find_map(|line| line.trim().strip_prefix("Tested: ")?.parse::<usize>().ok());
    // It makes neither the endless call, nor the one that replaces the process, nor that by which it has read the description.
    assert!(made.is_some_and(|made| made + 3 >= described), "{made:?} of {described} calls were made");
    assert!(instance.get("/v1/status").json()["revision"].as_u64() > Some(0), "no call was a good one");
}

/// Where it is: on the path, or where tests/install puts it.
fn schemathesis() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".local/share"));
    let shared = env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home)?;
    let on_path = env::var_os("PATH")?;
    let folders = env::split_paths(&on_path).chain([shared.join("switchback-tests/python/bin")]);
    folders.map(|folder| folder.join("schemathesis")).find(|program| program.is_file())
}
