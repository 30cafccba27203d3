//! Names of listeners, routes, splits and pools.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    sync::Arc,
};

/// A name: 1 to 64 characters of `a-z A-Z 0-9 _ . -`, beginning with a letter or digit.
///
/// It goes into metric labels, URLs and logs as it is; no escaping is ever needed. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 64 characters of a-z A-Z 0-9 _ . - and begins with a letter or digit")]
pub struct InvalidName;

impl Name {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// What [`Self::is_one`] says, as a regular expression.
    pub const PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$";

    /// Checks a text and makes a name of it.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        if Self::is_one(text) { Ok(Self(text.into())) } else { Err(InvalidName) }
    }

    /// Whether a text is a name.
    pub fn is_one(text: &str) -> bool {
        let begins_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        begins_well && text.len() <= Self::MAX_LEN && text.bytes().all(allowed)
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": Self::PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_labels_and_urls_can_carry_and_nothing_else() {
        for good in ["a", "blue", "v1.2.3", "shop_eu-1", "9"] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        let too_long = "x".repeat(Name::MAX_LEN + 1);
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", "a\n", &too_long] {
            assert_eq!(Name::new(bad), Err(InvalidName), "{bad:?}");
        }
    }
}
