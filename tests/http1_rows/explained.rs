//! What `explain` says of the requests of the rows: the status that the socket gets, for the same reason.

use serde_json::{Map, Value, json};

use crate::{
    row::{HOST, Row, get, post},
    support::{Response, Setup, Switchback, Upstream},
};

/// A request as the body of a call of `explain`; `None` if it can't be one: a version other than 1.1, a part that the
/// call does not take, or a body that decides, too.
pub fn question(request: &[u8]) -> Option<Value> {
    let (head, body) = std::str::from_utf8(request).ok()?.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte))
    };
    let is_text = |text: &str| !text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t');
    if version != "HTTP/1.1" || words.next().is_some() || !is_token(method) || !is_text(target) {
        return None;
    }
    let mut headers = Map::new();
    for line in lines {
        let (name, value) = line.split_once(':').filter(|(name, value)| is_token(name) && is_text(value))?;
        let values = headers.entry(name).or_insert_with(|| json!([]));
        values.as_array_mut().expect("made above").push(json!(value));
    }
    let has = |name: &str| headers.keys().any(|key| key.eq_ignore_ascii_case(name));
    let is_plain = body.is_empty() || body == "0\r\n\r\n" || !has("transfer-encoding");
    let mut question = json!({"method": method, "path": target, "headers": headers});
    if !has("host") {
        question["host"] = json!("");
    }
    is_plain.then_some(question)
}

/// Asserts that `explain` gives a request the answer that the socket gave: the same refusal, or that it is forwarded.
/// Answers whether it could be asked.
pub fn agrees(switchback: &Switchback, request: &[u8], answer: &Response) -> bool {
    let Some(question) = question(request) else { return false };
    let response = switchback.admin("POST", "/v1/explain", &question.to_string());
    assert_eq!(response.status, 200, "{question}: {}", response.text());
    let story: Value = serde_json::from_slice(&response.body.bytes).expect("a story in JSON");
    if answer.status < 400 {
        assert_eq!(
            (&story["outcome"], &story["status"]),
            (&json!("forward"), &json!(null)),
            "{question}: {story}"
        );
        return true;
    }
    assert_eq!(story["status"], json!(answer.status), "{question}: {story}");
    assert_eq!(story["outcome"], json!("refused"), "{question}: {story}");
    // An answer to HEAD brings no reason.
    if let Ok(problem) = serde_json::from_slice::<Value>(&answer.body.bytes) {
        let detail = problem["detail"].as_str().expect("a reason");
        let tells = |step: &Value| step.as_str().is_some_and(|step| step.contains(detail));
        assert!(story["steps"].as_array().expect("steps").iter().any(tells), "{detail:?} in {story}");
    }
    true
}

#[test]
fn explain_predicts_what_the_socket_gets() {
    let setup = Setup::new().route("max_body = 10\nupgrades = [\"x-mine\"]");
    let row = Row::with(setup, Upstream::ok());
    let upgrade = |fields: &str| get(&format!("Connection: upgrade\r\nUpgrade: x-mine\r\n{fields}"));
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let refused = [
        (get("Content-Length-: 5\r\n"), 400),
        (get("ContentLength: 5\r\n"), 400),
        (get("Transfer0%Encoding: chunked\r\n"), 400),
        (get("Connection: host\r\n"), 400),
        (get("Connection: close, content-length\r\n"), 400),
        (get("Content-Length: 5\r\nContent-Length: 5\r\n"), 400),
        (get("Content-Length: +5\r\n"), 400),
        (get("Transfer-Encoding: gzip, chunked\r\n"), 400),
        (get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400),
        (get("Expect: 200-ok\r\n"), 417),
        (get("X_Y: z\r\n"), 400),
        (get(&"X: y\r\n".repeat(100)), 431),
        (post("Content-Length: 11\r\n", "01234567890"), 413),
        (post("Content-Length: 18446744073709551615\r\n", ""), 413),
        (upgrade("Content-Length: 5\r\n"), 400),
        (upgrade("Transfer-Encoding: chunked\r\n"), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a.example,b.example\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nhost: a.example\r\n\r\n".to_owned(), 400),
        ("TRACE / HTTP/1.1\r\nHost: a.example\r\n\r\n".to_owned(), 405),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n".to_owned(), 405),
        (target("*"), 400),
        (target("a.example"), 400),
        (target("/#a"), 400),
        (target("/../x"), 400),
        (target("/%00"), 400),
        (target("/a\\b"), 400),
        (target("/%zz"), 400),
        (target("http://b.example/"), 400),
        (target(&format!("/{}", "a".repeat(8192))), 414),
    ];
    let before = row.upstream.total();
    for (request, status) in &refused {
        let mut client = row.client();
        let answer = client.send(request).response(request.split(' ').next().expect("a method"));
        assert_eq!(answer.status, *status, "{request:?}");
        assert!(agrees(&row.switchback, request.as_bytes(), &answer), "{request:?} can't be asked about");
    }
    assert_eq!(row.upstream.total(), before);
    for request in [
        get("Content-Length: 0\r\n"),
        get("content-lengt-: 5\r\n"),
        get("Connection: upgrade\r\nUpgrade: h2c\r\n"),
        get("Upgrade: x-mine\r\n"),
        upgrade("Content-Length: 0\r\n"),
        post("Content-Length: 10\r\n", "0123456789"),
        post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("Expect: 100-continue\r\n", ""),
        target("/a/../b?c=d"),
        target("http://A.example/x"),
        "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n".to_owned(),
    ] {
        let answer = row.client().exchange(&request);
        assert_eq!(answer.status, 200, "{request:?}: {answer:?}");
        assert!(agrees(&row.switchback, request.as_bytes(), &answer), "{request:?} can't be asked about");
    }
    row.finish();
}

#[test]
fn a_text_of_the_call_never_becomes_another_line() {
    let row = Row::new();
    for (question, pointer) in [
        (json!({"headers": {"X": "y\r\nConnection: host"}}), "/headers/X"),
        (json!({"headers": {"X": ["y", "z\nw"]}}), "/headers/X"),
        (json!({"headers": {"X: y\r\nZ": "w"}}), "/headers/X: y\r\nZ"),
        (json!({"host": "a.example\r\nX: y"}), "/host"),
        (json!({"path": "/ HTTP/1.1\r\nX: y"}), "/path"),
        (json!({"method": "GET / HTTP/1.1\r\n"}), "/method"),
        (json!({"scheme": "http\r\n"}), "/scheme"),
    ] {
        let response = row.switchback.admin("POST", "/v1/explain", &question.to_string());
        let problem: Value = serde_json::from_slice(&response.body.bytes).expect("a problem document");
        assert_eq!((response.status, &problem["pointer"]), (422, &json!(pointer)), "{question}: {problem}");
    }
    row.finish();
}
