//! Which instance is called and which token is shown to it: flags, then the environment, then the client file, then the
//! usual address. Pure.
//!
//! Invariant: a token goes nowhere but where its source said. A flag's and, where the environment names no instance, the
//! environment's are for whatever is called; any other is for the address beside it alone.

use std::path::PathBuf;

use super::address::Address;

/// A token, or where it is. A file is read when its token is to be shown, and not before.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// The token itself.
    Text(String),
    /// A file that holds it.
    File(PathBuf),
}

/// By which files an instance is known, and this client to it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority of its certificate.
    pub ca: Option<PathBuf>,
    /// This client's own certificate, and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// What one place says: an address, a token, both or neither.
#[derive(Default, Clone)]
pub struct Said {
    /// The address.
    pub admin: Option<String>,
    /// The token.
    pub token: Option<Token>,
    /// The files of TLS.
    pub tls: TlsFiles,
}

/// What the client file says: its first part, and the instance that `--instance` names.
#[derive(Default)]
pub struct Filed {
    /// The part without a name.
    pub unnamed: Said,
    /// The part that a flag names.
    pub named: Option<Said>,
}

impl Token {
    /// A token as it was given by a flag or a variable.
    pub fn of(text: Option<String>) -> Option<Self> {
        text.map(Self::Text)
    }

    /// The token without the line end that reading it from a file may have brought; an empty one is none.
    fn trimmed(self) -> Option<Self> {
        match self {
            Self::Text(text) if text.trim().is_empty() => None,
            Self::Text(text) => Some(Self::Text(text.trim().to_owned())),
            file @ Self::File(_) => Some(file),
        }
    }
}

/// Who is called.
pub struct Target {
    /// Where.
    pub address: Address,
    /// The token to show.
    pub token: Option<Token>,
    /// Where a token was found that is for another address, and so is not shown.
    pub withheld: Option<&'static str>,
    /// The files of TLS.
    pub tls: TlsFiles,
}

/// Decides who is called.
pub fn decide(flags: Said, environment: Said, file: Filed) -> Result<Target, String> {
    let Filed { unnamed, named } = file;
    let parse = |text: &Option<String>| text.as_deref().map(Address::parse).transpose();
    // An instance of the file that has no address is at the usual one, as the part without a name is.
    let beside = |said: &Said| parse(&said.admin).map(|address| address.unwrap_or_else(Address::usual));
    let chosen = named.as_ref().map(beside).transpose()?;
    let from_environment = parse(&environment.admin)?;
    let address = match (parse(&flags.admin)?, chosen.clone(), from_environment.clone()) {
        (Some(flag), ..) => flag,
        (None, Some(chosen), _) => chosen,
        (None, None, Some(environment)) => environment,
        (None, None, None) => beside(&unnamed)?,
    };
    // Those of a part of the file are for its address alone: who is trusted there is not trusted everywhere.
    let unnamed_address = beside(&unnamed).ok();
    let parts = [named.as_ref().zip(chosen.clone()), Some(&unnamed).zip(unnamed_address)];
    let of_file = parts.into_iter().flatten().find(|(_, only)| *only == address);
    let of_file = of_file.map(|(said, _)| said.tls.clone()).unwrap_or_default();
    let tls = TlsFiles { ca: flags.tls.ca.or(of_file.ca), own: flags.tls.own.or(of_file.own) };
    // In the order in which they count, each with the one address that it is for, if there is one.
    let mut tokens = vec![(flags.token, None, "--token")];
    if let Some(named) = named {
        tokens.push((named.token, chosen, "the client file"));
    }
    tokens.push((environment.token, from_environment, "SWITCHBACK_TOKEN"));
    if unnamed.token.is_some() {
        let unnamed_address = beside(&unnamed)?;
        tokens.push((unnamed.token, Some(unnamed_address), "the client file"));
    }
    let mut withheld = None;
    for (token, only_for, place) in tokens {
        let Some(token) = token.and_then(Token::trimmed) else { continue };
        if only_for.is_none_or(|only| only == address) {
            return Ok(Target { address, token: Some(token), withheld: None, tls });
        }
        withheld = withheld.or(Some(place));
    }
    Ok(Target { address, token: None, withheld, tls })
}

#[cfg(test)]
mod tests {
    use proptest::{bool, collection, option, prelude::*};

    use super::*;

    const A: &str = "http://10.0.0.1:9900";
    const B: &str = "http://10.0.0.2:9900";
    const USUAL: &str = "http://127.0.0.1:9900";

    fn said(admin: &str, token: &str) -> Said {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Said { admin: some(admin), token: Token::of(some(token)), ..Said::default() }
    }

    fn decided(
        flags: (&str, &str),
        environment: (&str, &str),
        file: (&str, &str),
        named: Option<(&str, &str)>,
    ) -> (String, String) {
        let of = |(admin, token)| said(admin, token);
        let file = Filed { unnamed: of(file), named: named.map(of) };
        let target = decide(of(flags), of(environment), file).unwrap();
        let token = match target.token {
            Some(Token::Text(token)) => token,
            Some(Token::File(_)) => panic!("no file was named"),
            None => String::new(),
        };
        (target.address.to_string(), token)
    }

