//! Two sample apps, a split and the admin API in one process, with nothing to set up: `switchback demo`.
//!
//! Everything in it but the two apps and the visitors is what `run` starts, from a file as anybody would write it.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    time::Duration,
};

use anyhow::Context as _;

use self::{display::Display, visitors::Visits};
use super::{Instance, Signals};
use crate::config;

mod display;
mod sample;
mod visitors;

/// Where the demo serves.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address of the listener.
    pub listen: SocketAddr,
    /// The address of the admin API.
    pub admin: SocketAddr,
    /// Requests a second that the demo sends itself, so that there is something to see; 0 sends none.
    pub rate: u32,
}

/// How often the shares are shown.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// Serves the demo until SIGINT or SIGTERM.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let blue = sample::start("blue", "1.0").await?;
        let green = sample::start("green", "2.0").await?;
        let text = configuration(options, blue, green);
        let (config, _) = config::parse("the demo's configuration", &text)
            .map_err(|errors| anyhow::anyhow!(errors.render()))
            .context("the demo's own configuration is wrong")?;
        let instance = Instance::start(config, None)?;
        let address = instance.addresses[0];
        let admin = instance.control.admin.as_ref().map(ToString::to_string).unwrap_or_default();
        // Nobody may be reading: the first line of the display finds that out, too.
        let _ = io::stdout().write_all(introduction(address, &admin, blue, green).as_bytes());
        let visits = Visits::default();
        let visitors = visitors::send(address, options.rate, visits.clone());
        let mut display = Display::new();
        let mut ticks = tokio::time::interval(SHOWN_EVERY);
        let show = async {
            loop {
                ticks.tick().await;
                if let Err(error) = display.show(&instance, &visits)
                    && error.kind() == io::ErrorKind::BrokenPipe
                {
                    // Whoever looked (`| head`) has seen enough.
                    return;
                }
            }
        };
        tokio::select! {
            () = show => {}
            () = visitors => {}
            () = signals.until_stop(&|| {}) => {}
        }
        let _ = writeln!(io::stdout(), "\nEnded.");
        instance.end();
        Ok(())
    })
}

fn configuration(options: &Options, blue: SocketAddr, green: SocketAddr) -> String {
    let Options { listen, admin, .. } = options;
    format!(
        r#"
# Each worker has its own sequence of a split's pools: with one, 9 of 10 are exactly 9 of 10.
workers = 1

[state]
path = ":memory:"

[admin]
listen = "{admin}"

[[listener]]
name = "web"
listen = "{listen}"

[pool.blue]
endpoints = ["{blue}"]

[pool.green]
endpoints = ["{green}"]

[split.shop]
weights = {{ blue = 90, green = 10 }}

[[route]]
name = "shop"
path = "/"
split = "shop"
"#
    )
}

fn introduction(address: SocketAddr, admin: &str, blue: SocketAddr, green: SocketAddr) -> String {
    // The client's default is the demo's default: only another address has to be said.
    let at = if admin == "http://127.0.0.1:9900" { String::new() } else { format!(" --admin {admin}") };
    format!(
        "\
Switchback's demo: one service in two versions, and a split of its traffic between them.

  the shop      http://{address}/        (reload it: 9 of 10 times it is blue)
  blue, 1.0     http://{blue}/
  green, 2.0    http://{green}/
  admin API     {admin}/v1/status

Type in another terminal, and watch below: each pool's weight, and its share of the last second's requests.

  curl http://{address}/
  switchback weights shop blue=50 green=50{at}
  switchback switch shop green{at}
  switchback rollback shop{at}
  switchback explain http://{address}/{at}
  curl -X PUT {admin}/v1/splits/shop/weights \\
       -H 'Content-Type: application/json' -d '{{\"blue\": 75, \"green\": 25}}'
  curl {admin}/metrics

(switchback is this program: ./target/release/switchback, if it is not on your PATH.) Ctrl-C ends it.

"
    )
}
