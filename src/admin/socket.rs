//! Where the admin API is reached: a loopback address, or a unix socket that only its owner may open.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use socket2::{Domain, SockRef};

/// A listening socket of the admin API, not yet part of a runtime.
#[derive(Debug)]
pub enum Socket {
    /// On an address.
    Tcp(TcpListener),
    /// On a path.
    Unix(UnixListener, SocketFile),
}

/// Where the admin API is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// An address.
    Tcp(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The file of a unix socket; if it is ours it is removed with this, unless another process has put its own in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
    owner: Owner,
}

/// Who removes the file of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// This process.
    Us,
    /// The process that has made it, unless this one comes to serve in its place.
    Predecessor,
    /// Nobody here: a service manager, or a successor.
    Another,
}

/// Who has opened a socket that this process has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver {
    /// The process that is to be replaced by this one.
    Predecessor,
    /// A service manager, whose socket outlives every process that serves it.
    ServiceManager,
}

/// Why the admin API can't listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, or not ours.
    #[error("the admin API can't listen on {address}{}", hint(source))]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Another process answers on the socket.
    #[error("the admin API can't listen on {}: another process answers there", .0.display())]
    InUse(PathBuf),
    /// A file is there that is no socket, so it is not ours to remove.
    #[error("the admin API can't listen on {}: a file that is not a socket is there", .0.display())]
    NotASocket(PathBuf),
    /// The socket could not be made.
    #[error("the admin API can't listen on {}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a socket that another process has opened can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// It is a unix socket where the file names an address, or the other way round.
    #[error("it is of another kind than the file says")]
    Kind,
    /// The one that is to be in its place can't be made.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system fails.
    #[error(transparent)]
    System(#[from] io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (is another instance running?)",
        _ => "",
    }
}

impl Socket {
    /// Listens on an address; port 0 takes any.
    pub fn tcp(address: SocketAddr) -> Result<Self, BindError> {
        let bind = || {
            // The standard library sets SO_REUSEADDR, so a restart need not wait for old connections.
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(Self::Tcp(listener))
        };
        bind().map_err(|source| BindError::Address { address, source })
    }

    /// Listens on a path. A socket that a dead process left there is replaced.
    pub fn unix(path: &Path) -> Result<Self, BindError> {
        let failed = |source| BindError::Path { path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(BindError::NotASocket(path.to_owned()));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(BindError::InUse(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let (listener, inode) = bind_privately(path).map_err(failed)?;
        Ok(Self::Unix(listener, SocketFile { path: path.to_owned(), inode, owner: Owner::Us }))
    }

    /// A listening socket that another process has opened, at `path` if it is a unix socket. The kernel knows it by the
    /// path at which it was made. A predecessor's whose file is gone can't be reached by anybody: another one is made.
    pub fn inherited(socket: OwnedFd, path: Option<&Path>, giver: Giver) -> Result<Self, InheritError> {
        match (SockRef::from(&socket).domain()? == Domain::UNIX, path) {
            (false, None) => {
                let listener = TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            (true, Some(path)) => {
                let listener = UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                match (SocketFile::of(path, giver), giver) {
                    (Ok(file), _) => Ok(Self::Unix(listener, file)),
                    (Err(error), Giver::Predecessor) if error.kind() == io::ErrorKind::NotFound => {
                        tracing::warn!(path = %path.display(), "the admin API's socket was removed; it is made anew");
                        Ok(Self::unix(path)?)
                    }
                    (Err(error), _) => Err(error.into()),
                }
            }
            _ => Err(InheritError::Kind),
        }
    }

    /// A second hold on the same socket, for a successor.
    pub fn hold(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => Ok(listener.try_clone()?.into()),
            Self::Unix(listener, _) => Ok(listener.try_clone()?.into()),
        }
    }

    /// Who has opened it, if a service manager has.
    pub fn is_of_service_manager(&self) -> bool {
        matches!(self, Self::Unix(_, SocketFile { owner: Owner::Another, .. }))
    }

    /// The path, if any user of the machine may connect there.
    pub fn open_to_all(&self) -> Option<&Path> {
        let Self::Unix(_, file) = self else { return None };
        let is_open = |there: fs::Metadata| there.mode() & 0o002 != 0;
        fs::symlink_metadata(&file.path).is_ok_and(is_open).then_some(&file.path)
    }

    /// Where it is reached.
    pub fn bound(&self) -> io::Result<Bound> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Bound::Tcp),
            Self::Unix(_, file) => Ok(Bound::Unix(file.path.clone())),
        }
    }
}

/// Makes the socket in a folder that nobody else can enter, gives it its permissions and only then moves it to its
/// place: so there is no moment at which another user could open it, and a stale one is replaced in one step.
fn bind_privately(path: &Path) -> io::Result<(UnixListener, u64)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let private = parent.join(format!(".sb{:x}-{number:x}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let made = (|| {
        let at = private.join("s");
        let listener = UnixListener::bind(&at)?;
        fs::set_permissions(&at, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let inode = fs::symlink_metadata(&at)?.ino();
        fs::rename(&at, path)?;
        Ok((listener, inode))
    })();
    // Whatever became of the socket, the folder is not needed any more.
    let _ = fs::remove_dir_all(&private);
    made
}

impl SocketFile {
    fn of(path: &Path, giver: Giver) -> io::Result<Self> {
        let inode = fs::symlink_metadata(path)?.ino();
        let owner = match giver {
            Giver::Predecessor => Owner::Predecessor,
            Giver::ServiceManager => Owner::Another,
        };
        Ok(Self { path: path.to_owned(), inode, owner })
    }

    /// Leaves the file to a successor.
    pub fn leave(mut self) {
        self.owner = Owner::Another;
    }

    /// Removes the file: this process has served, and ends in order. What a service manager has made stays.
    pub fn remove(mut self) {
        if self.owner == Owner::Predecessor {
            self.owner = Owner::Us;
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_there = || fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode);
        if self.owner == Owner::Us && is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}
