//! Which role each call needs.
//!
//! Invariant: a call that is not in the table needs the highest role, so that one which is forgotten here is closed
//! rather than open. A test compares the table with that of the calls.

use axum::http::Method;

use crate::model::role::Role;

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Need {
    /// Nothing: supervisors and balancers have no token.
    Nothing,
    /// A token of this role, or of a higher one.
    Role(Role),
}

use Need::{Nothing, Role as A};

/// Who may only look.
const VIEWER: Need = A(Role::Viewer);
/// Who moves traffic.
const OPERATOR: Need = A(Role::Operator);
/// Who may do everything.
const ADMIN: Need = A(Role::Admin);

/// Each call with what it needs.
const TABLE: &[(Method, &str, Need)] = &[
    (Method::GET, "/livez", Nothing),
    (Method::GET, "/readyz", Nothing),
    (Method::GET, "/metrics", VIEWER),
    (Method::GET, "/openapi.json", VIEWER),
    (Method::GET, "/v1/status", VIEWER),
    (Method::GET, "/v1/splits", VIEWER),
    (Method::GET, "/v1/splits/{split}", VIEWER),
    (Method::PATCH, "/v1/splits/{split}", OPERATOR),
    (Method::PUT, "/v1/splits/{split}/weights", OPERATOR),
    (Method::POST, "/v1/splits/{split}/switch", OPERATOR),
    (Method::POST, "/v1/splits/{split}/rollback", OPERATOR),
    (Method::GET, "/v1/pools", VIEWER),
    (Method::GET, "/v1/pools/{pool}", VIEWER),
    (Method::POST, "/v1/pools/{pool}/drain", OPERATOR),
    (Method::POST, "/v1/pools/{pool}/undrain", OPERATOR),
    (Method::PUT, "/v1/pools/{pool}/endpoints/{address}", OPERATOR),
    (Method::PATCH, "/v1/pools/{pool}/endpoints/{address}", OPERATOR),
    (Method::DELETE, "/v1/pools/{pool}/endpoints/{address}", OPERATOR),
    (Method::POST, "/v1/pools/{pool}/endpoints/{address}/drain", OPERATOR),
    (Method::POST, "/v1/pools/{pool}/endpoints/{address}/undrain", OPERATOR),
    (Method::GET, "/v1/certificates", VIEWER),
    (Method::POST, "/v1/explain", OPERATOR),
    (Method::GET, "/v1/revisions", VIEWER),
    (Method::GET, "/v1/revisions/{n}", VIEWER),
    (Method::POST, "/v1/revisions/{n}/restore", ADMIN),
    (Method::GET, "/v1/events", VIEWER),
    (Method::GET, "/v1/drift", VIEWER),
    (Method::GET, "/v1/config", VIEWER),
    (Method::GET, "/v1/config/export", VIEWER),
    (Method::PUT, "/v1/config", ADMIN),
    (Method::POST, "/v1/config/validate", ADMIN),
    (Method::POST, "/v1/config/reload", ADMIN),
    (Method::GET, "/v1/tokens", ADMIN),
    (Method::POST, "/v1/tokens", ADMIN),
    (Method::DELETE, "/v1/tokens/{name}", ADMIN),
    (Method::POST, "/v1/upgrade", ADMIN),
];

/// What a call needs; `path` is that of the router, which is none for a path that no call has.
pub(in crate::admin) fn of(method: &Method, path: Option<&str>) -> Need {
    // Nothing is there; but who may not look is not told so.
    let Some(path) = path else { return VIEWER };
    // The router answers HEAD as it does GET.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let row = TABLE.iter().find(|(of, at, _)| of == method && *at == path);
    row.map_or(ADMIN, |(_, _, need)| *need)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::calls;

    #[test]
    fn every_call_has_a_row_and_what_has_none_is_closed() {
        for call in calls::all() {
            let has_row = TABLE.iter().any(|(method, path, _)| *method == call.method && *path == call.path);
            assert!(has_row, "{} {} needs a row", call.method, call.path);
        }
        assert_eq!(of(&Method::DELETE, Some("/v1/status")), ADMIN);
        assert_eq!(of(&Method::HEAD, Some("/livez")), Nothing);
        assert_eq!(of(&Method::GET, None), VIEWER);
    }
}
