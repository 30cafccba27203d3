//! The tokens of the admin API: their hashes, and what each of them allows until when.
//!
//! Invariant: no token is kept, only its SHA-256; a [`Secret`] shows itself to nobody but who asks for its text, which
//! is done once. Comparing takes the same time whatever was presented and whichever token it is.

use std::{fmt, hint::black_box, time::SystemTime};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{
    name::{InvalidName, Name},
    role::Role,
};

/// What a token is kept as. SHA-256 is enough: 256 random bits can't be guessed, so nothing is won by a slow hash.
pub type Fingerprint = [u8; 32];

/// A token that was just made. It is shown once and then forgotten.
pub struct Secret(String);

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name, which stands in the history as the author of what was done with it.
    pub name: Name,
    /// What it allows.
    pub role: Role,
    /// When it was made.
    pub created: SystemTime,
    /// From when on it counts no more; `None` is never.
    pub expires: Option<SystemTime>,
    fingerprint: Fingerprint,
}

/// All tokens of a file, each with a name of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens(Vec<Token>);

/// Why what was presented is no token that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is none like it: it never was, or was revoked.
    Unknown,
    /// It counts no more.
    Expired,
}

/// Why a file of tokens is refused. Nothing that could be a token is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTokens {
    /// It is not TOML, or not of the right shape.
    #[error("line {line}: {message}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A value of a token is wrong.
    #[error("token {number}: {fault}")]
    Token {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// More than [`Tokens::MOST`].
    #[error("it holds more than {most} tokens", most = Tokens::MOST)]
    TooMany,
}

/// Why a token can't be added or revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// The name is another token's.
    #[error("there is a token \"{0}\" already: revoke it first, or take another name")]
    Taken(Name),
    /// No token has the name.
    #[error("there is no token of this name")]
    Unknown,
    /// There are [`Tokens::MOST`].
    #[error("there are {most} tokens already: revoke one first", most = Tokens::MOST)]
    TooMany,
}

impl Secret {
    /// What every token begins with, so that whoever looks for leaked secrets finds it.
    pub const PREFIX: &str = "sb_";

    /// The token of 256 random bits.
    pub fn of(random: &[u8; 32]) -> Self {
        Self(format!("{}{}", Self::PREFIX, hex(random)))
    }

    /// The token itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Token {
    /// What is kept of a new token.
    pub fn new(
        secret: &Secret,
        name: Name,
        role: Role,
        created: SystemTime,
        expires: Option<SystemTime>,
    ) -> Self {
        Self { name, role, created, expires, fingerprint: fingerprint(secret.0.as_bytes()) }
    }

    /// Whether it counts no more.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl Tokens {
    /// The most tokens: each costs a call a comparison of 32 bytes.
    pub const MOST: usize = 1_000;

    /// Reads a file of tokens; an empty one holds none.
    pub fn parse(text: &str) -> Result<Self, InvalidTokens> {
        let file: File = toml::from_str(text).map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let message = error.message().lines().next().unwrap_or_default().to_owned();
            InvalidTokens::Malformed { line: before.matches('\n').count() + 1, message }
        })?;
        if file.token.len() > Self::MOST {
            return Err(InvalidTokens::TooMany);
        }
        let mut tokens: Vec<Token> = Vec::with_capacity(file.token.len());
        for (entry, number) in file.token.iter().zip(1..) {
            let refused = |fault| InvalidTokens::Token { number, fault };
            let token = entry.read().map_err(refused)?;
            if tokens.iter().any(|other| other.name == token.name) {
                return Err(refused("its name stands above already"));
            }
            if tokens.iter().any(|other| other.fingerprint == token.fingerprint) {
                return Err(refused("its sha256 stands above already"));
            }
            tokens.push(token);
        }
        Ok(Self(tokens))
    }

    /// The file of these tokens.
    pub fn to_file(&self) -> String {
        let mut text = String::from(
            "# Who may call the admin API of Switchback: the SHA-256 of each token, never the token itself.\n\
             # `switchback token` and the API write this file anew; further comments are not kept.\n",
        );
        for Token { name, role, created, expires, fingerprint } in &self.0 {
            let created = humantime::format_rfc3339_seconds(*created);
            text += &format!(
                "\n[[token]]\nname = \"{name}\"\nrole = \"{role}\"\nsha256 = \"{}\"\ncreated = \"{created}\"\n",
                hex(fingerprint)
            );
            if let Some(expires) = expires {
                text += &format!("expires = \"{}\"\n", humantime::format_rfc3339_seconds(*expires));
            }
        }
        text
    }

    /// All of them, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = &Token> + Clone {
        self.0.iter()
    }

    /// The token that was presented. Every token is compared, each to its last byte.
    pub fn find(&self, presented: &[u8], now: SystemTime) -> Result<&Token, Refused> {
        let presented = fingerprint(presented);
        let mut found = None;
        for token in &self.0 {
            if is_same(&token.fingerprint, &presented) {
                found = Some(token);
            }
        }
        match found {
            None => Err(Refused::Unknown),
            Some(token) if token.is_expired(now) => Err(Refused::Expired),
            Some(token) => Ok(token),
        }
    }

    /// Whether a token that was found once still counts.
    pub fn still_has(&self, token: &Token, now: SystemTime) -> bool {
        self.0.iter().any(|other| other.fingerprint == token.fingerprint && !other.is_expired(now))
    }

    /// These and one more.
    pub fn with(mut self, token: Token) -> Result<Self, TokenFault> {
        if self.0.iter().any(|other| other.name == token.name) {
            return Err(TokenFault::Taken(token.name));
        }
        if self.0.len() >= Self::MOST {
            return Err(TokenFault::TooMany);
        }
        self.0.push(token);
        Ok(self)
    }

    /// These without the one of a name.
    pub fn without(mut self, name: &str) -> Result<Self, TokenFault> {
        let place = self.0.iter().position(|token| token.name.as_str() == name);
        self.0.remove(place.ok_or(TokenFault::Unknown)?);
        Ok(self)
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: String,
    sha256: String,
    created: String,
    expires: Option<String>,
}

