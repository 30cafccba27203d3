//! Which program a successor is started from.
//!
//! Invariant: what came by the admin API is run only if nobody but root and the owner of this process could have put it
//! there, before it is looked at or after: who may call the API must not gain another user's rights by it.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Component, Path, PathBuf},
};

use crate::control::succession::SuccessionError;

/// Others than the owner may write.
const WRITABLE: u32 = 0o022;
/// Anybody may run it.
const EXECUTABLE: u32 = 0o111;
/// The links that a path may lead through, as with the kernel.
const MOST_LINKS: u32 = 40;

/// A program that can be run.
#[derive(Debug)]
pub(super) struct Program {
    /// The path by which it is known, from which the next successor is started, too.
    pub(super) path: PathBuf,
    /// What is run: where that path led when it was looked at.
    pub(super) file: PathBuf,
}

/// The program of the successor: the one that is asked for, if it can be run, or that of this process, as it is found at
/// its path now.
pub(super) fn chosen(asked: Option<PathBuf>) -> Result<Program, SuccessionError> {
    let (path, followed) = match asked {
        None => {
            let own = own();
            (own.clone(), Ok(own))
        }
        Some(path) if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) => {
            (path, Err("it is not an absolute path".to_owned()))
        }
        Some(path) => {
            let followed = followed(&path);
            (path, followed)
        }
    };
    match followed.and_then(|file| check(&file).map(|()| file)) {
        Ok(file) => Ok(Program { path, file }),
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

/// Follows a path to the file that it leads to, link by link, and looks at everything on the way: the folders of links as
/// well as those of the file. What this answers has no links, so that it leads to the same file for as long as nobody but
/// root and the owner of this process moves anything.
fn followed(path: &Path) -> Result<PathBuf, String> {
    let mut whole = PathBuf::from("/");
    look_at(&whole)?;
    let mut left: Vec<OsString> = parts(path);
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == ".." {
            whole.pop();
            continue;
        }
        let next = whole.join(part);
        if !look_at(&next)?.is_symlink() {
            whole = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err("it is a link to a link, and so on, without end".to_owned());
        }
        let target = fs::read_link(&next).map_err(|error| error.to_string())?;
        if target.is_absolute() {
            whole = PathBuf::from("/");
        }
        left.extend(parts(&target));
    }
    Ok(whole)
}

/// The parts of a path but for the root, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev();
    let parts = parts.filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.map(|part| part.as_os_str().to_owned()).collect()
}

/// Looks at one part of the way, a link as such; an error if others could have put it there, or could put another in it.
fn look_at(part: &Path) -> Result<fs::Metadata, String> {
    let metadata = fs::symlink_metadata(part).map_err(|error| format!("{}: {error}", part.display()))?;
    let us = rustix::process::geteuid().as_raw();
    if ![0, us].contains(&metadata.uid()) {
        let shown = part.display();
        return Err(format!("{shown} belongs to another user than root and the one that Switchback runs as"));
    }
    // In a folder like /tmp nobody can move what is another's.
    let is_kept = metadata.is_dir() && metadata.mode() & rustix::fs::Mode::SVTX.as_raw_mode() != 0;
    // The mode of a link means nothing. Where a file has an access list, its users are in the group's bits.
    let is_open = !metadata.is_symlink() && metadata.mode() & WRITABLE != 0;
    if is_open && !is_kept {
        return Err(format!("other users may write {0}: chmod go-w {0}", part.display()));
    }
    Ok(metadata)
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
        assert!(chosen(None).unwrap().path.is_absolute());
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
        mode(&path, 0o775);
        assert!(refused(path.to_str().unwrap()).contains("other users may write"), "the group, too");
        mode(&path, 0o755);
        for open in [0o777, 0o775] {
            mode(&folder, open);
            assert!(refused(path.to_str().unwrap()).contains("other users may write"));
        }
        mode(&folder, 0o1777);
        assert!(chosen(Some(path)).is_ok(), "its entries are their owners'");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_link_is_followed_once_and_its_own_folder_is_looked_at_too() {
        let folder = env::temp_dir().join(format!("switchback-links-{}", std::process::id()));
        let (kept, open) = (folder.join("kept"), folder.join("open"));
        [&folder, &kept, &open].iter().for_each(|made| fs::create_dir_all(made).unwrap());
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        [&folder, &kept].iter().for_each(|made| mode(made, 0o755));
        mode(&open, 0o777);
        let file = kept.join("switchback");
        fs::write(&file, "#!/bin/sh\n").unwrap();
        mode(&file, 0o755);
        let link = |at: &Path, to: &str| std::os::unix::fs::symlink(to, at).unwrap();
        link(&kept.join("link"), "../kept/./switchback");
        let found = chosen(Some(kept.join("link"))).unwrap();
        let file = fs::canonicalize(file).unwrap();
        assert_eq!((found.path, found.file), (kept.join("link"), file.clone()));
        // Whoever may write the folder may have the link lead elsewhere as soon as it was looked at.
        link(&open.join("link"), file.to_str().unwrap());
        assert!(refused(open.join("link").to_str().unwrap()).contains("may write"));
        link(&kept.join("by way of it"), "../open/link");
        assert!(refused(kept.join("by way of it").to_str().unwrap()).contains("may write"));
        link(&kept.join("circle"), "circle");
        assert!(refused(kept.join("circle").to_str().unwrap()).contains("without end"));
        fs::remove_dir_all(folder).unwrap();
    }
}
