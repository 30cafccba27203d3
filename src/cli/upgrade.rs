//! `upgrade`: replaces the binary of a running instance.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use hyper::Method;
use serde_json::{Map, Value, json};

use super::{
    Failure,
    arguments::{Connection, patience},
    calls::{expect_shape, expect_success, send},
    client::ANSWER_WITHIN,
    output,
};

/// What may be said to `upgrade`.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// The program of the successor, an absolute path on the machine of the instance; the path that the instance was
    /// started from if not given
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// How long the successor has to serve; if it does not, the old process goes on
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = patience)]
    timeout: Duration,
    #[command(flatten)]
    pub connection: Connection,
}

/// Has the instance replaced, and returns when the successor serves.
pub fn upgrade(upgrade: Upgrade) -> Result<(), Failure> {
    let Upgrade { binary, timeout, connection } = upgrade;
    let mut body = Map::new();
    body.insert("timeout".into(), json!(format!("{}ms", timeout.as_millis())));
    if let Some(binary) = binary {
        let binary = binary.into_os_string().into_string();
        let binary =
            binary.map_err(|_| Failure::Usage("the path of the program is not valid UTF-8".into()))?;
        body.insert("binary".into(), json!(binary));
    }
    let body = Some(Value::Object(body));
    let answer = send(&connection, Method::POST, "/v1/upgrade", body, timeout + ANSWER_WITHIN)?;
    let successor = expect_success(answer)?;
    expect_shape(&connection, successor["pid"].is_u64() && successor["predecessor"]["pid"].is_u64())?;
    output::print(connection.form.json, &successor, |successor| {
        format!(
            "process {} (version {}) serves; process {} ends when what is in flight there has\n",
            successor["pid"],
            successor["version"].as_str().unwrap_or_default(),
            successor["predecessor"]["pid"],
        )
    })
}
