//! Makes a store where there is none: whole or not at all, and marked where one was lost.

use super::{Disk, Store, StoreError};
use crate::private_file::{directory, sync_dir};
use blvm_mesh_core::id::NodeId;
use redb::Builder;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Makes an empty store at this path if there is no file, or an empty one. Nobody else makes
/// one in that directory while the file that is returned is open.
pub(super) fn make(
    path: &Path,
    cache_bytes: usize,
    of: Option<(&NodeId, bool)>,
) -> Result<File, StoreError> {
    let io = |e: io::Error| StoreError::Io { path: path.into(), reason: e.to_string() };
    let dir = directory(path);
    let lock = File::open(dir).map_err(io)?;
    // A file system without locks does without.
    let _ = flock(&lock, FlockOperation::LockExclusive);
    let was_there = match fs::metadata(path) {
        Ok(found) if found.len() > 0 => return Ok(lock),
        Ok(_) => true,
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(io(e)),
    };
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    if fs::remove_file(&new).is_ok() {
        tracing::warn!("{} was left half made, and is made anew", new.display());
    }
    let lost = was_there || of.is_some_and(|(_, is_new)| !is_new);
    let made = empty(&new, cache_bytes, of.map(|(id, _)| id), lost)
        .and_then(|()| fs::rename(&new, path).and_then(|()| sync_dir(dir)).map_err(io));
    if let Err(error) = made {
        let _ = fs::remove_file(&new);
        return Err(match error {
            StoreError::Damaged { reason, .. } | StoreError::Io { reason, .. } => {
                let reason = format!("it cannot be made: {reason}");
                StoreError::Io { path: path.into(), reason }
            }
            other => other,
        });
    }
    Ok(lock)
}

fn empty(
    path: &Path,
    cache_bytes: usize,
    of: Option<&NodeId>,
    lost: bool,
) -> Result<(), StoreError> {
    let io = |e: io::Error| StoreError::Io { path: path.into(), reason: e.to_string() };
    let file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let name = path.to_owned();
    let disk: Disk =
        Box::new(move |builder: &mut Builder| builder.set_cache_size(cache_bytes).create(&name));
    let store = Store::build(path, disk)?;
    store.prepare(of, lost)?;
    drop(store);
    file.sync_all().map_err(io)
}
