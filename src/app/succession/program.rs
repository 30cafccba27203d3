//! Which program a successor is started from.
//!
//! Invariant: a path that came by the admin API is run only if nobody but root and the owner of this process could have
//! put there what is run: who may call the API must not gain another user's rights by it.

use std::{
    env, fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use crate::control::succession::SuccessionError;

/// Others than owner and group may write.
const OTHERS_WRITE: u32 = 0o002;
/// The group may write.
const GROUP_WRITES: u32 = 0o020;
/// Anybody may run it.
const EXECUTABLE: u32 = 0o111;

/// The program of the successor: the one that is asked for, if it can be run, or that of this process, as it is found at
/// its path now.
pub(super) fn chosen(asked: Option<PathBuf>) -> Result<PathBuf, SuccessionError> {
    let path = match asked {
        None => own(),
        Some(path) => {
            let is_ours = |why: &str| SuccessionError::Binary { path: path.clone(), why: why.to_owned() };
            if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
                return Err(is_ours("it is not an absolute path"));
            }
            check_owner(&path).map_err(|why| is_ours(&why))?;
            path
        }
    };
    match check(&path) {
        Ok(()) => Ok(path),
        Err(why) => Err(SuccessionError::Binary { path, why }),
    }
}

/// The path that this process was started from. What `/proc` says of it would be the file of then, even if another one
/// has taken its place.
fn own() -> PathBuf {
    let named = PathBuf::from(env::args_os().next().unwrap_or_default());
    let found = if named.as_os_str().as_bytes().contains(&b'/') {
        std::path::absolute(&named).ok()
    } else {
        let folders = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&folders).map(|folder| folder.join(&named)).find(|path| check(path).is_ok())
    };
    found.or_else(|| env::current_exe().ok()).unwrap_or(named)
}

fn check(path: &Path) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    if metadata.mode() & EXECUTABLE == 0 {
        return Err("it is not executable: chmod 755".to_owned());
    }
    Ok(())
}

/// Looks at the file and at every folder above it, with links resolved.
fn check_owner(path: &Path) -> Result<(), String> {
    let whole = fs::canonicalize(path).map_err(|error| error.to_string())?;
    let us = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    for part in whole.ancestors() {
        let metadata = fs::metadata(part).map_err(|error| error.to_string())?;
        let shown = part.display();
        if ![0, us].contains(&metadata.uid()) {
            return Err(format!(
                "{shown} belongs to another user than root and the one that Switchback runs as"
            ));
        }
        // In a folder like /tmp nobody can move what is another's.
        let is_kept = metadata.is_dir() && metadata.mode() & rustix::fs::Mode::SVTX.as_raw_mode() != 0;
        let is_open = metadata.mode() & OTHERS_WRITE != 0
            || (metadata.mode() & GROUP_WRITES != 0 && ![0, group].contains(&metadata.gid()));
        if is_open && !is_kept {
            return Err(format!("other users may write {shown}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn refused(path: &str) -> String {
        chosen(Some(path.into())).unwrap_err().to_string()
    }

    #[test]
    fn a_path_that_can_t_be_run_is_refused_with_the_reason() {
        assert!(refused("target/switchback").contains("not an absolute path"));
        assert!(refused("/no/such/file").contains("No such file"));
        assert!(refused("/usr").contains("not a file"));
        assert!(refused("/etc/passwd").contains("not executable"));
        assert!(chosen(Some("/bin/sh".into())).is_ok());
        assert!(chosen(None).unwrap().is_absolute());
    }

    #[test]
    fn what_others_may_have_put_there_is_refused() {
        let folder = env::temp_dir().join(format!("switchback-program-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("switchback");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&path, 0o755);
        mode(&folder, 0o755);
        assert!(chosen(Some(path.clone())).is_ok());
        mode(&path, 0o757);
        assert!(refused(path.to_str().unwrap()).contains("other users may write"));
        mode(&path, 0o755);
        mode(&folder, 0o777);
        assert!(refused(path.to_str().unwrap()).contains("other users may write"));
        mode(&folder, 0o1777);
        assert!(chosen(Some(path)).is_ok(), "its entries are their owners'");
        fs::remove_dir_all(folder).unwrap();
    }
}
