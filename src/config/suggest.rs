//! "Did you mean": the known word nearest to an unknown one.

/// Words that are longer are compared by nobody: the distance costs the product of the lengths.
const MAX_COMPARED: usize = 100;

/// The candidate that was probably meant, if one is near enough.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_COMPARED {
        return None;
    }
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_COMPARED)
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        // A third of the letters may differ; of very short words one.
        .filter(|(distance, candidate)| *distance <= (word.len().max(candidate.len()) / 3).max(1))
        // A word of one letter differs from every other such word by one letter: that is no hint.
        .filter(|(distance, candidate)| *distance < word.len().max(candidate.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean "x"?`, if something is near, else what is allowed, if it can be listed shortly.
pub(super) fn help<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> Option<String> {
    /// More than this is no help to read.
    const MAX_LISTED: usize = 24;
    if let Some(near) = nearest(word, candidates.clone()) {
        return Some(format!("did you mean \"{near}\"?"));
    }
    let listed: Vec<_> = candidates.into_iter().take(MAX_LISTED + 1).collect();
    if listed.is_empty() || listed.len() > MAX_LISTED {
        return None;
    }
    Some(format!("{what}: {}", listed.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_far_fetched() {
        let keys = ["listen", "name", "max_connections", "head_timeout", "x"];
        assert_eq!(nearest("lisen", keys), Some("listen"));
        assert_eq!(nearest("Listen", keys), Some("listen"));
        assert_eq!(nearest("max_conections", keys), Some("max_connections"));
        assert_eq!(nearest("nmae", keys), Some("name"));
        assert_eq!(nearest("certificate", keys), None);
        assert_eq!(nearest("y", keys), None);
        assert_eq!(nearest(&"x".repeat(10_000), keys), None);
    }

    #[test]
    fn lists_what_is_allowed_if_nothing_is_near() {
        assert_eq!(help("zzz", ["blue", "green"], "declared").unwrap(), "declared: blue, green");
        assert_eq!(help("grean", ["blue", "green"], "declared").unwrap(), "did you mean \"green\"?");
        assert_eq!(help("zzz", [], "declared"), None);
    }
}
