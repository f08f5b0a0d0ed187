//! Headers in a file, 80 bytes each: the first record names the checkpoint that they follow.
//! Whatever is in it is checked when it is read, so that nothing needs to be written in one piece.

use super::root::Root;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a header.
pub(super) const RECORD: usize = 80;

/// Number `n` of the headers is record `n + 1`.
#[derive(Debug)]
pub(super) struct HeaderFile {
    file: File,
    len: u32,
}

fn place(number: u32) -> u64 {
    (u64::from(number) + 1) * RECORD as u64
}

impl HeaderFile {
    /// Opens the file, or makes it. Headers that follow another checkpoint are cut off.
    pub(super) fn open(path: &Path, root: &Root) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        let record = root.record();
        let mut first = [0; RECORD];
        let same = file.read_exact_at(&mut first, 0).is_ok() && first == record;
        if !same {
            file.set_len(0)?;
            file.write_all_at(&record, 0)?;
        }
        let records = file.metadata()?.len() / RECORD as u64;
        let len = u32::try_from(records.saturating_sub(1)).unwrap_or(u32::MAX);
        Ok(Self { file, len })
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Reads headers from this number on, as many as there is room for.
    pub(super) fn read(&self, number: u32, into: &mut [[u8; RECORD]]) -> io::Result<()> {
        self.file.read_exact_at(into.as_flattened_mut(), place(number))
    }

    /// Forgets all but the first so many.
    pub(super) fn truncate(&mut self, len: u32) -> io::Result<()> {
        self.file.set_len(place(len))?;
        self.len = self.len.min(len);
        Ok(())
    }

    /// Appends headers: all of them, or none.
    pub(super) fn append(&mut self, headers: &[[u8; RECORD]]) -> io::Result<()> {
        let count = u32::try_from(headers.len()).map_err(io::Error::other)?;
        let len = self.len.checked_add(count).ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.write_all_at(headers.as_flattened(), place(self.len))?;
        self.len = len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::Network;

    #[test]
    fn headers_are_kept_until_the_checkpoint_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("headers");
        let root = Root::of(Network::Regtest);
        let mut file = HeaderFile::open(&path, &root).unwrap();
        file.append(&[[1; 80], [2; 80], [3; 80]]).unwrap();
        file.truncate(2).unwrap();
        file.append(&[[4; 80]]).unwrap();
        // A torn write.
        file.file.write_all_at(&[9; 79], place(3)).unwrap();
        let file = HeaderFile::open(&path, &root).unwrap();
        let mut read = [[0; 80]; 3];
        file.read(0, &mut read).unwrap();
        assert_eq!((file.len(), read), (3, [[1; 80], [2; 80], [4; 80]]));
        assert!(file.read(1, &mut read).is_err());
        let other = Root::of(Network::Signet);
        assert_eq!(HeaderFile::open(&path, &other).unwrap().len(), 0);
    }

    #[test]
    fn a_full_disk_changes_nothing() {
        let root = Root::of(Network::Regtest);
        let file = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        let mut full = HeaderFile { file, len: 0 };
        assert!(full.append(&[[1; 80]]).is_err());
        assert_eq!(full.len(), 0);
        assert!(HeaderFile::open(Path::new("/dev/full"), &root).is_err());
    }
}
