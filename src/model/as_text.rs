//! Times and durations as text that people read and that reads back exactly: `2026-01-31T12:00:00.000000001Z`, `10m`.

/// A moment, by RFC 3339.
pub mod time {
    use std::{borrow::Cow, time::SystemTime};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes it to the nanosecond.
    pub fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_nanos(*at))
    }

    /// Reads what [`serialize`] writes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&Cow::<str>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A duration that may be absent.
pub mod limit {
    use std::{borrow::Cow, time::Duration};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes it with its units, or null.
    pub fn serialize<S: Serializer>(limit: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match limit {
            Some(limit) => serializer.collect_str(&humantime::format_duration(*limit)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads what [`serialize`] writes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<Cow<'_, str>>::deserialize(deserializer)?;
        text.map(|text| humantime::parse_duration(&text).map_err(D::Error::custom)).transpose()
    }
}
