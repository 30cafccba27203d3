//! Deploys as they happen: four processes are replaced one after the other, killed for real, while requests come at a
//! constant rate over kept and new connections. With drains nothing fails; without, only what could not be saved.

#[path = "../support/mod.rs"]
mod support;

mod application;
mod load;

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use application::{Application, HEALTH, Journal};
use load::{Load, Outcome};
use serde_json::Value;
use support::{Switchback, is_long, seeded, wait_until};

const ENDPOINTS: usize = 4;
/// Requests a second: far under what anything here can carry, so that a failure has no other cause.
const RATE: u32 = 300;

/// How long deploys follow each other.
fn time() -> Duration {
    if is_long() { Duration::from_secs(65) } else { Duration::from_secs(8) }
}

/// Four applications behind two workers. One that is killed is ejected for a moment: its successor is there at once.
fn start(applications: &[Application], pool: &str) -> Switchback {
    let addresses: Vec<_> =
        applications.iter().map(|application| format!("{:?}", application.address().to_string())).collect();
    Switchback::start(&format!(
        "workers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\
         [pool.app]\nendpoints = [{}]\n\
         eject = {{ base_time = \"100ms\", max_time = \"100ms\" }}\n{pool}\n[[route]]\nname = \"all\"\npath = \"/\"\npool = \"app\"\n",
        addresses.join(", ")
    ))
}

/// Runs a command of the command line, which must succeed.
fn command(switchback: &Switchback, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_switchback"))
        .args(arguments)
        .args(["--admin", &format!("http://{}", switchback.admin)])
        .output()
        .expect("the binary that cargo built");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Replaces applications under load, one after the other, until the time is over; answers how many were replaced.
fn deploy(
    switchback: &Switchback,
    applications: &mut [Application],
    mut replace: impl FnMut(&Switchback, &mut Application),
) -> usize {
    let begun = Instant::now();
    let mut replaced = 0;
    while begun.elapsed() < time() || replaced < applications.len() {
        replace(switchback, &mut applications[replaced % ENDPOINTS]);
        replaced += 1;
    }
    replaced
}

/// Runs a load while `deploys` runs.
fn under_load(switchback: &Switchback, deploys: impl FnOnce() -> usize) -> (Load, usize) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let running = scope.spawn(|| load::run(switchback.address, RATE, &stop));
        let replaced = deploys();
        stop.store(true, Ordering::SeqCst);
        (running.join().expect("the load does not panic"), replaced)
    })
}

/// What is known of an application's health.
fn health(switchback: &Switchback, application: &Application) -> String {
    let pool = switchback.admin("GET", "/v1/pools/app", "").text();
    let pool: Value = serde_json::from_str(&pool).expect("JSON");
    let address = application.address().to_string();
    let endpoints = pool["endpoints"].as_array().expect("a list");
    let endpoint = endpoints.iter().find(|endpoint| endpoint["address"] == address.as_str());
    endpoint.expect("it is declared")["health"]["state"].as_str().expect("a word").to_owned()
}

fn wait_health(switchback: &Switchback, application: &Application, wanted: &str) {
    wait_until(&format!("it is {wanted}"), || health(switchback, application) == wanted);
}

#[test]
fn a_rolling_deploy_with_drains_loses_and_repeats_nothing() {
    let mut rng = seeded("a_rolling_deploy_with_drains_loses_and_repeats_nothing");
    rolling_deploy("", |_, application, journal| application.replace(journal, rng.u64(..)));
}

/// A probe that fails between the kill and the new version takes the endpoint out, which it already is, and the new
/// version is there from the undrain on, as it has been found well by then.
#[test]
fn a_rolling_deploy_of_a_pool_that_is_probed_loses_and_repeats_nothing() {
    let mut rng = seeded("a_rolling_deploy_of_a_pool_that_is_probed_loses_and_repeats_nothing");
    let probes = format!(
        "health = {{ http = \"/{HEALTH}\", interval = \"50ms\", down_interval = \"50ms\", timeout = \"5s\" }}"
    );
    rolling_deploy(&probes, |switchback, application, journal| {
        assert_eq!(health(switchback, application), "healthy", "it is probed while it drains");
        application.kill();
        wait_health(switchback, application, "unhealthy");
        application.replace(journal, rng.u64(..));
        wait_health(switchback, application, "healthy");
    });
}

