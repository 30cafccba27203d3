//! The examples under `config/sidecar`: they are what their formats allow, and what they say to the binary is what it takes.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use switchback::config::{self, Config};
use yaml_rust2::{Yaml, YamlLoader};

use crate::{
    application::Application,
    is_ready, sidecar,
    support::{Reserved, wait_until},
};

fn example(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/sidecar").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents(name: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&example(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What the binary makes of arguments and an environment.
fn configuration(arguments: &[String], environment: &[(String, String)]) -> Config {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchback"));
    command.args(arguments).arg("--print-config").env_clear().envs(environment.iter().cloned());
    let output = command.output().expect("the binary that cargo built");
    assert!(output.status.success(), "{arguments:?} {environment:?}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("the file is text");
    config::parse("an example", &text).unwrap_or_else(|errors| panic!("{errors}")).0
}

fn text(yaml: &Yaml) -> String {
    match yaml {
        Yaml::String(text) => text.clone(),
        other => panic!("expected a text, found {other:?}"),
    }
}

fn texts(yaml: &Yaml) -> Vec<String> {
    yaml.as_vec().expect("a list").iter().map(text).collect()
}

fn port_called(container: &Yaml, name: &str) -> u16 {
    let ports = container["ports"].as_vec().expect("a list of ports");
    let port = ports.iter().find(|port| port["name"].as_str() == Some(name)).expect("a port of the name");
    u16::try_from(port["containerPort"].as_i64().expect("a number")).expect("a port")
}

fn seconds(yaml: &Yaml) -> Duration {
    Duration::from_secs(u64::try_from(yaml.as_i64().expect("a number")).expect("no less than 0"))
}

#[test]
fn the_manifest_of_kubernetes_says_what_the_binary_takes() {
    let documents = documents("kubernetes.yaml");
    let pod = &documents[0]["spec"]["template"]["spec"];
    let (proxy, app) = (&pod["initContainers"][0], &pod["containers"][0]);
    let variable = |entry: &Yaml| (text(&entry["name"]), text(&entry["value"]));
    let environment: Vec<_> = proxy["env"].as_vec().expect("a list").iter().map(variable).collect();
    let config = configuration(&texts(&proxy["args"]), &environment);
    assert_eq!(config.listeners[0].address.port(), port_called(proxy, "http"));
    let probes = config.health.expect("probes are served");
    assert!(probes.ip().is_unspecified(), "the kubelet comes from outside of the pod's loopback");
    assert_eq!(probes.port(), port_called(proxy, "probes"));
    let endpoint = config.pools[0].endpoints[0].address.socket().expect("an address of IP");
    assert_eq!((endpoint.ip().is_loopback(), endpoint.port()), (true, port_called(app, "app")));
    assert!(config.admin.is_none());
    for (probe, path) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        let asked = &proxy[probe]["httpGet"];
        assert_eq!((asked["path"].as_str(), asked["port"].as_str()), (Some(path), Some("probes")), "{probe}");
    }
    assert_eq!(proxy["restartPolicy"].as_str(), Some("Always"), "or it is no sidecar");
    assert_eq!(proxy["securityContext"]["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    let sleep = seconds(&app["lifecycle"]["preStop"]["sleep"]["seconds"]);
    let stop = config.shutdown.delay + config.shutdown.deadline;
    assert!(config.shutdown.delay.is_zero() && !sleep.is_zero(), "the delay is the app's");
    assert!(seconds(&pod["terminationGracePeriodSeconds"]) > sleep + stop);
    assert_eq!(documents[1]["spec"]["ports"][0]["targetPort"].as_str(), Some("http"));
}

#[test]
fn the_file_of_compose_says_what_the_binary_takes() {
    let documents = documents("compose.yaml");
    let services = &documents[0]["services"];
    let (proxy, app) = (&services["switchback"], &services["app"]);
    let environment = proxy["environment"].as_hash().expect("a table");
    let environment: Vec<_> = environment.iter().map(|(name, value)| (text(name), text(value))).collect();
    let config = configuration(&texts(&proxy["command"]), &environment);
    let published = text(&proxy["ports"][0]);
    assert!(published.ends_with(&format!(":{}", config.listeners[0].address.port())), "{published}");
    let endpoint = config.pools[0].endpoints[0].address.to_string();
    assert_eq!(endpoint, format!("app:{}", text(&app["expose"][0])));
    assert_eq!(texts(&proxy["depends_on"]), ["app"]);
    let grace = humantime::parse_duration(&text(&proxy["stop_grace_period"])).expect("a duration");
    assert!(grace > config.shutdown.delay + config.shutdown.deadline);
    assert_eq!(proxy["read_only"].as_bool(), Some(true));
    let check = texts(&proxy["healthcheck"]["test"]);
    let probes = config.health.expect("probes are served");
    assert_eq!(check[..4], ["CMD", "/usr/bin/switchback", "health", "--admin"]);
    assert_eq!(check[4], format!("http://127.0.0.1:{}", probes.port()));
}

#[test]
fn the_unit_of_systemd_says_what_the_binary_takes() {
    let unit = example("switchback-sidecar.service");
    let all = |key: &str| -> Vec<String> {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.map(str::to_owned).collect()
    };
    let variable = |line: &String| {
        let (name, value) = line.split_once('=').expect("NAME=VALUE");
        (name.to_owned(), value.to_owned())
    };
    let environment: Vec<_> = all("Environment").iter().map(variable).collect();
    let arguments: Vec<_> = all("ExecStart")[0].split(' ').skip(1).map(str::to_owned).collect();
    let config = configuration(&arguments, &environment);
    let Some(config::AdminAddress::Unix(socket)) = &config.admin else { panic!("it has a unix socket") };
    assert!(all("ExecReload")[0].ends_with(&format!("unix:{}", socket.display())));
    assert_eq!(socket.parent().expect("a folder").file_name(), Some(all("RuntimeDirectory")[0].as_ref()));
    let limit = humantime::parse_duration(&all("TimeoutStopSec")[0]).expect("a duration");
    assert!(limit > config.shutdown.delay + config.shutdown.deadline);
}

/// What compose and a Dockerfile ask for a container's health.
#[test]
fn the_address_for_probes_answers_the_command_for_health_checks() {
    let port = Reserved::any();
    let switchback = sidecar(port.address, "");
    let check = |more: &[&str]| {
        let address = format!("http://{}", switchback.health.expect("it has one"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchback"));
        command
            .args(["health", "--admin", &address])
            .args(more)
            .output()
            .expect("the binary that cargo built")
    };
    assert_eq!(check(&[]).status.code(), Some(1), "the app is not there");
    assert!(check(&["--live"]).status.success());
    let _app = Application::start(&port);
    wait_until("it is ready", || is_ready(&switchback));
    assert!(check(&[]).status.success(), "{:?}", check(&[]));
}
