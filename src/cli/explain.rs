//! `explain`: where a request would go.

use serde_json::{Map, Value, json};

use super::{
    Failure,
    arguments::reading::Explain,
    client::{Call, Client},
    output,
};

/// Asks where a request would go, and prints the answer.
pub fn explain(client: &Client, explain: Explain) -> Result<(), Failure> {
    let Explain { url, headers, method, connection: _ } = explain;
    let body = imagined(&url, headers, &method)?;
    let explanation = client.success(client.send(Call::post("/v1/explain", body))?)?;
    client.expect(explanation["outcome"].is_string())?;
    output::print(client.json, &explanation, output::explanation)
}

/// What `explain` is asked about.
fn imagined(url: &str, headers: Vec<(String, String)>, method: &str) -> Result<Value, Failure> {
    let wrong = || Failure::Usage(format!("{url:?} is not a URL such as http://shop.example.com/cart"));
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let scheme = scheme.to_ascii_lowercase();
    let rest = rest.split('#').next().unwrap_or_default();
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    if host.is_empty() {
        return Err(wrong());
    }
    if host.contains('@') {
        return Err(Failure::Usage(
            "the URL holds a user name: clients send it as a field, so write it as -H 'Authorization: Basic ...'".into(),
        ));
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut fields = Map::new();
    for (name, value) in headers {
        let lines = fields.entry(name.to_ascii_lowercase()).or_insert_with(|| json!([]));
        lines.as_array_mut().expect("each was made a list above").push(json!(value));
    }
    // A Host header takes the place of the URL's host, as it does for curl; a second one is left to be refused.
    let host = match fields.remove("host") {
        Some(Value::Array(mut lines)) if lines.len() == 1 => lines.remove(0),
        Some(several) => {
            fields.insert("host".into(), several);
            json!(host)
        }
        None => json!(host),
    };
    Ok(json!({ "method": method, "scheme": scheme, "host": host, "path": path, "headers": fields }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_as_a_client_would() {
        let of = |url: &str| {
            let body =
                imagined(url, vec![("A".into(), "1".into()), ("a".into(), "2".into())], "GET").unwrap();
            assert_eq!(body["headers"], json!({"a": ["1", "2"]}));
            [&body["scheme"], &body["host"], &body["path"]].map(|part| part.as_str().unwrap().to_owned())
        };
        assert_eq!(of("http://a.b:80/c?d#e"), ["http", "a.b:80", "/c?d"]);
        assert_eq!(of("HTTPS://a.b"), ["https", "a.b", "/"]);
        assert!(imagined("https://u:p@a.b/", Vec::new(), "GET").is_err());
        assert_eq!(of("http://a.b?c"), ["http", "a.b", "/?c"]);
        assert!(imagined("/x", Vec::new(), "GET").is_err());
        let named = imagined("http://1.2.3.4/", vec![("Host".into(), "a.b".into())], "GET").unwrap();
        assert_eq!(named["host"], json!("a.b"));
    }
}
