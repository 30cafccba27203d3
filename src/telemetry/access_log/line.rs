//! A record as a line, in JSON or by a template.
//!
//! Invariant: what a client sends can't end a line, begin another, or close a quotation mark around it. Bytes that
//! are no UTF-8 are shown as the replacement character.

use std::{
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use super::record::Record;
use crate::model::access_log::{AccessLogFormat, LogField, LogPiece};

/// Appends the line of a record, with its line break.
pub(super) fn append(line: &mut Vec<u8>, format: &AccessLogFormat, record: &Record) {
    match format {
        AccessLogFormat::Json => json(line, record),
        AccessLogFormat::Template(pieces) => {
            for piece in pieces {
                match piece {
                    LogPiece::Text(text) => line.extend_from_slice(text.as_bytes()),
                    LogPiece::Field(field) => template_value(line, record, *field),
                }
            }
        }
    }
    line.push(b'\n');
}

/// A field's value.
enum Value<'r> {
    /// There is none.
    Absent,
    Text(&'r [u8]),
    Time(SystemTime),
    Address(std::net::SocketAddr),
    Number(u64),
    Seconds(std::time::Duration),
}

fn value(record: &Record, field: LogField) -> Value<'_> {
    match field {
        LogField::Time => Value::Time(record.time),
        LogField::Client => record.client.map_or(Value::Absent, Value::Address),
        LogField::Endpoint => record.endpoint.map_or(Value::Absent, Value::Address),
        LogField::Status if record.status == 0 => Value::Absent,
        LogField::Status => Value::Number(record.status.into()),
        LogField::Attempts => Value::Number(record.attempts.into()),
        LogField::Generation => Value::Number(record.generation),
        LogField::BytesReceived => Value::Number(record.bytes_received),
        LogField::BytesSent => Value::Number(record.bytes_sent),
        LogField::FirstByteSeconds => record.first_byte.map_or(Value::Absent, Value::Seconds),
        LogField::DurationSeconds => Value::Seconds(record.duration),
        text => match record.text(text) {
            [] => Value::Absent,
            text => Value::Text(text),
        },
    }
}

/// One object; what is absent is left out, and so is what only a template names.
fn json(line: &mut Vec<u8>, record: &Record) {
    line.push(b'{');
    let start = line.len();
    for field in LogField::ALL.iter().filter(|field| !field.is_by_name_alone()) {
        let value = value(record, *field);
        if matches!(value, Value::Absent) {
            continue;
        }
        let comma = if line.len() > start { "," } else { "" };
        // Writing into memory can't fail, here and below.
        let _ = write!(line, "{comma}\"{}\":", field.name());
        match value {
            Value::Absent => {}
            Value::Text(text) => {
                let _ = serde_json::to_writer(&mut *line, &String::from_utf8_lossy(text));
            }
            Value::Time(_) | Value::Address(_) => {
                line.push(b'"');
                plain(line, &value);
                line.push(b'"');
            }
            Value::Number(_) | Value::Seconds(_) => plain(line, &value),
        }
    }
    line.push(b'}');
}

/// The value, escaped; `-` if it is absent.
fn template_value(line: &mut Vec<u8>, record: &Record, field: LogField) {
    match value(record, field) {
        Value::Absent => line.push(b'-'),
        Value::Text(text) => escaped(line, text),
        other => plain(line, &other),
    }
}

/// Values that need no escaping.
fn plain(line: &mut Vec<u8>, value: &Value<'_>) {
    let _ = match value {
        Value::Absent | Value::Text(_) => Ok(()),
        Value::Time(time) => {
            timestamp(line, *time);
            Ok(())
        }
        Value::Address(address) => write!(line, "{address}"),
        Value::Number(number) => write!(line, "{number}"),
        Value::Seconds(seconds) => write!(line, "{}.{:06}", seconds.as_secs(), seconds.subsec_micros()),
    };
}

/// A text in which quotes and backslashes have a backslash before them, and control characters (those of Unicode and
/// its line separators, too) are `\x..` or `\u{..}`.
fn escaped(line: &mut Vec<u8>, text: &[u8]) {
    for character in String::from_utf8_lossy(text).chars() {
        let _ = match character {
            '"' | '\\' => write!(line, "\\{character}"),
            '\0'..='\x1f' | '\x7f' => write!(line, "\\x{:02x}", u32::from(character)),
            '\u{80}'..='\u{9f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                write!(line, "\\u{{{:x}}}", u32::from(character))
            }
            character => write!(line, "{character}"),
        };
    }
}

/// RFC 3339 in UTC with milliseconds.
fn timestamp(line: &mut Vec<u8>, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    let _ = write!(line, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z");
}

/// Year, month and day of a day counted from 1970-01-01, by the proleptic Gregorian calendar: eras of 400 years
/// that begin in March, so that the leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468; // from 0000-03-01
    const DAYS_OF_ERA: u64 = 146_097;
    let days = days + DAYS_TO_1970;
    let (era, of_era) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn line(format: &str, record: &Record) -> String {
        let format = match format {
            "json" => AccessLogFormat::Json,
            template => AccessLogFormat::Template(LogPiece::parse_template(template).unwrap()),
        };
        let mut line = Vec::new();
        append(&mut line, &format, record);
        String::from_utf8(line).unwrap()
    }

    fn sample() -> Record {
        let mut record = Record::with_capacity(16);
        record.time = UNIX_EPOCH + Duration::from_millis(1_709_210_096_789);
        record.client = Some("[::1]:5000".parse().unwrap());
        record.status = 200;
        record.attempts = 1;
        record.bytes_sent = 12;
        record.duration = Duration::from_micros(1_234_567);
        record.set(LogField::Method, b"GET");
        record.set(LogField::Path, b"/a\"b");
        record
    }

    #[test]
    fn a_line_in_json_leaves_out_what_is_absent() {
        assert_eq!(
            line("json", &sample()),
            "{\"time\":\"2024-02-29T12:34:56.789Z\",\"client\":\"[::1]:5000\",\"method\":\"GET\",\"path\":\"/a\\\"b\",\
             \"status\":200,\"attempts\":1,\"generation\":0,\"bytes_received\":0,\"bytes_sent\":12,\
             \"duration_seconds\":1.234567}\n"
        );
    }

    #[test]
    fn a_line_by_a_template_shows_a_dash_for_what_is_absent() {
        assert_eq!(
            line("{client} \"{method} {path}\" {status} {pool} {duration_seconds}", &sample()),
            "[::1]:5000 \"GET /a\\\"b\" 200 - 1.234567\n"
        );
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_782, (2024, 2, 29)),
            (20_454, (2026, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected, "day {days}");
        }
    }

    proptest! {
        #[test]
        fn no_text_can_forge_a_line(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut record = Record::default();
            record.set(LogField::UserAgent, &text);
            let by_template = line("\"{user_agent}\" {status}", &record);
            prop_assert!(!by_template.trim_end_matches('\n').chars().any(char::is_control));
            let unescaped_quotes = by_template.replace("\\\\", "").replace("\\\"", "").matches('"').count();
            prop_assert_eq!(unescaped_quotes, 2);
            let json = line("json", &record);
            prop_assert_eq!(json.matches('\n').count(), 1);
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            if !text.is_empty() {
                let expected = String::from_utf8_lossy(&text);
                prop_assert_eq!(read["user_agent"].as_str(), Some(&*expected));
            }
        }
    }
}
