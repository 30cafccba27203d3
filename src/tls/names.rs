//! Which certificates have a name.
//!
//! Invariant: a name that stands in a certificate itself goes before a wildcard, whatever the order of the file; and a wildcard
//! stands for one label, the leftmost (RFC 6125 6.4.3).

use std::collections::HashMap;

/// The certificates of a listener by their names: each is an index into its list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what follows the `*.`.
    wild: HashMap<Box<str>, Vec<usize>>,
    /// Those for no name and for an unknown one.
    default: Vec<usize>,
}

impl Names {
    /// Of the certificates' names, in the file's order.
    pub(super) fn of<'a>(certificates: impl Iterator<Item = &'a [String]> + Clone) -> Self {
        let mut names = Self::default();
        for (index, of_one) in certificates.clone().enumerate() {
            for name in of_one {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut names.wild, rest),
                    None => (&mut names.exact, &**name),
                };
                let group = map.entry(name.into()).or_default();
                if !group.contains(&index) {
                    group.push(index);
                }
            }
        }
        // The first one, with those that stand beside it for the same name with a key of another kind.
        names.default = vec![0];
        if let Some(first) = certificates.clone().next().and_then(<[_]>::first) {
            let beside = certificates.enumerate().skip(1).filter(|(_, others)| others.contains(first));
            names.default.extend(beside.map(|(index, _)| index));
        }
        names
    }

    /// The certificates that have a name, which is in lower case.
    pub(super) fn find(&self, name: &str) -> Option<&[usize]> {
        let wild = || self.wild.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(wild).map(Vec::as_slice)
    }

    /// The certificates for a client that asks for a name, or for none.
    pub(super) fn select(&self, name: Option<&str>) -> &[usize] {
        name.and_then(|name| self.find(name)).unwrap_or(&self.default)
    }

    /// Whether a host has certificates of its own, and none of them is among those that a client who asked for `name` was
    /// shown.
    pub(super) fn is_of_others(&self, host: &str, name: &str) -> bool {
        let shown = self.select(Some(name));
        self.find(host).is_some_and(|own| !own.iter().any(|index| shown.contains(index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(certificates: &[&[&str]]) -> Names {
        let owned: Vec<Vec<String>> =
            certificates.iter().map(|names| names.iter().map(|name| (*name).to_owned()).collect()).collect();
        Names::of(owned.iter().map(Vec::as_slice))
    }

    #[test]
    fn a_name_goes_before_a_wildcard_and_a_wildcard_stands_for_one_label() {
        let names =
            names(&[&["*.a.example", "a.example"], &["www.a.example"], &["www.a.example", "b.example"]]);
        for (name, found) in [
            (Some("a.example"), &[0][..]),
            (Some("www.a.example"), &[1, 2]),
            (Some("x.a.example"), &[0]),
            (Some("x.y.a.example"), &[0]),
            (Some("b.example"), &[2]),
            (Some("unknown.example"), &[0]),
            (None, &[0]),
        ] {
            assert_eq!(names.select(name), found, "{name:?}");
        }
        assert_eq!(names.find("x.y.a.example"), None, "it is the default that it gets");
        assert_eq!(names.find("localhost"), None);
    }

    #[test]
    fn certificates_of_two_kinds_for_one_name_stand_side_by_side_as_the_default_too() {
        let names = names(&[&["a.example"], &["b.example"], &["b.example", "a.example"], &[]]);
        assert_eq!(names.select(None), [0, 2]);
        assert_eq!(Names::of([&[][..], &[]].into_iter()).select(None), [0]);
    }

    #[test]
    fn a_host_is_of_others_only_if_it_has_a_certificate_and_not_the_one_that_was_shown() {
        let names = names(&[&["a.example", "www.a.example"], &["b.example"], &["*.c.example"]]);
        for (host, name, is_of_others) in [
            ("a.example", "a.example", false),
            ("www.a.example", "a.example", false),
            ("b.example", "a.example", true),
            ("b.example", "unknown", true),
            ("a.example", "unknown", false),
            ("nobodys.example", "b.example", false),
            ("x.c.example", "y.c.example", false),
            ("a.example", "y.c.example", true),
        ] {
            assert_eq!(names.is_of_others(host, name), is_of_others, "{host} {name}");
        }
    }
}
