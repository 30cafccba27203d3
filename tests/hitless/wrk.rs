//! The same under as much load as the machine gives, from wrk.

use std::{
    collections::HashSet,
    fs,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::{
    counted::{changes, keep_changing},
    support::{Switchback, Upstream, config::blue_green, upstream::response},
};

/// Each request has a number of its own; an answer that is not the answer to it counts as wrong. wrk keeps one request
/// at a time on a connection, so answers and requests of a thread are matched by the number, not by order.
const SCRIPT: &str = r#"
local threads = {}
local count = 0
function setup(thread)
  count = count + 1
  thread:set("id", count)
  table.insert(threads, thread)
end
function init(args)
  sent, whole, wrong = 0, 0, 0
  waiting = {}
end
function request()
  sent = sent + 1
  local target = "/" .. id .. "-" .. sent
  waiting[target] = true
  return wrk.format("GET", target)
end
function response(status, headers, body)
  if status == 200 and waiting[body] then
    waiting[body] = nil
    whole = whole + 1
  else
    wrong = wrong + 1
  end
end
function done(summary, latency, requests)
  local sent, whole, wrong = 0, 0, 0
  for _, thread in ipairs(threads) do
    sent = sent + thread:get("sent")
    whole = whole + thread:get("whole")
    wrong = wrong + thread:get("wrong")
  end
  local errors = summary.errors
  print(string.format("COUNTED sent=%d whole=%d wrong=%d connect=%d read=%d write=%d status=%d timeout=%d",
    sent, whole, wrong, errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"#;

/// wrk's connections: what is under way on them when it stops is cut by wrk itself.
const CONNECTIONS: u64 = 16;

/// The requests that came.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Came>>);

#[derive(Default)]
struct Came {
    /// Each by its thread and number.
    distinct: HashSet<(u64, u64)>,
    /// How many came again.
    repeated: u64,
}

impl Seen {
    fn upstream(&self) -> Upstream {
        let seen = self.clone();
        Upstream::start(move |exchange| {
            let target = exchange.head.target().to_owned();
            let (thread, number) = target[1..].split_once('-').expect("wrk's script names both");
            let request = (thread.parse().expect("a number"), number.parse().expect("a number"));
            {
                let mut came = seen.0.lock().expect("no panic holds it");
                if !came.distinct.insert(request) {
                    came.repeated += 1;
                }
            }
            exchange.send(&response(200, target.as_bytes()));
        })
    }
}

#[test]
fn weight_changes_under_wrk_fail_cut_and_repeat_nothing() {
    let seen = Seen::default();
    let (blue, green) = (seen.upstream(), seen.upstream());
    let switchback = Switchback::start(&blue_green(2, (100, 0), "", &blue, &green));
    let script = std::env::temp_dir().join(format!("switchback-wrk-{}.lua", std::process::id()));
    fs::write(&script, SCRIPT).expect("a writable folder");
    let wrk = Command::new("wrk")
        .args([
            "-t2",
            &format!("-c{CONNECTIONS}"),
            &format!("-d{}s", changes().1.as_secs() + 1),
            "--timeout",
            "10s",
            "-s",
        ])
        .arg(&script)
        .arg(format!("http://{}/", switchback.address))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs wrk (Debian package `wrk`), but: {error}"));
    keep_changing(&switchback);
    let output = wrk.wait_with_output().expect("wrk ends by itself");
    fs::remove_file(&script).ok();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let counted = text
        .lines()
        .find_map(|line| line.strip_prefix("COUNTED "))
        .unwrap_or_else(|| panic!("wrk did not count: {text}\n{}", String::from_utf8_lossy(&output.stderr)));
    let count = |name: &str| -> u64 {
        let pair = counted.split(' ').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {counted}"))
    };
    println!("{counted}; {} to blue, {} to green", blue.requests(), green.requests());
    for name in ["wrong", "connect", "read", "write", "status", "timeout"] {
        assert_eq!(count(name), 0, "{name}: {counted}\n{text}");
    }
    assert!(count("whole") > 1000, "too little load to prove anything: {counted}");
    // wrk prepares a connection's next request when the last was answered, and cuts what is under way at its end.
    assert!(count("sent") - count("whole") <= 2 * CONNECTIONS, "{counted}");
    drop(switchback);
    blue.wait_all_ended();
    green.wait_all_ended();
    let seen = seen.0.lock().expect("no panic holds it");
    assert_eq!(seen.repeated, 0, "requests came more than once");
    let came = seen.distinct.len() as u64;
    assert!((count("whole")..=count("sent")).contains(&came), "{came} came of {counted}");
    assert!(blue.requests() > 100 && green.requests() > 100, "traffic did not move");
}
