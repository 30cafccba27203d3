//! What people are shown of changes of weights, and of what is left in flight after them.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use super::{list, text};

/// A change, in words.
pub fn change(answer: &Value) -> String {
    let split = text(&answer["split"]);
    let mut words = match (answer["changed"] == json!(true), answer["dry_run"] == json!(true)) {
        (true, false) => {
            format!(
                "{split}: {} (was {}), revision {}\n",
                pairs(&answer["weights"]),
                pairs(&answer["previous"]),
                answer["revision"]
            )
        }
        (true, true) => {
            format!("{split} would be {} (is {})\n", pairs(&answer["weights"]), pairs(&answer["previous"]))
        }
        (false, _) => format!("{split}: nothing to change, it is at {}\n", pairs(&answer["weights"])),
    };
    let released: Vec<_> = list(&answer["released"]).map(text).collect();
    if !released.is_empty() {
        let were = if answer["dry_run"] == json!(true) { "would be" } else { "were" };
        let _ = writeln!(words, "pins to {} {were} released", released.join(", "));
    }
    if answer["drained"] == json!(true) {
        words.push_str("nothing is in flight on the other pools\n");
    }
    words
}

/// What is left in flight on the pools that a switch has left, in one line. `pools` are as the admin API shows them.
pub fn progress(pools: &[Value], waited: Duration) -> String {
    let left = pools.iter().filter(|pool| pool["in_flight"] != json!(0));
    let left: Vec<_> = left.map(|pool| format!("{}={}", text(&pool["name"]), pool["in_flight"])).collect();
    let left = if left.is_empty() { "nothing".to_owned() } else { left.join(" ") };
    format!("still in flight: {left}, after {} s", waited.as_secs())
}

/// `blue=90 green=10`.
pub fn pairs(object: &Value) -> String {
    let members = object.as_object().into_iter().flatten();
    members.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_said_in_one_line() {
        let mut answer = json!({
            "split": "shop", "changed": true, "dry_run": false, "revision": 3,
            "weights": {"blue": 90, "green": 10}, "previous": {"blue": 95, "green": 5},
        });
        assert_eq!(change(&answer), "shop: blue=90 green=10 (was blue=95 green=5), revision 3\n");
        answer["dry_run"] = json!(true);
        assert_eq!(change(&answer), "shop would be blue=90 green=10 (is blue=95 green=5)\n");
        answer["changed"] = json!(false);
        assert_eq!(change(&answer), "shop: nothing to change, it is at blue=90 green=10\n");
    }

    #[test]
    fn progress_names_the_pools_that_are_not_idle() {
        let pools = [json!({"name": "blue", "in_flight": 3}), json!({"name": "old", "in_flight": 0})];
        let waited = Duration::from_millis(12_700);
        assert_eq!(progress(&pools, waited), "still in flight: blue=3, after 12 s");
        assert_eq!(progress(&pools[1..], waited), "still in flight: nothing, after 12 s");
    }
}
