//! Reads what a call says in its URL: the name in its path, and its query. A parameter that the call does not know is refused by name: a mistyped `dry_run`
//! must not become a change.

use std::time::Duration;

use axum::{
    extract::{FromRequestParts, Path},
    http::{StatusCode, Uri, request::Parts},
};

use serde::de::DeserializeOwned;

use super::problem::{Fault, Problem};

/// How long a wait lasts unless the call says otherwise.
pub const WAIT: Duration = Duration::from_secs(30);
/// The longest wait that a call may ask for.
pub const MAX_WAIT: Duration = Duration::from_secs(600);

/// The name in a call's path, or the names.
#[derive(Debug)]
pub struct Named<T = String>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(name) = Path::from_request_parts(parts, state).await.map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid-path", "The path is not valid", error.body_text())
        })?;
        Ok(Self(name))
    }
}

/// The query of a call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeQuery {
    /// Say what would change, and change nothing.
    pub dry_run: bool,
    /// Wait until nothing is in flight where no new traffic comes any more.
    pub wait: bool,
    /// How long to wait at most, if the call says so.
    pub timeout: Option<Duration>,
}

impl ChangeQuery {
    /// Reads it; `waiting` says whether the call knows `wait` and `timeout`.
    pub fn parse(uri: &Uri, waiting: bool) -> Result<Self, Problem> {
        let known: &[&str] = if waiting { &["dry_run", "wait", "timeout"] } else { &["dry_run"] };
        let mut values: [Option<String>; 3] = [const { None }; 3];
        let mut faults = Vec::new();
        for (name, value) in pairs(uri)? {
            match known.iter().position(|known| *known == name) {
                None => faults.push(Fault::parameter(name, "there is no such parameter").allowing(known)),
                Some(place) if values[place].is_some() => {
                    faults.push(Fault::parameter(name, "the parameter is given twice"));
                }
                Some(place) => values[place] = Some(value),
            }
        }
        let [dry_run, wait, timeout] = values;
        let dry_run = one_of(
            "dry_run",
            dry_run.as_deref(),
            &[("true", true), ("", true), ("false", false)],
            &mut faults,
        );
        let wait = one_of("wait", wait.as_deref(), &[("drained", true)], &mut faults);
        let timeout = timeout.as_deref().map(|text| bounded(text, &mut faults));
        if timeout.is_some() && !wait && faults.is_empty() {
            faults.push(Fault::parameter("timeout", "timeout needs wait=drained"));
        }
        if faults.is_empty() {
            Ok(Self { dry_run, wait, timeout })
        } else {
            Err(Problem::invalid_query(faults))
        }
    }
}

/// Refuses any query, for the calls that take none.
pub fn none(uri: &Uri) -> Result<(), Problem> {
    let faults: Vec<_> = pairs(uri)?
        .into_iter()
        .map(|(name, _)| Fault::parameter(name, "the call takes no parameters"))
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(Problem::invalid_query(faults)) }
}

/// Reads a query of numbers.
pub fn numbers<const N: usize>(uri: &Uri, known: [&str; N]) -> Result<[Option<u64>; N], Problem> {
    let mut values = [None; N];
    let mut faults = Vec::new();
    for (name, value) in pairs(uri)? {
        let Some(place) = known.iter().position(|known| *known == name) else {
            faults.push(Fault::parameter(name, "there is no such parameter").allowing(known));
            continue;
        };
        let number = value.parse().ok().filter(|_| value.bytes().all(|byte| byte.is_ascii_digit()));
        if values[place].is_some() {
            faults.push(Fault::parameter(name, "the parameter is given twice"));
        } else if number.is_none() {
            faults.push(Fault::parameter(name, "the value is not a whole number"));
        }
        values[place] = number.or(Some(0));
    }
    if faults.is_empty() { Ok(values) } else { Err(Problem::invalid_query(faults)) }
}

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    axum::extract::Query::try_from_uri(uri)
        .map(|axum::extract::Query(pairs)| pairs)
        .map_err(|error| Problem::invalid_query(vec![Fault::parameter("", error.to_string())]))
}

fn one_of(name: &str, value: Option<&str>, meanings: &[(&str, bool)], faults: &mut Vec<Fault>) -> bool {
    let Some(value) = value else { return false };
    if let Some((_, meaning)) = meanings.iter().find(|(text, _)| *text == value) {
        return *meaning;
    }
    let allowed = meanings.iter().map(|(text, _)| *text).filter(|text| !text.is_empty());
    faults.push(Fault::parameter(name, "the value is not one of those allowed").allowing(allowed));
    false
}

fn bounded(text: &str, faults: &mut Vec<Fault>) -> Duration {
    match humantime::parse_duration(text) {
        Ok(limit) if limit <= MAX_WAIT => return limit,
        _ => faults.push(
            Fault::parameter("timeout", "the value is not a duration such as 30s, or it is over ten minutes")
                .allowing(["0s to 10m"]),
        ),
    }
    WAIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_read_and_all_else_is_refused() {
        let parse = |query: &str| ChangeQuery::parse(&format!("/x{query}").parse().unwrap(), true);
        let plain = ChangeQuery { dry_run: false, wait: false, timeout: None };
        let waits = |timeout| ChangeQuery { wait: true, timeout, ..plain };
        assert_eq!(parse("").unwrap(), plain);
        assert_eq!(parse("?dry_run=false").unwrap(), plain);
        assert_eq!(parse("?dry_run=true").unwrap(), ChangeQuery { dry_run: true, ..plain });
        assert_eq!(parse("?wait=drained").unwrap(), waits(None));
        assert_eq!(parse("?wait=drained&timeout=2m").unwrap(), waits(Some(Duration::from_secs(120))));
        for bad in [
            "?dryrun=true",
            "?dry_run=yes",
            "?dry_run=true&dry_run=false",
            "?wait=true",
            "?timeout=3s",
            "?wait=drained&timeout=11m",
            "?wait=drained&timeout=-1s",
            "?wait=drained&timeout=3",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(ChangeQuery::parse(&"/x?wait=drained".parse().unwrap(), false).is_err());
        assert!(none(&"/x?a=1".parse().unwrap()).is_err());
        let two = |query: &str| numbers(&format!("/x{query}").parse().unwrap(), ["before", "limit"]);
        assert_eq!(two("").unwrap(), [None, None]);
        assert_eq!(two("?limit=2&before=17").unwrap(), [Some(17), Some(2)]);
        for bad in ["?limit=-1", "?limit=%2B1", "?limit=", "?limit=x", "?after=1", "?limit=1&limit=1"] {
            assert!(two(bad).is_err(), "{bad}");
        }
    }
}
