//! Durations ("500ms", "2s", "1m", "1h") and sizes ("10MiB") as people write them.

use std::time::Duration;

/// Units of a duration, in milliseconds.
const DURATIONS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Units of a size, in bytes.
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// The duration of a text: a whole number and its unit, nothing else.
pub(super) fn duration(text: &str) -> Option<Duration> {
    quantity(text, DURATIONS).map(Duration::from_millis)
}

/// The bytes of a text: a whole number and its unit, nothing else.
pub(super) fn size(text: &str) -> Option<u64> {
    quantity(text, SIZES)
}

/// A duration as this file would write it.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, factor) = DURATIONS
        .iter()
        .rev()
        .find(|(_, factor)| millis > 0 && millis.is_multiple_of(u128::from(*factor)))
        .unwrap_or(&("s", 1_000));
    format!("{}{unit}", millis / u128::from(*factor))
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_a_whole_number_and_its_unit() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Some(Duration::from_secs(2)));
        assert_eq!(duration("1m"), Some(Duration::from_secs(60)));
        assert_eq!(duration("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(size("10MiB"), Some(10 << 20));
        assert_eq!(size("0B"), Some(0));
        for bad in ["", "s", "5", "-5s", "+5s", "1.5s", "5 s", "5S", "5s ", "1h30m", "99999999999999999999s"]
        {
            assert_eq!(duration(bad), None, "{bad:?}");
        }
        for bad in ["", "10", "10mib", "10 MiB", "18446744073709551615KiB", "ä1MiB"] {
            assert_eq!(size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_is_written() {
        for text in ["500ms", "2s", "1m", "90s", "24h", "0s"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
    }
}
