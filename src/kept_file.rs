//! Small files in a folder that is one user's alone: read up to a bound, replaced whole.

use crate::error::{Error, Result};
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes a folder that nobody else enters, where it is missing.
pub(crate) fn own_folder(folder: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(Error::file("make", folder)(e)),
        _ => Ok(()),
    }
}

/// Takes a lock that ends with the handle. Where another has it, waits, or gives none where the caller `leaves`.
pub(crate) fn lock(path: &Path, leaves: bool) -> Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(Error::file("open", path))?;
    match (file.try_lock(), leaves) {
        (Ok(()), _) => Ok(Some(file)),
        (Err(TryLockError::WouldBlock), true) => Ok(None),
        (Err(TryLockError::WouldBlock), false) => {
            file.lock().map_err(Error::file("lock", path))?;
            Ok(Some(file))
        }
        (Err(TryLockError::Error(source)), _) => Err(Error::file("lock", path)(source)),
    }
}

/// Reads a file of so many bytes at most.
pub(crate) fn read_up_to(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Writes a file beside and puts it, stored, in the place of the one that is there.
pub(crate) fn replace(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<()> {
    let new = path.with_extension("new");
    let written = || -> Result<()> {
        let _ = std::fs::remove_file(&new);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new);
        let mut file = file.map_err(Error::file("create", &new))?;
        file.set_permissions(Permissions::from_mode(mode)).map_err(Error::file("set the mode of", &new))?;
        write(&mut file).and_then(|()| file.sync_all()).map_err(Error::file("write", &new))?;
        std::fs::rename(&new, path).map_err(Error::file("replace", path))
    };
    written().inspect_err(|_| {
        let _ = std::fs::remove_file(&new);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all_and_read_up_to_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own/file.json");
        own_folder(path.parent().unwrap()).unwrap();
        own_folder(path.parent().unwrap()).unwrap();
        replace(&path, 0o600, |file| file.write_all(b"one")).unwrap();
        let failed =
            replace(&path, 0o600, |file| file.write_all(b"t").and(Err(ErrorKind::StorageFull.into())));
        assert!(failed.is_err());
        assert_eq!(read_up_to(&path, 3).unwrap(), b"one");
        assert_eq!(read_up_to(&path, 2).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn one_has_the_lock_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = lock(&path, true).unwrap();
        assert!(first.is_some() && lock(&path, true).unwrap().is_none());
        drop(first);
        assert!(lock(&path, false).unwrap().is_some());
    }
}
