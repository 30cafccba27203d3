//! Keys and values of features that this version does not have. They are refused by name: a file written for a later
//! version must not run with half of what it says.

use super::pointer::Pointer;

/// The keys, as paths in which `*` stands for any name or number, and what they would turn on.
const KEYS: &[(&str, &str)] = &[
    ("/health", "a second address for probes and metrics"),
    ("/rollout", "rollouts"),
    ("/flag", "feature flags"),
    ("/fleet", "running as a fleet"),
    ("/traces", "traces"),
    ("/admin/tokens", "authentication of the admin API"),
    ("/admin/tls", "TLS"),
    ("/listener/*/tls", "TLS"),
    ("/listener/*/http2", "HTTP/2"),
    ("/listener/*/proxy_protocol", "the PROXY protocol"),
    ("/pool/*/health", "health checks"),
    ("/pool/*/eject", "passive ejection of endpoints"),
    ("/pool/*/slow_start", "slow start"),
    ("/pool/*/tls", "TLS"),
    ("/pool/*/http2", "HTTP/2"),
    ("/pool/*/max_connections", "caps on upstream connections"),
    ("/split/*/sticky", "pins"),
    ("/split/*/rollout", "rollouts"),
    ("/route/*/mirror", "mirroring"),
    ("/route/*/hold", "holding requests"),
    ("/route/*/rollout", "rollouts"),
    ("/route/*/flag", "feature flags"),
];

/// Values of known keys, likewise.
const VALUES: &[(&str, &str, &str)] = &[("/pool/*/balance", "hash", "balancing by a hash")];

/// The feature that a key belongs to, if it is one of a later version.
pub(super) fn feature_of_key(at: &Pointer<'_>) -> Option<&'static str> {
    let at = at.to_string();
    KEYS.iter().find(|(pattern, _)| covers(pattern, &at)).map(|(_, feature)| *feature)
}

/// The feature that a key's value belongs to, if it is one of a later version.
pub(super) fn feature_of_value(at: &Pointer<'_>, value: &str) -> Option<&'static str> {
    let at = at.to_string();
    let mut rows = VALUES.iter();
    rows.find(|(pattern, of, _)| *of == value && covers(pattern, &at)).map(|(_, _, feature)| *feature)
}

fn covers(pattern: &str, at: &str) -> bool {
    let mut steps = at.split('/');
    pattern.split('/').all(|part| steps.next().is_some_and(|step| part == "*" || part == step))
        && steps.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_step() {
        assert!(covers("/pool/*/health", "/pool/blue/health"));
        assert!(!covers("/pool/*/health", "/pool/health"));
        assert!(!covers("/pool/*/health", "/pool/blue/health/http"));
        let root = Pointer::Root;
        assert_eq!(feature_of_key(&root.key("rollout")), Some("rollouts"));
        assert_eq!(feature_of_key(&root.key("rollouts")), None);
    }
}
