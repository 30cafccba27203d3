//! Reads the JSON body of a call: bounded in size and time, with every fault of it named by a JSON pointer.

use std::{fmt, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, HeaderName, Request, StatusCode, header},
};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{
    problem::{Fault, Problem, pointer_to},
    strict::Strict,
};
use crate::model::weights::Weights;

/// The largest body.
pub const MAX_BYTES: usize = 1 << 20;
/// How long a client may take to send it.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// What a weight may be.
pub(super) const WEIGHTS_ALLOWED: &str = "a whole number from 0 to 1000000";

/// The media type of a merge patch (RFC 7396).
pub const MERGE_PATCH: &str = "application/merge-patch+json";

/// The media type of a configuration file.
pub const TOML: &str = "application/toml";

/// What a body is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `application/json`.
    Json,
    /// [`MERGE_PATCH`].
    MergePatch,
    /// [`TOML`], which stands for an object with the member `text`; or that object as JSON.
    Toml,
}

/// The members of a JSON object, in order, with repeated ones kept, so that each can be refused by its name.
#[derive(Debug, Default)]
pub struct Object(Vec<(String, Value)>);

/// Reads a body that holds one JSON object.
pub async fn object(request: Request<Body>) -> Result<Object, Problem> {
    needed(read(request, Media::Json).await?.1)
}

/// Refuses an empty body.
pub fn needed(object: Option<Object>) -> Result<Object, Problem> {
    object.ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "no-body", "A body is needed", "the call takes a JSON object")
            .with_faults(vec![Fault::at("", "the body is empty")])
    })
}

/// Reads a body that may be empty: its bytes, and the object that they are.
pub async fn read(request: Request<Body>, media: Media) -> Result<(Bytes, Option<Object>), Problem> {
    let (head, body) = request.into_parts();
    let bytes = bytes(body).await?;
    if bytes.is_empty() {
        return Ok((bytes, None));
    }
    if media == Media::Toml && is_of(&head.headers, Media::Toml) {
        let text = String::from_utf8(bytes.to_vec()).map_err(|_| {
            Problem::invalid(vec![Fault::at("", "the body is not UTF-8, which is what TOML is in")])
        })?;
        return Ok((bytes, Some(Object(vec![("text".into(), Value::String(text))]))));
    }
    let media = if media == Media::Toml { Media::Json } else { media };
    if !is_of(&head.headers, media) {
        return Err(media.missing());
    }
    match serde_json::from_slice::<Object>(&bytes) {
        Ok(object) => Ok((bytes, Some(object))),
        Err(error) if error.is_data() => Err(Problem::invalid(vec![Fault::at("", error.to_string())])),
        Err(error) => {
            let detail = format!("the body is not valid JSON: {error}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "malformed-json", "Malformed JSON", detail.clone())
                .with_faults(vec![Fault::at("", detail)]))
        }
    }
}

async fn bytes(body: Body) -> Result<Bytes, Problem> {
    // What announces too much is refused before it is read.
    if body.size_hint().lower() > MAX_BYTES as u64 {
        return Err(too_large());
    }
    let read = tokio::time::timeout(READ_WITHIN, axum::body::to_bytes(body, MAX_BYTES)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_over_limit(&error) => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "body-cut",
            "The body is cut",
            "the body ended before its announced end",
        )),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-too-slow",
            "The body is too slow",
            format!("a body is to arrive within {} s", READ_WITHIN.as_secs()),
        )),
    }
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body-too-large",
        "The body is too large",
        format!("a body has at most {MAX_BYTES} bytes"),
    )
}

fn is_over_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Media {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MergePatch => MERGE_PATCH,
            Self::Toml => TOML,
        }
    }

    fn missing(self) -> Problem {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let detail = format!("send the body with Content-Type: {}", self.name());
        match self {
            Self::Json => Problem::new(status, "not-json", "The body is not JSON", detail),
            // RFC 5789 2.2 has the field say what a patch may be.
            Self::MergePatch => Problem::new(status, "not-merge-patch", "The body is no merge patch", detail)
                .with_header(HeaderName::from_static("accept-patch"), MERGE_PATCH),
            Self::Toml => Problem::new(status, "not-toml", "The body is not TOML", detail),
        }
    }
}

/// Whether the one `Content-Type` is what it has to be, in UTF-8, which is what JSON is in (RFC 8259 8.1).
fn is_of(headers: &HeaderMap, media: Media) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let Ok(text) = only.to_str() else { return false };
    text.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(media.name()))
}

impl Object {
    /// Takes the members of the `allowed` names and refuses the others and repeated ones by name.
    pub fn members<const N: usize>(self, allowed: [&str; N]) -> Result<[Option<Value>; N], Problem> {
        let mut values = [const { None }; N];
        let mut faults = Vec::new();
        for (name, value) in self.0 {
            match allowed.iter().position(|allowed| *allowed == name) {
                None => faults.push(Fault::at(pointer_to(&name), "there is no such field").allowing(allowed)),
                Some(place) if values[place].is_some() => {
                    faults.push(Fault::at(pointer_to(&name), "the field is named twice"));
                }
                Some(place) => values[place] = Some(value),
            }
        }
        refuse_any(faults)?;
        Ok(values)
    }

    /// Takes out the first member of a name, if it is a text.
    pub fn take_text(&mut self, name: &str) -> Option<Value> {
        let place = self.0.iter().position(|(of, value)| of == name && value.is_string())?;
        Some(self.0.remove(place).1)
    }

    /// All members as weights; which pools and weights are allowed is the split's matter.
    pub fn weights(self) -> Result<Vec<(String, u64)>, Problem> {
        if self.0.len() > Weights::MAX_POOLS {
            let detail =
                format!("{} weights are named: a split has at most {}", self.0.len(), Weights::MAX_POOLS);
            return Err(Problem::invalid(vec![Fault::at("", detail)]));
        }
        let mut faults = Vec::new();
        let mut weights = Vec::with_capacity(self.0.len());
        for (pool, value) in self.0 {
            match value.as_u64() {
                Some(weight) => weights.push((pool, weight)),
                None => faults.push(
                    Fault::at(
                        pointer_to(&pool),
                        format!("the weight {} is not a whole number", short(&value)),
                    )
                    .allowing([WEIGHTS_ALLOWED]),
                ),
            }
        }
        refuse_any(faults)?;
        Ok(weights)
    }
}

/// Refuses, if there is anything to refuse.
pub fn refuse_any(faults: Vec<Fault>) -> Result<(), Problem> {
    if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(faults)) }
}

/// A value for an error message, which must not repeat a megabyte back.
pub fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some((name, Strict(value))) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_json_with_any_parameter_and_nothing_else() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            headers
        };
        let is_json = |headers: &HeaderMap| is_of(headers, Media::Json);
        for good in ["application/json", "Application/JSON; charset=utf-8"] {
            assert!(is_json(&with(good)), "{good}");
        }
        assert!(is_of(&with(MERGE_PATCH), Media::MergePatch) && !is_json(&with(MERGE_PATCH)));
        assert!(!is_of(&with("application/json"), Media::MergePatch));
        for bad in ["text/plain", "application/jsonp", "text/json", "", "application/x-www-form-urlencoded"] {
            assert!(!is_json(&with(bad)), "{bad}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
