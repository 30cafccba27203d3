//! Every call, by everybody: what a role may do is a table, and a call that is not in it fails the test.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{Ask, Folder, Guarded, support, until};

/// Who is let through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Least {
    Anybody,
    Viewer,
    Operator,
    Admin,
}
use Least::{Admin, Anybody, Operator, Viewer};

/// The call as its description has it, its path here, its body, who may make it, and what he is answered.
const TABLE: &[(&str, &str, &str, &str, Least, u16)] = &[
    ("GET", "/livez", "/livez", "", Anybody, 200),
    ("GET", "/readyz", "/readyz", "", Anybody, 200),
    ("GET", "/metrics", "/metrics", "", Viewer, 200),
    ("GET", "/openapi.json", "/openapi.json", "", Viewer, 200),
    ("GET", "/v1/status", "/v1/status", "", Viewer, 200),
    ("GET", "/v1/splits", "/v1/splits", "", Viewer, 200),
    ("GET", "/v1/splits/{split}", "/v1/splits/main", "", Viewer, 200),
    ("PATCH", "/v1/splits/{split}", "/v1/splits/main", "{\"weights\": {\"blue\": 80}}", Operator, 200),
    (
        "PUT",
        "/v1/splits/{split}/weights",
        "/v1/splits/main/weights",
        "{\"blue\": 1, \"green\": 1}",
        Operator,
        200,
    ),
    ("POST", "/v1/splits/{split}/switch", "/v1/splits/main/switch", "{\"to\": \"green\"}", Operator, 200),
    ("POST", "/v1/splits/{split}/rollback", "/v1/splits/main/rollback", "", Operator, 200),
    ("GET", "/v1/certificates", "/v1/certificates", "", Viewer, 200),
    ("GET", "/v1/pools", "/v1/pools", "", Viewer, 200),
    ("GET", "/v1/pools/{pool}", "/v1/pools/blue", "", Viewer, 200),
    ("POST", "/v1/pools/{pool}/drain", "/v1/pools/blue/drain", "", Operator, 200),
    ("POST", "/v1/pools/{pool}/undrain", "/v1/pools/blue/undrain", "", Operator, 200),
    (
        "PUT",
        "/v1/pools/{pool}/endpoints/{address}",
        "/v1/pools/blue/endpoints/127.0.0.1:29",
        "",
        Operator,
        200,
    ),
    (
        "PATCH",
        "/v1/pools/{pool}/endpoints/{address}",
        "/v1/pools/blue/endpoints/127.0.0.1:29",
        "{\"weight\": 2}",
        Operator,
        200,
    ),
    (
        "POST",
        "/v1/pools/{pool}/endpoints/{address}/drain",
        "/v1/pools/blue/endpoints/127.0.0.1:29/drain",
        "",
        Operator,
        200,
    ),
    (
        "POST",
        "/v1/pools/{pool}/endpoints/{address}/undrain",
        "/v1/pools/blue/endpoints/127.0.0.1:29/undrain",
        "",
        Operator,
        200,
    ),
    // The first of those who may takes it away for good.
    (
        "DELETE",
        "/v1/pools/{pool}/endpoints/{address}",
        "/v1/pools/blue/endpoints/127.0.0.1:29",
        "",
        Operator,
        200,
    ),
    ("POST", "/v1/explain", "/v1/explain", "{}", Operator, 200),
    ("GET", "/v1/revisions", "/v1/revisions", "", Viewer, 200),
    ("GET", "/v1/revisions/{n}", "/v1/revisions/1", "", Viewer, 200),
    ("POST", "/v1/revisions/{n}/restore", "/v1/revisions/1/restore", "", Admin, 200),
    ("GET", "/v1/events", "/v1/events", "", Viewer, 200),
    ("GET", "/v1/config", "/v1/config", "", Viewer, 200),
    ("GET", "/v1/config/export", "/v1/config/export", "", Viewer, 200),
    ("GET", "/v1/drift", "/v1/drift", "", Viewer, 200),
    // What is no file is refused, but only to those who may bring one.
    ("PUT", "/v1/config", "/v1/config", "{\"text\": \"\"}", Admin, 422),
    ("POST", "/v1/config/validate", "/v1/config/validate", "{\"text\": \"\"}", Admin, 422),
    ("POST", "/v1/config/reload", "/v1/config/reload", "", Admin, 200),
    // Nothing is started: there is no such binary.
    ("POST", "/v1/upgrade", "/v1/upgrade", "{\"binary\": \"/nothing/there\"}", Admin, 422),
    ("GET", "/v1/tokens", "/v1/tokens", "", Admin, 200),
    ("POST", "/v1/tokens", "/v1/tokens", "{\"role\": \"viewer\", \"name\": \"made\"}", Admin, 200),
    ("DELETE", "/v1/tokens/{name}", "/v1/tokens/made", "", Admin, 200),
    // What no call is.
    ("GET", "", "/v1/nothing", "", Viewer, 404),
    ("GET", "", "/livez/", "", Viewer, 404),
    ("GET", "", "//livez", "", Viewer, 404),
    ("GET", "", "/v1/../livez", "", Viewer, 404),
    ("DELETE", "", "/v1/status", "", Admin, 405),
];

