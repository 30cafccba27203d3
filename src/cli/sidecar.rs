//! `sidecar`: a proxy in front of one app instance, with no file.

use std::fmt::Write as _;

use clap::Args;

use super::{Failure, output, start};
use crate::app::sidecar::{self, Options, OptionsError};

const EXAMPLES: &str = "\
Examples:
  switchback sidecar --app 127.0.0.1:3000 --listen 0.0.0.0:8080
  switchback sidecar --app 127.0.0.1:3000 --health-path /healthz --access-log -
  switchback sidecar --app 127.0.0.1:3000 --print-config > switchback.toml";

/// What may be said to `sidecar`. Values are texts here: the parser of the file judges them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Sidecar {
    /// Where the app listens: an address, or a name and a port
    #[arg(long, env = "SWITCHBACK_APP", value_name = "ADDRESS")]
    app: String,
    /// The address to serve on
    #[arg(long, env = "SWITCHBACK_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: String,
    /// The app is well if it answers this path with 2xx; without it, if it takes a connection
    #[arg(long, env = "SWITCHBACK_HEALTH_PATH", value_name = "PATH")]
    health_path: Option<String>,
    /// The time between two probes of the app
    #[arg(long, env = "SWITCHBACK_HEALTH_INTERVAL", value_name = "DURATION", default_value = "1s")]
    health_interval: String,
    /// How long a probe may take; three failures in a row say that the app is down
    #[arg(long, env = "SWITCHBACK_HEALTH_TIMEOUT", value_name = "DURATION", default_value = "1s")]
    health_timeout: String,
    /// How long a request waits for an app that starts or is down, before it is refused; 0s not at all
    #[arg(long, env = "SWITCHBACK_APP_WAIT", value_name = "DURATION", default_value = "10s")]
    app_wait: String,
    /// From a request's head to its response's end, or off
    #[arg(long, env = "SWITCHBACK_TIMEOUT", value_name = "DURATION", default_value = "60s")]
    timeout: String,
    /// How long to serve on after SIGTERM, while balancers see that readiness has failed
    #[arg(long, env = "SWITCHBACK_PRE_STOP_DELAY", value_name = "DURATION", default_value = "5s")]
    pre_stop_delay: String,
    /// How long requests in flight may take after that
    #[arg(long, env = "SWITCHBACK_DRAIN_DEADLINE", value_name = "DURATION", default_value = "20s")]
    drain_deadline: String,
    /// The address of livez, readyz and metrics, or off
    #[arg(long, env = "SWITCHBACK_HEALTH_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:9901")]
    health_listen: String,
    /// The address of the admin API: loopback, unix:PATH, or off
    #[arg(long, env = "SWITCHBACK_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "off")]
    admin_listen: String,
    /// The file of the access log, - for the standard output, or off
    #[arg(long, env = "SWITCHBACK_ACCESS_LOG", value_name = "PATH", default_value = "off")]
    access_log: String,
    /// A network whose X-Forwarded-* and Forwarded are believed; may be repeated
    #[arg(long, env = "SWITCHBACK_TRUSTED_PROXY", value_name = "NETWORK", value_delimiter = ',')]
    trusted_proxy: Vec<String>,
    /// Threads that serve requests
    #[arg(long, env = "SWITCHBACK_WORKERS", value_name = "N", default_value_t = 1)]
    workers: u64,
    /// Print the file that these options stand for, and do nothing else
    #[arg(long)]
    print_config: bool,
}

/// Serves, or prints the file that would be served.
pub fn run(sidecar: Sidecar) -> Result<(), Failure> {
    let print_config = sidecar.print_config;
    let options = sidecar.options();
    let config = options.config().map_err(|error| Failure::Usage(words(&error)))?;
    if print_config {
        return output::write_raw(&options.file());
    }
    start::serve(config, None, "--listen, --health-listen and --admin-listen set other addresses")
}

impl Sidecar {
    fn options(self) -> Options {
        let unless_off = |value: String| (value != "off").then_some(value);
        Options {
            app: self.app,
            listen: self.listen,
            health_path: self.health_path,
            health_interval: self.health_interval,
            health_timeout: self.health_timeout,
            app_wait: self.app_wait,
            timeout: self.timeout,
            pre_stop_delay: self.pre_stop_delay,
            drain_deadline: self.drain_deadline,
            health_listen: unless_off(self.health_listen),
            admin_listen: unless_off(self.admin_listen),
            access_log: unless_off(self.access_log),
            trusted_proxies: self.trusted_proxy,
            workers: self.workers,
        }
    }
}

/// What is wrong, by the options that people have written, and not by the file that they stand for.
fn words(error: &OptionsError) -> String {
    let of = |pointer: &str| sidecar::option_of(pointer).unwrap_or("the options");
    match error {
        OptionsError::Values(errors) => {
            let mut words = String::new();
            for error in errors.errors() {
                let _ = write!(words, "error: {}: {}", of(&error.pointer), error.message);
                let _ = match &error.help {
                    Some(help) => writeln!(words, "\n = help: {help}"),
                    None => writeln!(words),
                };
            }
            words
        }
        OptionsError::Doubtful(warning) => format!("error: {}: {error}", of(&warning.0.pointer)),
        OptionsError::AppIsOurs => format!("error: --app: {error}"),
    }
}
