//! The data directory: its rights, its lock and the seed.

use ldk_node::bip39::Mnemonic;
use rustix::fs::FlockOperation;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const SEED: &str = "seed";
const LOCK: &str = "lock";

/// The data directory, for as long as this process has it to itself.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    // Two nodes with one key and one store would lose their channels' money.
    _lock: File,
}

impl Home {
    /// Makes the directory if it is missing, and takes it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn open(dir: &Path) -> Result<Self, String> {
        let wrong = |e: std::io::Error| format!("cannot use {}: {e}", dir.display());
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(wrong)?;
        let found = std::fs::metadata(dir).map_err(wrong)?;
        if found.mode() & 0o077 != 0 {
            let path = dir.display();
            return Err(format!("others may read {path}, which holds keys: chmod 700 {path}"));
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(dir.join(LOCK)).map_err(wrong)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            format!("{} is in use: another blvm-mesh-lightning runs there", dir.display())
        })?;
        Ok(Self { dir: dir.into(), _lock: lock })
    }

    /// The seed, made at the first start.
    ///
    /// # Errors
    /// That it cannot be read or written, or that it is missing beside a node's `store`.
    pub(crate) fn seed(&self, store: &str) -> Result<Mnemonic, String> {
        let path = self.dir.join(SEED);
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|e| wrong(&e)),
            Err(e) if e.kind() != ErrorKind::NotFound => Err(wrong(&e)),
            Err(_) if self.dir.join(store).exists() => {
                Err(wrong(&"is missing beside the node that it made: put it back from its backup"))
            }
            Err(_) => {
                let seed = ldk_node::generate_entropy_mnemonic(None);
                write_new(&path, &format!("{seed}\n")).map_err(|e| wrong(&e))?;
                Ok(seed)
            }
        }
    }
}

/// Writes a file that was not there, readable by its user alone, whole or not at all.
pub(crate) fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut scratch = path.as_os_str().to_owned();
    scratch.push(".new");
    let scratch = PathBuf::from(scratch);
    // What a crash has left is no more than half of one.
    match std::fs::remove_file(&scratch) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&scratch)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // Unlike a rename, a link does not replace what is there.
    let linked = std::fs::hard_link(&scratch, path);
    std::fs::remove_file(&scratch)?;
    linked?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_directory_is_private_and_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let home = Home::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert!(Home::open(&path).unwrap_err().contains("in use"));
        drop(home);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o750)).unwrap();
        assert!(Home::open(&path).unwrap_err().contains("chmod 700"));
    }

    #[test]
    fn the_seed_is_made_once_and_not_beside_an_old_node() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let home = Home::open(dir.path()).unwrap();
        let seed = home.seed("store").unwrap();
        assert_eq!(seed.word_count(), 24);
        assert_eq!(std::fs::metadata(dir.path().join(SEED)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(home.seed("store").unwrap(), seed);
        std::fs::remove_file(dir.path().join(SEED)).unwrap();
        std::fs::write(dir.path().join("store"), "").unwrap();
        assert!(home.seed("store").unwrap_err().contains("backup"));
        assert!(!dir.path().join(SEED).exists());
    }

    #[test]
    fn nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write_new(&path, "1").unwrap();
        assert_eq!(write_new(&path, "2").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
