//! `upgrade`: replaces the binary of a running instance.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Failure,
    arguments::upgrade::Upgrade,
    client::{Call, Client, within},
    output, progress,
};

/// Has the instance replaced, and returns when the successor serves.
pub fn upgrade(client: &Client, upgrade: Upgrade) -> Result<(), Failure> {
    let Upgrade { binary, timeout, connection: _ } = upgrade;
    let mut body = Map::new();
    body.insert("timeout".into(), json!(format!("{}ms", timeout.as_millis())));
    if let Some(binary) = binary {
        let binary = binary.into_os_string().into_string();
        let binary =
            binary.map_err(|_| Failure::Usage("the path of the program is not valid UTF-8".into()))?;
        body.insert("binary".into(), json!(binary));
    }
    let call = Call::post("/v1/upgrade", Value::Object(body));
    let call = Call { within: within(Some(timeout)), ..call };
    let look =
        |waited: Duration| Some(format!("the successor is being started, since {} s", waited.as_secs()));
    let successor = progress::during(client, true, look, || client.success(client.send(call)?))?;
    client.expect(successor["pid"].is_u64() && successor["predecessor"]["pid"].is_u64())?;
    output::print(client.json, &successor, |successor| {
        format!(
            "process {} (version {}) serves; process {} ends when what is in flight there has\n",
            successor["pid"],
            successor["version"].as_str().unwrap_or_default(),
            successor["predecessor"]["pid"],
        )
    })
}
