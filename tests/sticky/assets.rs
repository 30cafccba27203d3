//! The pin in a field or a query parameter: what belongs to a page comes from where the page came from.

use crate::browser::{Jar, named, session_on, sticky};

#[test]
fn a_page_from_green_takes_its_scripts_from_green() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(1, (1, 1), "cookie = \"sb\", query = \"pin\"", &blue, &green);
    let mut client = switchback.client();
    let page = session_on("green", &mut client);
    let field = format!("X-Switchback-Pin: {}\r\n", page.pin());
    let target = format!("/app.js?v=1&pin={}", page.pin());

    // Another tab has moved the session on to blue: the page's own pin wins, and the session's is left alone.
    let mut session = session_on("blue", &mut client);
    let visit = session.visit_with(&mut client, &field);
    assert_eq!((visit.pool.as_str(), visit.issued), ("green", None));
    let (visit, _) = session.exchange(&mut client, &target, "");
    assert_eq!((visit.pool.as_str(), visit.issued), ("green", None));
    let visit = session.visit(&mut client);
    assert_eq!((visit.pool.as_str(), visit.issued), ("blue", None));

    // After a rollback green is no place to be: the session's cookie decides.
    switchback.weigh(1, 2);
    switchback.admin("POST", "/v1/splits/main/rollback", "");
    let visit = session.visit_with(&mut client, &field);
    assert_eq!((visit.pool.as_str(), visit.issued), ("blue", None));
}

#[test]
fn the_query_is_looked_at_only_where_the_split_says_so() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(1, (1, 1), "cookie = \"sb\"", &blue, &green);
    let mut client = switchback.client();
    let page = session_on("green", &mut client);
    switchback.weigh(1, 0);
    let (visit, _) = Jar::default().exchange(&mut client, &format!("/?pin={0}&sb={0}", page.pin()), "");
    assert_eq!(visit.pool, "blue");
    let last = blue.last();
    assert!(last.head.start.contains("pin=v1."), "a query goes on as it came: {}", last.head.start);
}

#[test]
fn a_request_with_the_field_is_told_its_pin_and_the_field_goes_no_further() {
    let (blue, green) = (named("blue"), named("green"));
    let switchback = sticky(1, (0, 1), "cookie = \"sb\"", &blue, &green);
    let mut client = switchback.client();
    let mut jar = Jar::default();
    let (visit, response) = jar.exchange(&mut client, "/", "X-Switchback-Pin: ?\r\n");
    assert!(visit.issued.is_some());
    let told = response.head.one("x-switchback-pin").expect("it asked").to_owned();
    assert_eq!(told, jar.pin());
    assert_eq!(green.last().head.one("x-switchback-pin"), None);
    assert_eq!(switchback.metric("switchback_pins_not_honoured_total"), 0.0, "to ask is no forgery");

    // The session has its pin already, and is told one that is as good.
    let (visit, response) = jar.exchange(&mut client, "/", "X-Switchback-Pin: ?\r\n");
    assert_eq!(visit.issued, None);
    let told = response.head.one("x-switchback-pin").expect("it asked").to_owned();
    assert_eq!(green.last().head.one("cookie"), jar.cookie.as_deref(), "the cookie goes on as it came");
    switchback.weigh(1, 0);
    assert_eq!(
        Jar::default().visit_with(&mut client, &format!("X-Switchback-Pin: {told}\r\n")).pool,
        "green"
    );
    let (_, response) = jar.exchange(&mut client, "/", "");
    assert_eq!(response.head.one("x-switchback-pin"), None, "who does not ask is not told");
}
