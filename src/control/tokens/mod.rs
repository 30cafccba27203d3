//! The tokens that are in force: read from their file, looked at again and again, changed in it and nowhere else.
//!
//! Invariant: nothing that goes wrong with the file makes a token count that did not. A file that is malformed, can't be
//! read or may be written by others leaves the tokens in force that were; one that is gone leaves none.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::time::MissedTickBehavior;

pub use self::file::EditError;
use crate::model::{
    name::Name,
    role::Role,
    tokens::{InvalidTokens, Refused, Secret, Token, TokenFault, Tokens},
};

pub mod file;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a change of it is left to settle: who writes it in place may be in the middle.
const SETTLES_WITHIN: Duration = Duration::from_millis(100);
/// How long the file system may take to write it.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// The tokens of a file.
#[derive(Debug)]
pub struct TokenBook {
    path: PathBuf,
    held: ArcSwap<Held>,
    /// Held while the file is read or written and what it said is put in force: what was read earlier never
    /// replaces what was written later.
    turn: Mutex<()>,
}

/// What is in force, and what the file said last.
#[derive(Debug)]
struct Held {
    tokens: Arc<Tokens>,
    seen: Seen,
    standing: Standing,
}

/// What the file held, or why it could not be read; `None` is no file.
type Seen = Result<Option<String>, String>;

/// What is to be said of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// What it says is in force.
    InForce,
    /// It is not there, so no token counts.
    Gone,
    /// It is wrong, so what it said before is in force.
    Refused(String),
}

/// Why a file of tokens can't be used at the start.
#[derive(Debug, thiserror::Error)]
#[error("the tokens in {} are refused: {why}", path.display())]
pub struct TokenFileError {
    path: PathBuf,
    why: String,
}

impl TokenBook {
    /// Reads the tokens of a file. One that is not there holds none.
    pub fn open(path: &Path) -> Result<Arc<Self>, TokenFileError> {
        let nothing = Held { tokens: Arc::default(), seen: Ok(None), standing: Standing::Gone };
        let book =
            Self { path: path.to_owned(), held: ArcSwap::from_pointee(nothing), turn: Mutex::default() };
        let seen = file::read(path).map_err(|error| error.to_string());
        if seen == Ok(None) {
            tracing::error!(
                file = %path.display(),
                "the file of tokens is not there, so nobody may call the admin API: make a token with `switchback token new`"
            );
        } else {
            book.take(seen);
        }
        match book.standing() {
            Standing::Refused(why) => Err(TokenFileError { path: path.to_owned(), why }),
            Standing::InForce | Standing::Gone => Ok(Arc::new(book)),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is to be said of the file.
    pub fn standing(&self) -> Standing {
        self.held.load().standing.clone()
    }

    /// The tokens in force, expired ones among them.
    pub fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.held.load().tokens)
    }

    /// The token that was presented.
    pub fn find(&self, presented: &[u8], now: SystemTime) -> Result<Token, Refused> {
        self.held.load().tokens.find(presented, now).cloned()
    }