/// Deploys with drains, and asserts that nothing failed and nothing came twice.
fn rolling_deploy(pool: &str, mut replace: impl FnMut(&Switchback, &mut Application, &Journal)) {
    let journal = Journal::new();
    let mut applications: Vec<_> =
        (0..ENDPOINTS).map(|number| Application::start(&journal, number as u64)).collect();
    let switchback = start(&applications, pool);
    if !pool.is_empty() {
        applications.iter().for_each(|application| wait_health(&switchback, application, "healthy"));
    }
    let (load, replaced) = under_load(&switchback, || {
        deploy(&switchback, &mut applications, |switchback, application| {
            let address = application.address().to_string();
            let said = command(switchback, &["drain", "app", &address, "--deadline", "30s", "--wait"]);
            assert!(said.contains("nothing is in flight there") && !said.contains("cut"), "{said}");
            replace(switchback, application, &journal);
            command(switchback, &["undrain", "app", &address]);
            wait_until("the new version is used", || journal.served(application) > 0);
        })
    });
    println!("{} requests, {replaced} processes replaced", load.outcomes.len());
    let failures: Vec<_> = load.outcomes.iter().filter(|outcome| outcome.failure.is_some()).collect();
    assert!(failures.is_empty(), "{} of {} failed: {failures:?}", failures.len(), load.outcomes.len());
    let least = time().as_secs() as usize * RATE as usize * 3 / 4;
    assert!(load.outcomes.len() > least, "no constant rate: {} requests", load.outcomes.len());
    let counts = journal.counts();
    for Outcome { id, method, .. } in &load.outcomes {
        assert_eq!(counts.get(id), Some(&1), "{method} {id} was answered and came another number of times");
    }
    assert_eq!(counts.len(), load.outcomes.len(), "requests came that nobody sent");
}

#[test]
fn killing_processes_without_drains_loses_only_what_could_not_be_saved() {
    let journal = Journal::new();
    let mut rng = seeded("killing_processes_without_drains_loses_only_what_could_not_be_saved");
    let mut applications: Vec<_> =
        (0..ENDPOINTS).map(|_| Application::start(&journal, rng.u64(..))).collect();
    let switchback = start(&applications, "");
    let (load, replaced) = under_load(&switchback, || {
        deploy(&switchback, &mut applications, |_, application| {
            application.replace(&journal, rng.u64(..));
            // A crash now and then, not a storm: a request may meet one of them, not three.
            wait_until("the new version has served for a while", || journal.served(application) > 20);
        })
    });
    let counts = journal.counts();
    let mut lost = 0;
    for Outcome { id, method, failure } in &load.outcomes {
        let came = counts.get(id).copied().unwrap_or(0);
        match (*method, failure) {
            // Idempotent: it may come twice, and must be answered.
            ("GET", None) => assert!(came >= 1, "{id} was answered by nobody"),
            (_, None) => assert_eq!(came, 1, "{id} was answered"),
            ("GET", Some(failure)) => panic!("GET {id} failed: {failure}, and came {came} times"),
            (_, Some(failure)) => {
                // It may have been processed, so it was rightly not sent again.
                assert!(came <= 1, "{id} came {came} times");
                assert!(failure.contains("502"), "{id}: {failure}");
                lost += 1;
            }
        }
    }
    println!(
        "{} requests, {replaced} processes killed, {lost} POSTs could not be saved",
        load.outcomes.len()
    );
    // Each kill can hit what is in flight on one process alone.
    assert!(lost <= replaced * load::CLIENTS, "{lost} of {}", load.outcomes.len());
}
