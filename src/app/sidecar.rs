//! One app instance behind a listener, with no file: `switchback sidecar`.
//!
//! Invariant: there is no second way. What the options say is written as the file that anybody would write for it, and goes
//! through the parser that reads files; so a sidecar can do nothing that a file can't, and `--print-config` shows all
//! that it does.

use std::fmt::Write as _;

use crate::{
    config::{self, Config, ConfigErrors, Warning, defaults},
    control::own_addresses,
};

/// What a sidecar is told, as it was written: the parser of the file judges it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the app is.
    pub app: String,
    /// The address of the listener.
    pub listen: String,
    /// What is asked whether the app is well; `None` for a connection that is taken.
    pub health_path: Option<String>,
    /// The time between two probes of the app while it is well.
    pub health_interval: String,
    /// How long a probe may take.
    pub health_timeout: String,
    /// How long a request waits for the app.
    pub app_wait: String,
    /// From a request's head to its response's end, or "off".
    pub timeout: String,
    /// How long the listener stays open after readiness has failed.
    pub pre_stop_delay: String,
    /// How long requests in flight may take after the listener has closed.
    pub drain_deadline: String,
    /// The address for probes and scrapers.
    pub health_listen: Option<String>,
    /// The address of the admin API.
    pub admin_listen: Option<String>,
    /// The file of the access log, or "-".
    pub access_log: Option<String>,
    /// Networks whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<String>,
    /// Threads of the data plane.
    pub workers: u64,
}

/// What is wrong with the options.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Values that the file's parser refuses; [`option_of`] says whose they are.
    #[error(transparent)]
    Values(#[from] ConfigErrors),
    /// What the parser accepts with a warning makes no sense in a file that nobody has written by hand.
    #[error("{}", .0.0.message)]
    Doubtful(Box<Warning>),
    /// Requests would come back to the sidecar until they are cut off.
    #[error("the app can't be at an address of the sidecar itself")]
    AppIsOurs,
}

/// What a probe of an app that is down is repeated after: a start is seen at once, and a refused connection costs little.
const DOWN_INTERVAL: &str = "250ms";

impl Options {
    /// The file that they stand for.
    pub fn file(&self) -> String {
        let mut file = String::from(
            "# What `switchback sidecar` stands for with the options that it was given: `switchback run -c` of this file does\n\
             # the same.\n",
        );
        self.write_process(&mut file);
        self.write_traffic(&mut file);
        file
    }

    /// The configuration that they stand for.
    pub fn config(&self) -> Result<Config, OptionsError> {
        let (config, mut warnings) = config::parse("the options of the sidecar", &self.file())?;
        let mut endpoints = config.pools.iter().flat_map(|pool| &pool.endpoints);
        if endpoints.any(|app| own_addresses::leads_back(&app.address, &own_addresses::declared(&config))) {
            return Err(OptionsError::AppIsOurs);
        }
        match warnings.pop() {
            Some(warning) => Err(OptionsError::Doubtful(Box::new(warning))),
            None => Ok(config),
        }
    }

    /// What concerns the process: its threads, its other addresses, its end.
    fn write_process(&self, file: &mut String) {
        line(file, format_args!("workers = {}\n", self.workers));
        line(file, format_args!("[health]"));
        if let Some(listen) = &self.health_listen {
            line(file, format_args!("listen = {}", quoted(listen)));
        }
        line(file, format_args!("requires = [\"app\"] # readyz follows the app\n"));
        if let Some(listen) = &self.admin_listen {
            line(file, format_args!("[admin]\nlisten = {}\n", quoted(listen)));
        }
        line(file, format_args!("[state]\npath = \":memory:\"\n"));
        if let Some(path) = &self.access_log {
            line(file, format_args!("[access_log]\npath = {}\n", quoted(path)));
        }
        let (delay, deadline) = (quoted(&self.pre_stop_delay), quoted(&self.drain_deadline));
        line(file, format_args!("[shutdown]\ndelay = {delay}\ndeadline = {deadline}\n"));
    }

