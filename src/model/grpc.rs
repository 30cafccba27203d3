//! The statuses of gRPC, by number and name, and what a call may say of its time.

use std::time::Duration;

/// A status of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GrpcStatus(u8);

/// Their names, each in its place as a number.
const NAMES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

/// How many statuses there are.
pub const GRPC_STATUSES: usize = NAMES.len();

impl GrpcStatus {
    /// The call has failed for a reason that is none of the others.
    pub const UNKNOWN: Self = Self(2);
    /// The call's time was over.
    pub const DEADLINE_EXCEEDED: Self = Self(4);

    /// All of them, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..GRPC_STATUSES as u8).map(Self)
    }

    /// What a `grpc-status` says. What is no status is an unknown one.
    pub fn read(value: &[u8]) -> Self {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u8>().ok());
        number.filter(|number| usize::from(*number) < GRPC_STATUSES).map_or(Self::UNKNOWN, Self)
    }

    /// The status of a name.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().zip(0..).find(|(known, _)| **known == name).map(|(_, number)| Self(number))
    }

    /// What a failure is that has this status in HTTP, for who can't read that.
    pub fn of_failure(http: u16) -> Self {
        Self(match http {
            400 => 13,
            401 => 16,
            403 => 7,
            404 | 405 => 12,
            408 | 504 => 4,
            413 | 431 => 8,
            429 | 502 | 503 => 14,
            _ => 2,
        })
    }

    /// What it says of who answered so, as a status of HTTP: whether an endpoint fails, and whether it is there.
    pub fn to_http(self) -> u16 {
        match self.0 {
            2 | 13 | 15 => 500,
            14 => 503,
            _ => 200,
        }
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }
}

/// The time that a `grpc-timeout` gives a call: up to eight digits and a unit. `None` if it is none.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, expected) in [
            ("1S", Some(Duration::from_secs(1))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("2M", Some(Duration::from_secs(120))),
            ("", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("123456789S", None),
            ("1s", None),
        ] {
            assert_eq!(timeout(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn statuses_have_numbers_and_names() {
        for status in GrpcStatus::all() {
            assert_eq!(GrpcStatus::named(status.name()), Some(status));
            assert_eq!(GrpcStatus::read(status.number().to_string().as_bytes()), status);
        }
        for odd in ["17", "-1", "", "ok", "0 "] {
            assert_eq!(GrpcStatus::read(odd.as_bytes()), GrpcStatus::UNKNOWN, "{odd:?}");
        }
        assert_eq!(GrpcStatus::of_failure(503).name(), "unavailable");
        assert_eq!(GrpcStatus::of_failure(504), GrpcStatus::DEADLINE_EXCEEDED);
    }
}
