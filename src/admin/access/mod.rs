//! Who may call: tokens, where the file names a file of them, and certificates, where it gives them roles.
//!
//! Invariant: a call is let through only by a token that is in force at that moment and whose role is enough, or, if it brings
//! none, by a certificate that its connection has shown and whose role is; and it is judged before anything of its body is read. No token is written anywhere. A good one is let through whatever others
//! have tried.

mod credentials;
pub(super) mod needs;
mod stream;
mod tokens;
mod tries;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Instant, SystemTime},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Serialize;

pub(super) use self::tokens::{Listed, Made, Revoked, list, make, revoke};
use self::{
    credentials::Credentials,
    needs::Need,
    tries::{Outcome, Tries, Who},
};
use super::{author::Peer, problem::Problem};
use crate::{
    control::tokens::{Standing, TokenBook},
    model::{
        name::Name,
        role::Role,
        tokens::{Refused, Token},
    },
    telemetry::prometheus::Text,
};

/// Who may call. Every clone is the same; the default lets everybody call who reaches the API.
#[derive(Debug, Clone, Default)]
pub struct Access(Option<Arc<Guarded>>);

#[derive(Debug)]
struct Guarded {
    book: Option<Arc<TokenBook>>,
    /// What callers may by the subjects and names of their certificates.
    roles: BTreeMap<String, Role>,
    tries: Mutex<Tries>,
    refused: [AtomicU64; Reason::ALL.len()],
}

/// Whose token a call came with.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) Name);

/// Why a call was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// It came with no token.
    Missing,
    /// What it came with can't be a token.
    Malformed,
    /// Its token is none, or is revoked.
    Unknown,
    /// Its token counts no more.
    Expired,
    /// Its token's role is not enough.
    Role,
}

impl Reason {
    const ALL: [Self; 5] = [Self::Missing, Self::Malformed, Self::Unknown, Self::Expired, Self::Role];

    fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Role => "role",
        }
    }
}

/// What `status` says of tokens.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct AccessView {
    /// Tokens that count.
    tokens: usize,
    /// `in_force`; `refused`, and the file's earlier tokens count; or `gone`, and none does.
    file: &'static str,
    /// What is wrong with the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Access {
    /// Asks for the tokens of a book, or for certificates with roles; without either, for nothing.
    pub fn by(book: Option<Arc<TokenBook>>, roles: BTreeMap<String, Role>) -> Self {
        if book.is_none() && roles.is_empty() {
            return Self::default();
        }
        let tries = Mutex::new(Tries::new(Instant::now()));
        Self(Some(Arc::new(Guarded { book, roles, tries, refused: Default::default() })))
    }

    fn book(&self) -> Option<&Arc<TokenBook>> {
        self.0.as_ref().and_then(|guarded| guarded.book.as_ref())
    }

    /// What `status` says of tokens; `None` if they are not asked for.
    pub(super) fn view(&self) -> Option<AccessView> {
        let book = self.book()?;
        let (file, error) = match book.standing() {
            Standing::InForce => ("in_force", None),
            Standing::Gone => ("gone", None),
            Standing::Refused(why) => ("refused", Some(why)),
        };
        Some(AccessView { tokens: counting(book), file, error })
    }

    /// The metrics of tokens.
    pub(super) fn metrics(&self, text: &mut Text) {
        let help = "Calls of the admin API that were not let through, by the reason.";
        let mut family = text.counter("switchback_admin_refused_total", help);
        for (place, reason) in Reason::ALL.iter().enumerate() {
            let count = self.0.as_ref().map_or(0, |guarded| guarded.refused[place].load(Relaxed));
            family.sample(&[("reason", reason.label())], count);
        }
        let count = self.book().map_or(0, |book| counting(book));
        text.gauge("switchback_admin_tokens", "Tokens of the admin API that count now.").sample(&[], count);
        let is_good = self.book().is_none_or(|book| book.standing() == Standing::InForce);
        let help = "1 while the file of tokens is in force, or there is none; 0 while it is wrong or gone.";
        text.gauge("switchback_admin_tokens_file_good", help).sample(&[], u8::from(is_good));
    }
}

fn counting(book: &TokenBook) -> usize {
    let now = SystemTime::now();
    book.tokens().iter().filter(|token| !token.is_expired(now)).count()
}

/// Lets a call through whose token or certificate allows it.
pub(super) async fn check(State(access): State<Access>, mut request: Request<Body>, next: Next) -> Response {
    let Some(guarded) = access.0 else { return next.run(request).await };
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let Need::Role(needed) = needs::of(request.method(), path) else { return next.run(request).await };
    let (book, token) = match guarded.judge(&request, needed) {
        Ok(Pass::Token(book, token)) => (Arc::clone(book), token),
        Ok(Pass::Certificate) => return next.run(request).await,
        Err(refusal) => return refusal,
    };
    request.extensions_mut().insert(Caller(token.name.clone()));
    let response = next.run(request).await;
    // An answer that goes on and on ends with its token.
    if stream::is_one(&response) { stream::bound(response, book, token) } else { response }
}

