//! Changes, and what guards them: a change can be made only if nobody else has touched what it changes.
//!
//! Invariant: a change that was refused because somebody else was there first is not tried again. Whether it is still
//! right can only be told by who wanted it.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::{
    super::{Failure, arguments::connection::Intent, output},
    ANSWER_WITHIN, Answer, Call, Client,
};

/// A change that is asked for.
#[derive(Debug)]
pub struct Change<'a> {
    /// The method of the call.
    pub method: Method,
    /// Its path, and its query without `dry_run`.
    pub path: String,
    /// The path of what it changes, where its tag is read.
    pub object: String,
    /// The body.
    pub body: Option<Value>,
    /// On which terms, and why.
    pub intent: &'a Intent,
    /// How long the answer may take.
    pub within: Duration,
}

impl<'a> Change<'a> {
    /// A change without a body, which is answered soon.
    pub fn new(method: Method, path: String, object: String, intent: &'a Intent) -> Self {
        Self { method, path, object, body: None, intent, within: ANSWER_WITHIN }
    }
}

impl Client {
    /// Makes a change, or says what it would do, and answers what came of it, with the tag of what was changed as `etag`.
    pub fn change(&self, change: &Change<'_>) -> Result<Value, Failure> {
        let Intent { if_revision, if_match, .. } = change.intent;
        let mut condition = if_match.clone();
        if let Some(revision) = *if_revision {
            condition = Some(self.untouched_since(&change.object, revision)?);
        }
        let mut answer = self.attempt(change, condition.as_deref())?;
        if answer.status == 428 && condition.is_none() {
            // This instance takes no change without If-Match. What is read now is what the change is made on.
            let seen = self.get(&change.object)?;
            answer = match seen.etag {
                Some(tag) if seen.status == 200 => self.attempt(change, Some(&tag))?,
                _ => seen,
            };
        }
        if answer.status == 412 {
            return Err(self.moved(answer.body));
        }
        let etag = answer.etag.take();
        let mut body = self.success(answer)?;
        if let (Some(etag), Some(members)) = (etag, body.as_object_mut()) {
            members.insert("etag".to_owned(), json!(etag));
        }
        Ok(body)
    }

    fn attempt(&self, change: &Change<'_>, condition: Option<&str>) -> Result<Answer, Failure> {
        let Change { method, path, body, intent, within, .. } = change;
        let path = match (intent.dry_run, path.contains('?')) {
            (false, _) => path.clone(),
            (true, false) => format!("{path}?dry_run=true"),
            (true, true) => format!("{path}&dry_run=true"),
        };
        let mut fields = Vec::new();
        fields.extend(intent.reason.clone().map(|reason| ("x-reason", reason)));
        fields.extend(condition.map(|tag| ("if-match", tag.to_owned())));
        self.send(Call { method: method.clone(), path: &path, body: body.clone(), within: *within, fields })
    }

    /// The tag of an object that no revision after this one has touched.
    fn untouched_since(&self, object: &str, revision: u64) -> Result<String, Failure> {
        let newest = self.read("/v1/revisions?limit=1")?["revisions"][0]["revision"].as_u64().unwrap_or(0);
        if revision > newest {
            return Err(Failure::Failed(format!(
                "there is no revision {revision} yet: the newest is {newest} (without a [state] path, numbers begin \
                 anew with each start)"
            )));
        }
        let seen = self.get(object)?;
        let tag = seen.etag.clone();
        self.success(seen)?;
        let touched = tag.as_deref().and_then(revision_of);
        self.expect(touched.is_some())?;
        match (tag, touched) {
            (Some(tag), Some(touched)) if touched <= revision => Ok(tag),
            _ => {
                let detail = format!("it was touched after revision {revision}: nothing was changed");
                Err(self.moved(json!({
                    "type": "urn:switchback:problem:moved", "title": "It has moved", "status": 412,
                    "detail": detail, "current": { "revision": touched },
                })))
            }
        }
    }

    /// Says who was there first, as far as the history tells.
    fn moved(&self, mut problem: Value) -> Failure {
        let mut words = output::problem(412, &problem);
        let current = problem["current"].clone();
        if let Some(weights) = current["weights"].as_object() {
            words.push_str(&format!("\n  in force now: {}", output::pairs(&json!(weights))));
        }
        let revision =
            current["revision"].as_u64().map(|number| self.get(&format!("/v1/revisions/{number}")));
        if let Some(Ok(Answer { status: 200, body: revision, .. })) = revision {
            words.push_str(&format!("\n  {}", output::revision_line(&revision)));
            let lines = revision["text"].as_array().into_iter().flatten();
            lines.for_each(|line| words.push_str(&format!("\n    {}", output::text(line))));
            if let Some(members) = problem.as_object_mut() {
                let told = ["revision", "kind", "origin", "who", "reason", "at", "text"];
                let told = told.into_iter().filter(|member| !revision[member].is_null());
                let told = told.map(|member| (member.to_owned(), revision[member].clone()));
                members.insert("moved_by".to_owned(), Value::Object(told.collect()));
            }
        }
        words.push_str("\nLook at it (switchback status, switchback history), and repeat the command if it is still right.");
        Failure::Refused { words, problem }
    }
}

/// The revision in a tag: `"r12"`, or `"r12-9f0c33a1"` where numbers begin anew with each start.
fn revision_of(tag: &str) -> Option<u64> {
    let bare = tag.strip_prefix("\"r")?.strip_suffix('"')?;
    bare.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_its_revision() {
        assert_eq!(revision_of("\"r12\""), Some(12));
        assert_eq!(revision_of("\"r12-9f0c33a1\""), Some(12));
        for other in ["r12", "\"12\"", "\"r\"", "\"rx\"", "W/\"r1\"", "\""] {
            assert_eq!(revision_of(other), None, "{other}");
        }
    }
}
