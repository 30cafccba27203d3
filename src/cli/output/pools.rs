//! What people are shown of changes of endpoints and pools, and of drains.

use serde_json::{Value, json};

use super::text;

/// A change of an endpoint, or of a pool's drain, in words.
pub fn pool_change(answer: &Value) -> String {
    let subject = match answer["address"].as_str() {
        Some(address) => format!("{} of pool {}", address, text(&answer["pool"])),
        None => format!("pool {}", text(&answer["pool"])),
    };
    let now =
        if answer["address"].is_null() { pool_state(&answer["drain"]) } else { state(&answer["endpoint"]) };
    let mut words = match (answer["changed"] == json!(true), answer["dry_run"] == json!(true)) {
        (true, false) => format!("{subject} {now}, revision {}\n", answer["revision"]),
        (true, true) => format!("{subject} then {now}\n"),
        (false, _) => format!("{subject}: nothing to change, it {now}\n"),
    };
    if answer["drained"] == json!(true) {
        words.push_str("nothing is in flight there\n");
    }
    words.push_str(&cut(&answer["cut"]));
    words
}

/// What is left of a drain, in one line. `pool` is the pool as the admin API shows it.
pub fn progress(pool: &Value, address: Option<&str>) -> String {
    let endpoints = pool["endpoints"].as_array().into_iter().flatten();
    let of = endpoints.filter(|endpoint| address.is_none_or(|address| endpoint["address"] == json!(address)));
    let (mut in_flight, mut streams, mut seconds) = (0, 0, 0.0_f64);
    for endpoint in of {
        in_flight += endpoint["in_flight"].as_u64().unwrap_or_default();
        streams += endpoint["streams"].as_u64().unwrap_or_default();
        seconds = seconds.max(endpoint["drain"]["seconds_left"].as_f64().unwrap_or_default());
    }
    format!("{in_flight} in flight, {streams} of them streams, {seconds:.0} s left at most")
}

/// What an endpoint does now.
fn state(endpoint: &Value) -> String {
    let weight = &endpoint["weight"];
    match (endpoint.is_null(), endpoint["leaving"] == json!(true), endpoint["drain"].is_null()) {
        (true, ..) => "is removed".to_owned(),
        (_, true, _) => format!("drains and is then removed{}", terms(&endpoint["drain"])),
        (_, _, false) => format!("drains (weight {weight}){}", terms(&endpoint["drain"])),
        // Only probes know whether it does already.
        _ if endpoint["probed"] == json!(true) => {
            format!("takes traffic as long as its probes are good (weight {weight})")
        }
        _ => format!("takes traffic (weight {weight})"),
    }
}

fn pool_state(drain: &Value) -> String {
    if drain.is_null() { "takes traffic".to_owned() } else { format!("drains{}", terms(drain)) }
}

fn terms(drain: &Value) -> String {
    let [deadline, streams, pins] = ["deadline", "stream_deadline", "pins"].map(|term| text(&drain[term]));
    format!(": deadline {deadline}, streams {streams}, pins {pins}")
}

/// What was cut, if anything.
fn cut(cut: &Value) -> String {
    let counted =
        ["requests", "tunnels", "event_streams"].map(|kind| (kind, cut[kind].as_u64().unwrap_or(0)));
    let counted: Vec<_> = counted
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {}", kind.replace('_', " ")))
        .collect();
    if counted.is_empty() { String::new() } else { format!("cut at the deadline: {}\n", counted.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_said_with_its_terms_and_with_what_it_cut() {
        let drain = json!({"since": "", "deadline": "30s", "stream_deadline": "5m", "pins": "move"});
        let mut answer = json!({
            "revision": 3, "changed": true, "dry_run": false, "pool": "blue", "address": "127.0.0.1:9001",
            "endpoint": {"weight": 1, "drain": drain, "leaving": false},
        });
        let said = pool_change(&answer);
        assert_eq!(
            said,
            "127.0.0.1:9001 of pool blue drains (weight 1): deadline 30s, streams 5m, pins move, revision 3\n"
        );
        answer["drained"] = json!(true);
        answer["cut"] = json!({"requests": 2, "tunnels": 0, "event_streams": 1});
        assert!(pool_change(&answer).ends_with("there\ncut at the deadline: 2 requests, 1 event streams\n"));
        answer = json!({"changed": false, "pool": "blue", "drain": null});
        assert_eq!(pool_change(&answer), "pool blue: nothing to change, it takes traffic\n");
    }

    #[test]
    fn of_an_endpoint_that_is_probed_no_more_is_said_than_is_known() {
        let mut answer = json!({
            "revision": 3, "changed": true, "dry_run": false, "pool": "blue", "address": "127.0.0.1:9001",
            "endpoint": {"weight": 1, "drain": null, "leaving": false, "probed": false},
        });
        assert_eq!(
            pool_change(&answer),
            "127.0.0.1:9001 of pool blue takes traffic (weight 1), revision 3\n"
        );
        answer["endpoint"]["probed"] = json!(true);
        let expected = "127.0.0.1:9001 of pool blue takes traffic as long as its probes are good (weight 1), revision 3\n";
        assert_eq!(pool_change(&answer), expected);
    }

    #[test]
    fn progress_counts_the_endpoint_that_is_meant() {
        let endpoint =
            |address: &str, in_flight: u64| json!({"address": address, "in_flight": in_flight, "streams": 1});
        let pool = json!({"endpoints": [endpoint("a:1", 2), endpoint("b:1", 3)]});
        assert!(progress(&pool, Some("b:1")).starts_with("3 in flight, 1 of"));
        assert!(progress(&pool, None).starts_with("5 in flight, 2 of"));
    }
}
