//! Files with a secret: written whole or not at all, readable by their owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most bytes read of a secret file.
const MAX_LEN: u64 = 4096;

/// Why a file with a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// Others than the owner may read or write it.
    #[error(
        "{path} can be read or changed by others (mode {mode:03o}): take their rights away \
         with `chmod 600 {path}`; if somebody else may have seen it, make a new one",
        path = .path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is there already.
    #[error("{} exists already and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// Reading or writing failed.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl PrivateFileError {
    /// Whether the file is just not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Makes a directory that only its owner may enter, with its parents, where it
/// is not there yet.
pub(crate) fn create_dir(path: &Path) -> Result<(), PrivateFileError> {
    let result = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    result.map_err(at(path))
}

/// Permission bits of a file or directory.
pub(crate) fn rights(path: &Path) -> Result<u32, PrivateFileError> {
    Ok(fs::metadata(path).map_err(at(path))?.mode() & 0o777)
}

/// Where a file is.
pub(crate) fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Reads a file that others must not be able to read; at most 4096 bytes.
///
/// # Errors
/// [`PrivateFileError::TooOpen`] where they can.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, PrivateFileError> {
    let file = File::open(path).map_err(at(path))?;
    let mode = file.metadata().map_err(at(path))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::TooOpen { path: path.into(), mode });
    }
    let mut bytes = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut bytes).map_err(at(path))?;
    Ok(bytes)
}

/// Writes a new file with mode 0600. After a crash at any moment it is there
/// with all its bytes or not there.
///
/// # Errors
/// [`PrivateFileError::Exists`] where it is there; it is left as it is.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), PrivateFileError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| at(path)(e.into()))?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", hex::encode(random)));
    let temporary = path.with_file_name(name);
    let result = write_new(&temporary, bytes).and_then(|()| {
        // Unlike a rename this fails where the file is there.
        fs::hard_link(&temporary, path)
    });
    let _ = fs::remove_file(&temporary);
    match result {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return Err(PrivateFileError::Exists(path.into()));
        }
        other => other.map_err(at(path))?,
    }
    let dir = directory(path);
    sync_dir(dir).map_err(at(dir))
}

/// Writes a file with mode 0600 in place of what is there. After a crash at any moment it has its old
/// content or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    // A crash may have left one.
    let _ = fs::remove_file(&new);
    write_new(&new, bytes)?;
    fs::rename(&new, path)?;
    sync_dir(directory(path))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> PrivateFileError {
    let path = path.to_path_buf();
    move |error| PrivateFileError::Io { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn written_for_the_owner_only_and_never_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(read(&path).unwrap_err().is_not_found());
        create(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(matches!(create(&path, b"two"), Err(PrivateFileError::Exists(_))));
        assert_eq!(read(&path).unwrap(), b"one");
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file is left");
    }

    #[test]
    fn replaced_whole_over_what_a_crash_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        fs::write(path.with_extension("new"), b"half").unwrap();
        for content in [b"one", b"two"] {
            replace(&path, content).unwrap();
            assert_eq!(read(&path).unwrap(), content);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        assert!(replace(&dir.path().join("none/record"), b"one").is_err());
    }

    #[test]
    fn a_file_open_to_others_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        create(&path, b"one").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
            assert!(error.contains(&format!("mode {mode:o}")), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(read(&path).unwrap(), b"one");
    }

    #[test]
    fn of_many_at_once_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let dir_path = dir.path().join("deep/er");
        create_dir(&dir_path).unwrap();
        assert_eq!(fs::metadata(&dir_path).unwrap().mode() & 0o7777, 0o700);
        let path = dir_path.join("secret");
        let run = &|i: u8| create(&path, &[i; 1000]).map(|()| i);
        let won: Vec<u8> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|i| scope.spawn(move || run(i))).collect();
            threads.into_iter().filter_map(|t| t.join().unwrap().ok()).collect()
        });
        assert_eq!(won.len(), 1);
        assert_eq!(read(&path).unwrap(), [won[0]; 1000]);
    }
}