    /// Looks at the file again and again, so that tokens come and go without a restart. Never ends.
    pub async fn follow(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let book = Arc::clone(&self);
            // On a thread of its own: a file system that hangs must not hold up the control plane.
            if let Err(error) = tokio::task::spawn_blocking(move || book.look()).await {
                tracing::error!(%error, "the file of tokens could not be looked at");
            }
        }
    }

    /// Adds a new token to the file, and answers it with the token itself.
    pub async fn add(
        self: &Arc<Self>,
        name: Option<Name>,
        role: Role,
        lasts: Option<Duration>,
    ) -> Result<(Secret, Token), EditError> {
        let (secret, token) = make(name, role, lasts)?;
        let kept = token.clone();
        self.edit(move |tokens| tokens.with(kept)).await?;
        Ok((secret, token))
    }

    /// Takes a token out of the file. It counts no more when this returns.
    pub async fn revoke(self: &Arc<Self>, name: String) -> Result<(), EditError> {
        self.edit(move |tokens| tokens.without(&name)).await
    }

    async fn edit(
        self: &Arc<Self>,
        change: impl FnOnce(Tokens) -> Result<Tokens, TokenFault> + Send + 'static,
    ) -> Result<(), EditError> {
        let book = Arc::clone(self);
        let edited = tokio::task::spawn_blocking(move || {
            let _turn = book.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let text = file::edit(&book.path, change)?;
            book.take(Ok(Some(text)));
            Ok(())
        });
        match tokio::time::timeout(WRITE_WITHIN, edited).await {
            Ok(Ok(edited)) => edited,
            Ok(Err(error)) => Err(EditError::io(&self.path, std::io::Error::other(error))),
            Err(_) => Err(EditError::io(&self.path, std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// Looks at the file once, and takes what it says if that is new.
    fn look(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || file::read(&self.path).map_err(|error| error.to_string());
        let found = read();
        if found == self.held.load().seen {
            return;
        }
        std::thread::sleep(SETTLES_WITHIN);
        if read() == found {
            self.take(found);
        }
    }

    /// Takes what the file says and is something new.
    fn take(&self, seen: Seen) {
        let file = self.path.display();
        let before = self.tokens();
        let parsed = seen.as_ref().map(|text| text.as_deref().map(Tokens::parse));
        let (tokens, standing) = match parsed {
            Ok(Some(Ok(tokens))) => {
                tracing::info!(%file, tokens = tokens.iter().count(), "the tokens of the admin API are in use");
                if file::is_readable_by_others(&self.path) {
                    tracing::warn!(%file, "others than its owner may read who may call the admin API: chmod 600");
                }
                (Arc::new(tokens), Standing::InForce)
            }
            Ok(None) => {
                tracing::error!(%file, "the file of tokens is gone; no token counts until it is back");
                (Arc::default(), Standing::Gone)
            }
            Ok(Some(Err(error))) => (before, refused(&file, error)),
            Err(error) => {
                tracing::error!(%file, %error, "the file of tokens can't be used; the old ones stay");
                (before, Standing::Refused(error.clone()))
            }
        };
        self.held.store(Arc::new(Held { tokens, seen, standing }));
    }
}

fn refused(file: &dyn std::fmt::Display, error: InvalidTokens) -> Standing {
    tracing::error!(%file, %error, "the file of tokens is malformed; the old ones stay");
    Standing::Refused(error.to_string())
}

/// Makes a token; one without a name gets one by its role.
pub fn make(
    name: Option<Name>,
    role: Role,
    lasts: Option<Duration>,
) -> Result<(Secret, Token), getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    let secret = Secret::of(&random);
    let name = match name {
        Some(name) => name,
        None => {
            let mut few = [0; 3];
            getrandom::fill(&mut few)?;
            let [one, two, three] = few;
            Name::new(&format!("{role}-{one:02x}{two:02x}{three:02x}")).expect("a role and hex are a name")
        }
    };
    let created = SystemTime::now();
    // As the file has it, which knows whole seconds.
    let whole = |at: SystemTime| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
    };
    let expires = lasts.map(|lasts| whole(created + lasts));
    let token = Token::new(&secret, name, role, whole(created), expires);
    Ok((secret, token))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_wrong_file_leaves_the_tokens_and_one_that_is_gone_leaves_none() {
        let folder = file::tests::Folder::new("standing");
        let path = folder.0.join("tokens.toml");
        let book = TokenBook::open(&path).unwrap();
        assert_eq!(book.standing(), Standing::Gone);
        let (secret, token) = make(None, Role::Viewer, None).unwrap();
        file::edit(&path, |tokens| tokens.with(token)).unwrap();
        let counts = || book.find(secret.reveal().as_bytes(), SystemTime::now()).is_ok();
        assert!(!counts());
        book.look();
        assert!(counts() && book.standing() == Standing::InForce);
        let good = fs::read(&path).unwrap();
        for bad in [&b"[[token]]\nname = 1\n"[..], b"\xff", b"garbage"] {
            fs::write(&path, bad).unwrap();
            book.look();
            assert!(counts() && matches!(book.standing(), Standing::Refused(_)), "{bad:?}");
            assert!(TokenBook::open(&path).is_err(), "a start with it is refused: {bad:?}");
        }
        fs::remove_file(&path).unwrap();
        book.look();
        assert!(!counts() && book.standing() == Standing::Gone);
        fs::write(&path, &good).unwrap();
        book.look();
        assert!(counts());
        fs::write(&path, "").unwrap();
        book.look();
        assert!(!counts() && book.standing() == Standing::InForce, "an empty file is a good one");
    }

    #[tokio::test]
    async fn what_the_api_changes_counts_at_once() {
        let folder = file::tests::Folder::new("edit");
        let book = TokenBook::open(&folder.0.join("tokens.toml")).unwrap();
        let (secret, token) = book.add(None, Role::Admin, Some(Duration::from_secs(60))).await.unwrap();
        assert!(token.name.as_str().starts_with("admin-"), "{}", token.name);
        let found = book.find(secret.reveal().as_bytes(), SystemTime::now());
        assert_eq!(found.as_ref(), Ok(&token), "what is kept reads back from the file to the second");
        book.look();
        assert_eq!(book.find(secret.reveal().as_bytes(), SystemTime::now()), found);
        book.revoke(token.name.to_string()).await.unwrap();
        assert!(book.find(secret.reveal().as_bytes(), SystemTime::now()).is_err());
        let again = book.revoke(token.name.to_string()).await;
        assert!(matches!(again, Err(EditError::Fault(TokenFault::Unknown))));
    }
}
