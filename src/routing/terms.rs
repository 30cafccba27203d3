//! What a route demands of a request that it takes: how long its body may be, and what it may upgrade to.
//!
//! Invariant: whoever forwards a request and whoever explains it ask here, so that both give the same answer.

use super::request_view::{AnnouncedBody, RequestView};
use crate::config;

/// Why a route refuses a request that it would otherwise forward. It is the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// More bytes than the route's `max_body`.
    #[error("the request body is larger than this route allows")]
    BodyTooLarge,
    /// What follows the head of a request to upgrade could be its body or the other protocol's.
    #[error("a request to upgrade has no body")]
    UpgradeWithBody,
}

impl Unfit {
    /// The status that the client gets.
    pub fn status(self) -> u16 {
        match self {
            Self::BodyTooLarge => 413,
            Self::UpgradeWithBody => 400,
        }
    }
}

/// Checks a request whose head alone is known. Answers what it may upgrade to, if it asks for a protocol that the route
/// allows: an index into the route's `upgrades`.
#[inline]
pub fn check(route: &config::Route, request: &impl RequestView) -> Result<Option<usize>, Unfit> {
    let body = request.body();
    if let (AnnouncedBody::Length(length), Some(most)) = (body, route.max_body)
        && length > most
    {
        return Err(Unfit::BodyTooLarge);
    }
    if !request.asks_to_upgrade() {
        return Ok(None);
    }
    let lines = (0..).map_while(|nth| request.header("upgrade", nth));
    let mut protocols = lines.flat_map(|line| line.split(|byte| *byte == b','));
    let allowed = |protocol: &[u8]| {
        let is = |allowed: &str| protocol.trim_ascii().eq_ignore_ascii_case(allowed.as_bytes());
        route.upgrades.iter().position(|allowed| is(allowed))
    };
    let upgrade = protocols.find_map(allowed);
    if upgrade.is_some() && !matches!(body, AnnouncedBody::None | AnnouncedBody::Length(0)) {
        return Err(Unfit::UpgradeWithBody);
    }
    Ok(upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Action,
        routing::testing::{get, matches, name, route},
    };

    #[test]
    fn a_body_within_the_limit_and_a_protocol_that_is_allowed() {
        let mut route = route("all", matches(&[], "/"), Action::Pool(name("app")));
        route.max_body = Some(10);
        route.upgrades = vec!["websocket".into(), "x-mine".into()];
        for (body, upgrades, expected) in [
            (AnnouncedBody::None, None, Ok(None)),
            (AnnouncedBody::Length(10), None, Ok(None)),
            (AnnouncedBody::Unknown, None, Ok(None)),
            (AnnouncedBody::Length(11), None, Err(Unfit::BodyTooLarge)),
            (AnnouncedBody::None, Some("WebSocket"), Ok(Some(0))),
            (AnnouncedBody::Length(0), Some("h2c, x-mine"), Ok(Some(1))),
            (AnnouncedBody::None, Some("h2c"), Ok(None)),
            (AnnouncedBody::Length(5), Some("h2c"), Ok(None)),
            (AnnouncedBody::Length(5), Some("x-mine"), Err(Unfit::UpgradeWithBody)),
            (AnnouncedBody::Unknown, Some("websocket"), Err(Unfit::UpgradeWithBody)),
            (AnnouncedBody::Length(11), Some("websocket"), Err(Unfit::BodyTooLarge)),
        ] {
            let mut request = get("a", "/");
            request.body = body;
            if let Some(upgrades) = upgrades {
                request = request.with("upgrade", upgrades);
                assert_eq!(check(&route, &request).ok().flatten(), None, "it does not ask: {upgrades}");
                request.asks_to_upgrade = true;
            }
            assert_eq!(check(&route, &request), expected, "{body:?} {upgrades:?}");
        }
    }
}