    /// What concerns requests: the listener, the app, and the one route between them.
    fn write_traffic(&self, file: &mut String) {
        line(file, format_args!("[[listener]]\nname = \"web\"\nlisten = {}", quoted(&self.listen)));
        if !self.trusted_proxies.is_empty() {
            let networks: Vec<_> = self.trusted_proxies.iter().map(|network| quoted(network)).collect();
            line(file, format_args!("trusted_proxies = [{}]", networks.join(", ")));
        }
        let wait = quoted(&self.app_wait);
        line(
            file,
            format_args!("\n[pool.app]\nendpoints = [{}]\nunavailable_wait = {wait}", quoted(&self.app)),
        );
        // There is no other endpoint to take its place.
        line(file, format_args!("eject = {{ enabled = false }}\n\n[pool.app.health]"));
        match &self.health_path {
            Some(path) => line(file, format_args!("http = {}", quoted(path))),
            None => line(file, format_args!("tcp = true")),
        }
        let (interval, timeout) = (quoted(&self.health_interval), quoted(&self.health_timeout));
        line(
            file,
            format_args!("interval = {interval}\ndown_interval = \"{DOWN_INTERVAL}\"\ntimeout = {timeout}"),
        );
        // A second success would be waited for by requests that have nowhere else to go.
        line(file, format_args!("healthy_after = 1\nunhealthy_after = {}\n", defaults::UNHEALTHY_AFTER));
        line(
            file,
            format_args!("[[route]]\nname = \"app\"\npool = \"app\"\ntimeout = {}", quoted(&self.timeout)),
        );
    }
}

/// The option that a value of the file comes from, by its JSON pointer.
pub fn option_of(pointer: &str) -> Option<&'static str> {
    const OPTIONS: [(&str, &str); 14] = [
        ("/workers", "--workers"),
        ("/health/listen", "--health-listen"),
        ("/admin/listen", "--admin-listen"),
        ("/access_log/path", "--access-log"),
        ("/shutdown/delay", "--pre-stop-delay"),
        ("/shutdown/deadline", "--drain-deadline"),
        ("/listener/0/listen", "--listen"),
        ("/listener/0/trusted_proxies", "--trusted-proxy"),
        ("/pool/app/endpoints", "--app"),
        ("/pool/app/unavailable_wait", "--app-wait"),
        ("/pool/app/health/http", "--health-path"),
        ("/pool/app/health/interval", "--health-interval"),
        ("/pool/app/health/timeout", "--health-timeout"),
        ("/route/0/timeout", "--timeout"),
    ];
    OPTIONS.iter().find(|(place, _)| pointer.starts_with(place)).map(|(_, option)| *option)
}

fn line(file: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(file, "{text}").expect("a text grows");
}

/// A text as TOML writes it, whatever is in it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            app: "127.0.0.1:3000".into(),
            listen: "0.0.0.0:8080".into(),
            health_path: None,
            health_interval: "1s".into(),
            health_timeout: "1s".into(),
            app_wait: "10s".into(),
            timeout: "60s".into(),
            pre_stop_delay: "5s".into(),
            drain_deadline: "20s".into(),
            health_listen: Some("0.0.0.0:9901".into()),
            admin_listen: None,
            access_log: None,
            trusted_proxies: Vec::new(),
            workers: 1,
        }
    }

    #[test]
    fn the_file_that_is_shown_is_the_configuration_that_is_used() {
        let all = Options {
            health_path: Some("/healthz".into()),
            admin_listen: Some("unix:/run/switchback/admin.sock".into()),
            access_log: Some("-".into()),
            trusted_proxies: vec!["10.0.0.0/8".into(), "192.168.0.1".into()],
            timeout: "off".into(),
            ..options()
        };
        for options in [options(), all] {
            let config = options.config().unwrap();
            assert_eq!(&*config.text, options.file());
            assert_eq!(config.required_pools[0].as_str(), "app");
            assert_eq!(config.pools[0].endpoints[0].address.to_string(), "127.0.0.1:3000");
            assert!(config.pools[0].eject.is_none());
        }
    }

    #[test]
    fn every_wrong_value_is_reported_with_its_option() {
        let wrong = || "\"\n[x]\u{1}".to_owned();
        let options = Options {
            app: wrong(),
            listen: wrong(),
            health_path: Some(wrong()),
            health_interval: wrong(),
            health_timeout: wrong(),
            app_wait: wrong(),
            timeout: wrong(),
            pre_stop_delay: wrong(),
            drain_deadline: wrong(),
            health_listen: Some(wrong()),
            admin_listen: Some(wrong()),
            access_log: Some(String::new()),
            trusted_proxies: vec![wrong()],
            workers: 100_000,
        };
        let Err(OptionsError::Values(errors)) = options.config() else { panic!("they were accepted") };
        let found: Vec<_> = errors.errors().iter().map(|error| option_of(&error.pointer)).collect();
        assert_eq!(found.len(), 14, "{errors}");
        assert!(found.iter().all(Option::is_some), "{errors}");
    }

    #[test]
    fn an_app_at_an_address_of_the_sidecar_is_refused() {
        for (app, listen) in [
            ("127.0.0.1:8080", "0.0.0.0:8080"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("127.0.0.1:9901", "0.0.0.0:8080"),
        ] {
            let options = Options { app: app.into(), listen: listen.into(), ..options() };
            assert!(matches!(options.config(), Err(OptionsError::AppIsOurs)), "{app} {listen}");
        }
    }
}