    #[test]
    fn flags_count_before_the_environment_and_that_before_the_file() {
        let none = ("", "");
        let is = |admin: &str, token: &str| (admin.to_owned(), token.to_owned());
        assert_eq!(decided(none, none, none, None), is(USUAL, ""));
        assert_eq!(decided(none, none, (A, "file"), None), is(A, "file"));
        assert_eq!(decided(none, none, ("", "file"), None), is(USUAL, "file"));
        assert_eq!(decided(none, (B, "env"), (A, "file"), None), is(B, "env"));
        assert_eq!(decided((A, "flag"), (B, "env"), (A, "file"), None), is(A, "flag"));
        assert_eq!(decided(none, (A, "env"), (A, "file"), Some((B, "named"))), is(B, "named"));
        assert_eq!(decided(none, none, (A, "file"), Some(("", "named"))), is(USUAL, "named"));
    }

    #[test]
    fn a_token_is_shown_to_nobody_but_who_it_is_for() {
        let none = ("", "");
        let is = |admin: &str, token: &str| (admin.to_owned(), token.to_owned());
        assert_eq!(decided((B, ""), none, (A, "file"), None), is(B, ""), "the file's is for A");
        assert_eq!(decided((B, ""), (A, "env"), none, None), is(B, ""), "the environment's is for A");
        assert_eq!(decided(none, (B, ""), (A, "file"), None), is(B, ""));
        assert_eq!(decided(none, none, (A, "file"), Some((B, ""))), is(B, ""), "B has none");
        assert_eq!(decided(none, (A, "env"), none, Some((B, ""))), is(B, ""));
        assert_eq!(
            decided((B, ""), (A, "env"), (B, "file"), None),
            is(B, "file"),
            "that of the same address"
        );
        assert_eq!(decided(("http://10.0.0.1:9900/", ""), none, (A, "file"), None), is(A, "file"));
        assert_eq!(
            decided((B, ""), ("", "env"), (A, "file"), None),
            is(B, "env"),
            "that is for whatever is called"
        );
        let target = decide(said(B, ""), said(A, "env"), Filed::default()).unwrap();
        assert_eq!(target.withheld, Some("SWITCHBACK_TOKEN"));
    }

    #[test]
    fn who_is_trusted_at_one_address_is_not_trusted_at_another() {
        let ca = |path: &str| TlsFiles { ca: Some(path.into()), own: None };
        let with = |admin: &str, path: &str| Said { tls: ca(path), ..said(admin, "") };
        let decided = |flags: Said, unnamed: Said, named: Option<Said>| {
            let target = decide(flags, Said::default(), Filed { unnamed, named });
            target.unwrap_or_else(|why| panic!("{why}")).tls
        };
        let nothing = Said::default;
        assert_eq!(decided(nothing(), with(A, "file"), None), ca("file"));
        assert_eq!(decided(said(B, ""), with(A, "file"), None), TlsFiles::default());
        assert_eq!(decided(with(B, "flag"), with(A, "file"), None), ca("flag"));
        assert_eq!(decided(nothing(), with(A, "file"), Some(with(B, "named"))), ca("named"));
    }

    #[test]
    fn an_empty_token_is_none_and_a_wrong_address_is_said() {
        assert_eq!(decided(("", " \n"), ("", " env\n"), ("", ""), None).1, "env");
        assert!(decide(said("10.0.0.1:9900", ""), Said::default(), Filed::default()).is_err());
        assert!(decide(Said::default(), said("ftp://x", ""), Filed::default()).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_said_a_token_goes_where_its_source_says(
            places in collection::vec((option::of(0..2_usize), bool::ANY), 4),
            is_named in bool::ANY,
        ) {
            let addresses = [A, B];
            let admin = |place: usize| places[place].0.map_or("", |address| addresses[address]);
            let token = |place: usize| if places[place].1 { ["flag", "env", "file", "named"][place] } else { "" };
            let all: Vec<_> = (0..4).map(|place| (admin(place), token(place))).collect();
            let (address, shown) = decided(all[0], all[1], all[2], is_named.then_some(all[3]));
            // The parts of the file are for one address, even where they leave it out.
            let only_for = match shown.as_str() {
                "env" if !admin(1).is_empty() => Some(admin(1)),
                "file" => Some(if admin(2).is_empty() { USUAL } else { admin(2) }),
                "named" => Some(if admin(3).is_empty() { USUAL } else { admin(3) }),
                _ => None,
            };
            prop_assert!(only_for.is_none_or(|only| only == address), "{shown} was shown to {address}");
            prop_assert!(shown == "flag" || token(0).is_empty(), "a flag counts first");
        }
    }
}
