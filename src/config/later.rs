//! Keys of features that this version does not have. They are refused by name: a file written for a later
//! version must not run with half of what it says.

use super::pointer::Pointer;

/// The keys, as paths in which `*` stands for any name or number, and what they would turn on.
const KEYS: &[(&str, &str)] = &[
    ("/rollout", "rollouts"),
    ("/flag", "feature flags"),
    ("/fleet", "running as a fleet"),
    ("/traces", "traces"),
    ("/listener/*/http2", "HTTP/2"),
    ("/listener/*/proxy_protocol", "the PROXY protocol"),
    ("/pool/*/tls", "TLS"),
    ("/pool/*/http2", "HTTP/2"),
    ("/split/*/rollout", "rollouts"),
    ("/route/*/mirror", "mirroring"),
    ("/route/*/hold", "holding requests"),
    ("/route/*/rollout", "rollouts"),
    ("/route/*/flag", "feature flags"),
];

/// The feature that a key belongs to, if it is one of a later version.
pub(super) fn feature_of_key(at: &Pointer<'_>) -> Option<&'static str> {
    let at = at.to_string();
    KEYS.iter().find(|(pattern, _)| covers(pattern, &at)).map(|(_, feature)| *feature)
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
        assert!(covers("/pool/*/tls", "/pool/blue/tls"));
        assert!(!covers("/pool/*/tls", "/pool/tls"));
        assert!(!covers("/pool/*/tls", "/pool/blue/tls/ca"));
        let root = Pointer::Root;
        assert_eq!(feature_of_key(&root.key("rollout")), Some("rollouts"));
        assert_eq!(feature_of_key(&root.key("rollouts")), None);
    }
}
