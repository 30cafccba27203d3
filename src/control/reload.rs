//! Follows the configuration file: an edit is in force within a second, whichever way the editor wrote it.
//!
//! The folder is watched, since most edits replace the file rather than write to it (editors rename, Kubernetes swaps a link of
//! the folder). Some file systems tell nothing, and a link may lead elsewhere, so the file is looked at twice a second, too.
//! Whatever the sign was, it is the content that counts.
//!
//! Invariant: a file is loaded when it has stood still for [`SETTLES_WITHIN`], so that one that is being written is not taken
//! for whole; one that is wrong changes nothing.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::Watcher as _;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    change::{Change, Origin},
    command::Command,
    declaration::Source,
    events::Event,
    file::{self, File, LoadError},
    handle::{Control, ControlError, Expected, Request},
};

/// How often the file is looked at, whatever the system tells.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a file that has changed is left to settle.
const SETTLES_WITHIN: Duration = Duration::from_millis(100);
/// How often it is left to: one that never stands still is read all the same, or it would never be.
const MOST_SETTLING: u32 = 4;
/// What could not be made durable is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What can be told of a file without reading it: the identity, size and times of all that it was read from.
type Signs = Vec<Result<Sign, io::ErrorKind>>;

/// Device, number, size, and the times of the last change of content and of anything.
type Sign = (u64, u64, u64, (i64, i64), (i64, i64));

/// Follows the file until the control plane ends.
pub async fn follow(file: File, control: Control) {
    let (heard, mut edits) = mpsc::channel(1);
    let _watcher = watched(file.path(), heard);
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    let mut again_at: Option<Instant> = None;
    loop {
        let is_asked = tokio::select! {
            () = file.asked() => true,
            Some(()) = edits.recv() => false,
            _ = looks.tick() => false,
        };
        let mut signs = signs(&file, &control).await;
        if seen.as_ref() == Some(&signs) && !is_asked && again_at.is_none_or(|at| Instant::now() < at) {
            continue;
        }
        if !is_asked {
            signs = settled(&file, &control, signs).await;
        }
        let result = load(&file, &control).await;
        if let Err(LoadError::Control(ControlError::Stopped)) = result {
            return;
        }
        let is_passing = matches!(&result, Err(LoadError::Control(error)) if may_pass(error));
        again_at = is_passing.then(|| Instant::now() + AGAIN_AFTER);
        // A successor reads the file itself; if it never serves, the file is read again here.
        let is_ours = !matches!(result, Err(LoadError::Control(ControlError::HandedOver)));
        // At the start it is what is in force already.
        let is_news = seen.is_some() || !matches!(&result, Ok(change) if !change.changed());
        if is_ours && is_news {
            let before = file.trouble();
            file.note(result.as_ref());
            let now = file.trouble();
            if now != before {
                control.events().tell(Event::File { error: now.map(|trouble| trouble.detail.clone()) });
            }
        }
        seen = Some(signs);
    }
}

/// Whether an attempt that failed so may succeed with the same file.
fn may_pass(error: &ControlError) -> bool {
    use ControlError::{Busy, HandedOver, Moved, NotKept};
    matches!(error, NotKept(_) | Busy | HandedOver | Moved(_))
}

/// Reads the file, and puts it in force if it says anything new; or else what a file that was applied refers to.
async fn load(file: &File, control: &Control) -> Result<Change, LoadError> {
    let (config, warnings) = file.read().await?;
    let command = Command::Load { config, source: Source::Disk };
    let change = control.change(Request::new(command, Origin::File.into())).await?;
    if change.changed() {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        return Ok(change);
    }
    Ok(load_applied(control).await?.unwrap_or(change))
}

/// Has a file that was applied, if one is in force, follow what it refers to.
async fn load_applied(control: &Control) -> Result<Option<Change>, LoadError> {
    let in_force = control.snapshot();
    if !in_force.state.declaration().is_applied() || in_force.config.references.is_empty() {
        return Ok(None);
    }
    let (config, _) = file::checked(in_force.config.text.to_string(), &in_force).await?;
    let mut request = Request::new(Command::Load { config, source: Source::Applied }, Origin::File.into());
    // Whatever was applied meanwhile is newer than this text.
    request.expected = Some(Expected { object: None, revisions: vec![in_force.state.revision()] });
    Ok(Some(control.change(request).await?))
}

/// Waits until the file stands still, and answers its signs then.
async fn settled(file: &File, control: &Control, mut signs: Signs) -> Signs {
    for _ in 0..MOST_SETTLING {
        sleep(SETTLES_WITHIN).await;
        let now = self::signs(file, control).await;
        if now == signs {
            break;
        }
        signs = now;
    }
    signs
}

/// The signs of the file, and of those that it refers to.
async fn signs(file: &File, control: &Control) -> Signs {
    let snapshot = control.snapshot();
    let referred = snapshot.config.references.iter().flat_map(|reference| reference.files());
    let paths: Vec<PathBuf> =
        std::iter::once(file.path().to_owned()).chain(referred.map(PathBuf::from)).collect();
    let look = move || paths.iter().map(|path| sign(path)).collect();
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

fn sign(path: &Path) -> Result<Sign, io::ErrorKind> {
    let found = fs::metadata(path).map_err(|error| error.kind())?;
    let (modified, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    Ok((found.dev(), found.ino(), found.len(), modified, changed))
}

/// Watches the folder of a file, as long as the answer lives.
fn watched(path: &Path, heard: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let tell = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| event.kind.is_access()) {
            return;
        }
        // One that waits to be heard is as good as many.
        let _ = heard.try_send(());
    };
    let watcher = notify::recommended_watcher(tell).and_then(|mut watcher| {
        watcher.watch(folder, notify::RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(
            |error| tracing::warn!(%error, "the file's folder can't be watched; the file is looked at"),
        )
        .ok()
}