impl Entry {
    fn read(&self) -> Result<Token, &'static str> {
        let time = |text: &str| humantime::parse_rfc3339(text);
        Ok(Token {
            name: Name::new(&self.name).map_err(|InvalidName| "its name is no name")?,
            role: self.role.parse().map_err(|_| "its role is none of viewer, operator and admin")?,
            created: time(&self.created)
                .map_err(|_| "created is no time such as \"2026-01-31T12:00:00Z\"")?,
            expires: self
                .expires
                .as_deref()
                .map(time)
                .transpose()
                .map_err(|_| "expires is no time such as \"2026-01-31T12:00:00Z\"")?,
            fingerprint: from_hex(&self.sha256).ok_or("its sha256 is not 64 digits of hex")?,
        })
    }
}

fn fingerprint(presented: &[u8]) -> Fingerprint {
    Sha256::digest(presented).into()
}

/// Compares to the end, wherever the first difference is.
fn is_same(one: &Fingerprint, other: &Fingerprint) -> bool {
    let differing = one.iter().zip(other).fold(0, |bits, (one, other)| black_box(bits | (one ^ other)));
    differing == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Fingerprint> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn token(number: u8, expires: Option<SystemTime>) -> (Secret, Token) {
        let secret = Secret::of(&[number; 32]);
        let name = Name::new(&format!("t{number}")).unwrap();
        let kept = Token::new(&secret, name, Role::Operator, at(1), expires);
        (secret, kept)
    }

    #[test]
    fn a_token_is_found_until_it_expires_or_is_revoked() {
        let (lasting, one) = token(1, None);
        let (passing, other) = token(2, Some(at(10)));
        let tokens = Tokens::default().with(one.clone()).unwrap().with(other).unwrap();
        assert_eq!(tokens.find(lasting.reveal().as_bytes(), at(99)), Ok(&one));
        assert!(tokens.find(passing.reveal().as_bytes(), at(9)).is_ok());
        assert_eq!(tokens.find(passing.reveal().as_bytes(), at(10)), Err(Refused::Expired));
        for unknown in [&b""[..], b"sb_", &lasting.reveal().as_bytes()[..66], b"\xff\x00"] {
            assert_eq!(tokens.find(unknown, at(0)), Err(Refused::Unknown));
        }
        assert_eq!(tokens.clone().with(one.clone()), Err(TokenFault::Taken(one.name.clone())));
        let fewer = tokens.clone().without("t1").unwrap();
        assert_eq!(fewer.find(lasting.reveal().as_bytes(), at(0)), Err(Refused::Unknown));
        assert!(tokens.still_has(&one, at(0)) && !fewer.still_has(&one, at(0)));
        assert_eq!(fewer.without("t1"), Err(TokenFault::Unknown));
    }

    #[test]
    fn the_file_reads_back_and_holds_no_token() {
        let (secret, one) = token(7, Some(at(1_000)));
        let tokens = Tokens::default().with(one).unwrap().with(token(8, None).1).unwrap();
        let text = tokens.to_file();
        assert_eq!(Tokens::parse(&text), Ok(tokens));
        assert!(!text.contains(secret.reveal()) && !text.contains(&secret.reveal()[3..]));
        assert!(!format!("{secret:?}").contains("07"));
        // What `printf %s "$TOKEN" | sha256sum` says of the whole token, prefix and all.
        assert!(text.contains("327bc6e760e308613454382ca98739732a0081afc4726fad4b360cca87f8f06f"));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named_and_its_values_are_not() {
        let good = token(1, None).1;
        let text = Tokens::default().with(good).unwrap().to_file();
        let hash = hex(&fingerprint(Secret::of(&[1; 32]).reveal().as_bytes()));
        for (wrong, said) in [
            (text.replace("name =", "nmae ="), "line"),
            (text.replace("operator", "root"), "token 1: its role"),
            (text.replace(&hash, "sb_secret"), "token 1: its sha256"),
            (text.replace("\"t1\"", "\"a b\""), "token 1: its name"),
            (text.replace("created = \"1970", "created = \"x"), "token 1: created"),
            (format!("{text}expires = \"soon\"\n"), "token 1: expires"),
            (format!("{text}{text}"), "token 2: its name"),
            (format!("{text}{}", text.replace("\"t1\"", "\"t2\"")), "token 2: its sha256"),
            (text.replace("[[token]]", "[[token"), "line 4"),
            ("[[token]]\nname = \"x\"\n".repeat(Tokens::MOST + 1), "line"),
        ] {
            let error = Tokens::parse(&wrong).unwrap_err().to_string();
            assert!(error.starts_with(said), "{said}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(Tokens::parse(""), Ok(Tokens::default()));
    }
}