#[test]
fn every_call_is_answered_by_the_role_of_its_token() {
    let folder = Folder::new();
    let by = [(Viewer, "viewer"), (Operator, "operator"), (Admin, "admin")];
    let tokens = by.map(|(role, name)| (role, name, folder.make(name, name, &[])));
    let passing = folder.make("admin", "passing", &["--expires", "1s"]);
    let revoked = folder.make("admin", "revoked", &[]);
    let guarded = Guarded::start(folder);
    let [_, _, (_, _, admin)] = &tokens;
    let described = guarded.get("/openapi.json", Some(admin)).json();
    let described: BTreeSet<_> = described["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, calls)| {
            let methods = calls.as_object().expect("calls").keys().filter(|method| *method != "parameters");
            methods.map(move |method| (method.to_ascii_uppercase(), path.clone()))
        })
        .collect();
    let rows = TABLE.iter().filter(|row| !row.1.is_empty());
    let rows: BTreeSet<_> =
        rows.map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(described, rows, "the table of this test is to have every call");

    assert!(guarded.folder.token(&["revoke", "revoked"]).status.success());
    until("the revoked token is refused", || guarded.get("/v1/status", Some(&revoked)).status != 200);
    until("the short token has expired", || guarded.get("/v1/status", Some(&passing)).status != 200);

    // Each try in vain comes from an address of its own, or it would be one too many.
    let mut from = Ipv4Addr::new(127, 1, 0, 0).to_bits();
    for (method, _, path, body, least, status) in TABLE {
        let fields = if *method == "PATCH" { "Content-Type: application/merge-patch+json\r\n" } else { "" };
        let wrong = format!("sb_{}", "0".repeat(64));
        for (who, token) in [
            ("nobody", None),
            ("wrong", Some(&wrong)),
            ("revoked", Some(&revoked)),
            ("expired", Some(&passing)),
        ] {
            from += 1;
            // All tries together have a limit, too: a call that came over it is made again.
            let answer = support::wait_for("the call is judged", || {
                let from = Ipv4Addr::from_bits(from);
                let ask = Ask { from, token: token.map(String::as_str), body, fields };
                Some(guarded.ask(method, path, ask)).filter(|answer| answer.status != 429)
            });
            let expected = if *least == Anybody { *status } else { 401 };
            assert_eq!(answer.status, expected, "{who}: {method} {path}: {answer:?}");
            if expected == 401 {
                let challenge = answer.field("www-authenticate").expect("RFC 6750 asks for it");
                assert!(challenge.starts_with("Bearer"), "{challenge}");
                assert_eq!(challenge.contains("invalid_token"), token.is_some(), "{challenge}");
            }
        }
        for (role, name, token) in &tokens {
            let answer =
                guarded.ask(method, path, Ask { token: Some(token), body, fields, ..Ask::default() });
            if role >= least {
                let once = (*method, *status) == ("POST", 200) && path.ends_with("tokens")
                    || *method == "DELETE" && path.contains("endpoints") && *role == Admin;
                let allowed = answer.status == *status || once && matches!(answer.status, 404 | 409);
                assert!(allowed, "{name}: {method} {path}: {answer:?}");
                continue;
            }
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (403, "wrong-role"),
                "{name}: {method} {path}"
            );
            let needed = if *least == Admin { "admin" } else { "operator" };
            let detail = answer.json()["detail"].as_str().expect("a detail").to_owned();
            assert!(detail.contains(&format!("needs the role {needed}")), "{detail}");
            let scope = answer.field("www-authenticate").expect("it says which");
            assert!(scope.contains(&format!("scope=\"{needed}\"")), "{scope}");
        }
    }
}

#[test]
fn a_change_is_written_down_as_that_of_its_token() {
    let folder = Folder::new();
    let token = folder.make("operator", "pipeline-7", &[]);
    let guarded = Guarded::start(folder);
    let ask = Ask { token: Some(&token), body: "{\"to\": \"green\"}", ..Ask::default() };
    assert_eq!(guarded.ask("POST", "/v1/splits/main/switch", ask).status, 200);
    let history = guarded.get("/v1/revisions", Some(&token)).json();
    assert!(history.to_string().contains("\"who\":\"pipeline-7\""), "{history}");
}