/// What lets a call through.
enum Pass<'g> {
    Token(&'g Arc<TokenBook>, Token),
    /// That of its connection.
    Certificate,
}

impl Guarded {
    /// What lets a call through, or the answer to one that is not.
    #[allow(
        clippy::result_large_err,
        reason = "the answer goes out as it is: a box would only be opened again"
    )]
    fn judge(&self, request: &Request<Body>, needed: Role) -> Result<Pass<'_>, Response> {
        let Some(book) = &self.book else { return self.judge_certificate(request, needed) };
        let presented = match credentials::of(request.headers()) {
            Credentials::Bearer(token) => token,
            Credentials::None => return self.judge_certificate(request, needed),
            Credentials::Malformed => return Err(self.refuse(request, Reason::Malformed)),
        };
        let token = book.find(presented, SystemTime::now()).map_err(|refused| {
            let reason = match refused {
                Refused::Unknown => Reason::Unknown,
                Refused::Expired => Reason::Expired,
            };
            self.refuse(request, reason)
        })?;
        if token.role.may(needed) {
            return Ok(Pass::Token(book, token));
        }
        self.count(Reason::Role);
        Err(forbidden(&format!("the token {}", token.name), token.role, needed))
    }

    /// Judges a call that brings no token by the certificate of its connection: of several roles, the highest counts.
    #[allow(clippy::result_large_err, reason = "as above")]
    fn judge_certificate(&self, request: &Request<Body>, needed: Role) -> Result<Pass<'_>, Response> {
        let proven = request.extensions().get::<Peer>().map(Peer::proven).unwrap_or_default();
        let Some(role) = proven.iter().filter_map(|name| self.roles.get(name)).max() else {
            self.count(Reason::Missing);
            return Err(match self.book {
                Some(_) => unauthorised(missing(), ""),
                None => no_role().into_response(),
            });
        };
        if role.may(needed) {
            return Ok(Pass::Certificate);
        }
        self.count(Reason::Role);
        Err(forbidden("the certificate", *role, needed))
    }

    fn count(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Relaxed);
    }

    /// The answer to a try in vain.
    fn refuse(&self, request: &Request<Body>, reason: Reason) -> Response {
        self.count(reason);
        let who = Who::of(request.extensions().get::<Peer>().and_then(Peer::address));
        let Outcome { retry_after, is_first } =
            self.tries.lock().unwrap_or_else(PoisonError::into_inner).failed(who, Instant::now());
        if is_first {
            tracing::warn!(peer = %who, reason = reason.label(), "a token was refused; further ones are only counted");
        }
        if let Some(wait) = retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let detail = format!("too many tokens were refused: the next may be tried in {seconds} s");
            let problem =
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-tries", "Too many tries", detail);
            let mut response = problem.into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            return response;
        }
        match reason {
            Reason::Expired => unauthorised(invalid("the token has expired"), INVALID_TOKEN),
            Reason::Malformed => unauthorised(
                invalid("the Authorization field is to be \"Bearer\" and a token, once"),
                INVALID_TOKEN,
            ),
            _ => unauthorised(invalid("the token is not known, or was revoked"), INVALID_TOKEN),
        }
    }
}

const INVALID_TOKEN: &str = ", error=\"invalid_token\"";

fn missing() -> Problem {
    let detail = "this instance asks for a token: send it as Authorization: Bearer sb_…";
    Problem::new(StatusCode::UNAUTHORIZED, "no-token", "A token is needed", detail)
}

fn no_role() -> Problem {
    let detail = "this instance gives roles to certificates, and the one of this connection, if there is one, has none";
    Problem::new(StatusCode::FORBIDDEN, "no-role", "The certificate has no role", detail)
}

fn invalid(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "invalid-token", "The token does not count", detail)
}

/// 401, with the field of RFC 6750 3.
fn unauthorised(problem: Problem, error: &str) -> Response {
    challenged(problem, &format!("Bearer realm=\"switchback\"{error}"))
}

fn forbidden(who: &str, role: Role, needed: Role) -> Response {
    let detail = format!("the call needs the role {needed}; {who} has the role {role}");
    let problem = Problem::new(StatusCode::FORBIDDEN, "wrong-role", "The role is not enough", detail);
    let error = format!("error=\"insufficient_scope\", scope=\"{needed}\"");
    challenged(problem, &format!("Bearer realm=\"switchback\", {error}"))
}

fn challenged(problem: Problem, challenge: &str) -> Response {
    let mut response = problem.into_response();
    let challenge = HeaderValue::from_str(challenge).expect("it is made of visible characters here");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}
