//! The commands that call a running instance: which does what.

use std::fmt::Write as _;

use serde_json::json;

use super::{
    Failure,
    arguments::{
        Call,
        reading::{Health, Status},
    },
    client::{self, Client},
    explain, files, history, output, pools, splits, upgrade, watch,
};

/// Makes a call and prints its answer.
pub fn call(mut call: Call) -> Result<(), Failure> {
    let client = &Client::of(call.connection())?;
    match call {
        Call::Status(status) => self::status(client, &status),
        Call::Weights(weights) => splits::weights(client, weights),
        Call::Switch(switch) => splits::switch(client, &switch),
        Call::Rollback(rollback) => splits::rollback(client, &rollback),
        Call::Drain(drain) => pools::drain(client, drain),
        Call::Undrain(undrain) => pools::undrain(client, &undrain),
        Call::Endpoint(endpoint) => pools::endpoint(client, endpoint),
        Call::History(history) => history::history(client, &history),
        Call::Revision(revision) => history::revision(client, &revision),
        Call::Restore(restore) => history::restore(client, &restore),
        Call::Events(events) => history::events(client, &events),
        Call::Config(config) => files::config(client, config),
        Call::Apply(apply) => files::apply(client, &apply),
        Call::Drift(drift) => files::drift(client, &drift),
        Call::Explain(explain) => explain::explain(client, explain),
        Call::Upgrade(upgrade) => upgrade::upgrade(client, upgrade),
        Call::Health(health) => self::health(client, &health),
    }
}

fn status(client: &Client, status: &Status) -> Result<(), Failure> {
    let read = || {
        let status = client.read("/v1/status")?;
        client.expect(status["generation"].is_u64() && status["splits"].is_array())?;
        Ok(status)
    };
    if status.watch {
        return watch::watch(client.json, status.interval, read, output::status);
    }
    output::print(client.json, &read()?, output::status)
}

fn health(client: &Client, health: &Health) -> Result<(), Failure> {
    let (path, member) = if health.live { ("/livez", "alive") } else { ("/readyz", "ready") };
    let answer = client.send(client::Call { within: health.timeout, ..client::Call::get(path) })?;
    let well = answer.status == 200;
    client.expect(answer.body[member] == json!(well))?;
    output::print(client.json, &answer.body, |_| format!("{}\n", if well { "ok" } else { "not ok" }))?;
    match (well, health.live) {
        (true, _) => Ok(()),
        (false, true) => Err(Failure::Failed("the instance does not work".into())),
        (false, false) => Err(Failure::Failed("the instance is not ready".into())),
    }
}

/// A name as one segment of a path.
pub fn encode(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'~')
            || (byte == b'.' && name.len() > 2)
        {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String can't fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_t_leave_its_segment() {
        assert_eq!(encode("shop_eu-1.2"), "shop_eu-1.2");
        assert_eq!(encode("../a?b"), "..%2Fa%3Fb");
        assert_eq!(encode(".."), "%2E%2E");
    }
}
