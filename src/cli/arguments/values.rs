//! How single values of the command line are read. What is wrong with one is said with how to write it.

use std::{net::SocketAddr, time::Duration};

use crate::{
    admin::{MAX_REASON, MAX_WAIT},
    control::command::MAX_DEADLINE,
    model::{name::Name, weights::Weights},
};

/// `green=10`.
pub fn weight(text: &str) -> Result<(String, u64), String> {
    let max = Weights::MAX;
    let (pool, weight) = text.split_once('=').ok_or("write it as POOL=WEIGHT, such as green=10")?;
    let weight = weight.parse().ok().filter(|weight| *weight <= u64::from(max));
    let weight = weight.ok_or_else(|| format!("a weight is a whole number from 0 to {max}"))?;
    if pool.is_empty() { Err("the name of the pool is missing".into()) } else { Ok((pool.into(), weight)) }
}

/// An address that only this machine reaches.
pub fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(_) => {
            Err("whoever reaches the admin API can move all traffic: only a loopback address is taken".into())
        }
        Err(_) => Err("an address and a port, such as 127.0.0.1:9900".into()),
    }
}

/// A duration of at most what the admin API would wait.
pub fn patience(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= MAX_WAIT => Ok(duration),
        Ok(_) => Err(format!("at most {}", humantime::format_duration(MAX_WAIT))),
        Err(error) => Err(format!("{error}; write it as 30s or 2m")),
    }
}

/// How often something is shown anew: often enough to see, and no load on an instance that is in trouble.
pub fn interval(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_millis(200);
    const MOST: Duration = Duration::from_secs(3600);
    match humantime::parse_duration(text) {
        Ok(interval) if (LEAST..=MOST).contains(&interval) => Ok(interval),
        Ok(_) => Err("from 200ms to 1h".into()),
        Err(error) => Err(format!("{error}; write it as 500ms or 10s")),
    }
}

/// A deadline of a drain, as the admin API takes it.
pub fn deadline(text: &str) -> Result<String, String> {
    match humantime::parse_duration(text) {
        _ if text == "off" => Ok(text.to_owned()),
        Ok(duration) if duration <= MAX_DEADLINE => Ok(text.to_owned()),
        Ok(_) => Err(format!("at most {}, or off", humantime::format_duration(MAX_DEADLINE))),
        Err(error) => Err(format!("{error}; write it as 30s or 10m, or off")),
    }
}

/// A header of a request.
pub fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().into(), value.trim().into())),
        _ => Err("write it as 'name: value'".into()),
    }
}

/// A reason for the history. It travels in a field of the request, so it is one line.
pub fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err("it is empty".into()),
        _ if text.chars().any(char::is_control) => Err("it is one line, without control characters".into()),
        length if length > MAX_REASON => Err(format!("at most {MAX_REASON} characters")),
        _ => Ok(text.to_owned()),
    }
}

/// An entity tag, with or without its quotes, which a shell takes away.
pub fn tag(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if text == "*" {
        return Ok(text.to_owned());
    }
    if bare.is_empty() || bare.contains('"') || !bare.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("write one entity tag, such as r12, or *".into());
    }
    Ok(format!("\"{bare}\""))
}

/// The name of a token.
pub fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

/// How long a token counts.
pub fn lasts(text: &str) -> Result<Duration, String> {
    /// Ten years, as the API has it.
    const MOST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
    match humantime::parse_duration(text) {
        Ok(lasts) if !lasts.is_zero() && lasts <= MOST => Ok(lasts),
        Ok(_) => Err("from 1s to ten years".into()),
        Err(error) => Err(format!("{error}; write it as 12h or 90d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_and_headers_are_read_strictly() {
        assert_eq!(weight("green=10"), Ok(("green".into(), 10)));
        for bad in ["green", "green=", "green=-1", "green=1.5", "=1", "green=1000001", "green=10%"] {
            assert!(weight(bad).is_err(), "{bad}");
        }
        assert_eq!(header("Canary: true:1"), Ok(("Canary".into(), "true:1".into())));
        assert!(header("canary").is_err() && header(": x").is_err());
    }

    #[test]
    fn a_deadline_is_a_duration_or_off() {
        for good in ["30s", "10m", "7days", "off", "0s"] {
            assert_eq!(deadline(good).as_deref(), Ok(good));
        }
        for bad in ["", "30", "never", "8days", "-1s"] {
            assert!(deadline(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reason_is_one_line_and_a_tag_is_one_tag() {
        assert_eq!(reason(" 4711 is out ✓ "), Ok("4711 is out ✓".into()));
        assert!(reason(&"é".repeat(MAX_REASON)).is_ok());
        for bad in ["", "  ", "a\nb", "a\u{1b}[2Jb", &"é".repeat(MAX_REASON + 1)] {
            assert!(reason(bad).is_err(), "{bad:?}");
        }
        for (text, sent) in [("r12", "\"r12\""), ("\"r12-9f\"", "\"r12-9f\""), ("*", "*")] {
            assert_eq!(tag(text).as_deref(), Ok(sent));
        }
        for bad in ["", "\"", "\"\"", "a b", "\"a\", \"b\"", "W/\"a\"", "é"] {
            assert!(tag(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_interval_is_bounded() {
        assert_eq!(interval("200ms"), Ok(Duration::from_millis(200)));
        for bad in ["0s", "199ms", "61m", "1", ""] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
