//! Files in folders that others can write, too: the state's, the tally's, the trouble marks'.
//!
//! Mail users can lay anything there under any name, at any moment. So nothing is followed, nothing is waited
//! for, and a file counts as ours only by what its open descriptor says. For user `postern`; root works in no
//! such folder.

use crate::error::{Error, Result};
use nix::libc;
use nix::unistd::geteuid;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What lies under a name.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A plain file of the caller's own, under this name alone.
    Own(File),
    /// Anything else: a link, a folder, somebody else's file, one that cannot be opened.
    Foreign,
}

/// Opens what lies there for reading, if it is a plain file of the caller's own.
pub fn own_file(path: &Path) -> Found {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Found::Nothing,
        Err(_) => return Found::Foreign,
    };
    let is_own = |m: std::fs::Metadata| m.is_file() && m.nlink() == 1 && m.uid() == geteuid().as_raw();
    if file.metadata().is_ok_and(is_own) { Found::Own(file) } else { Found::Foreign }
}

/// Opens a folder of the caller's own, following no link.
pub fn own_folder(path: &Path) -> Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder =
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(Error::file("open", path))?;
    let owner = folder.metadata().map_err(Error::file("examine", path))?.uid();
    if owner == geteuid().as_raw() {
        return Ok(folder);
    }
    Err(Error::NotAllowed(format!("{} belongs to user {owner}.", path.display())))
}

/// Takes away what lies under a name; a folder that is not empty is given another name beside it, which is
/// told. Nothing in it is touched.
pub fn out_of_the_way(path: &Path) -> Result<Option<PathBuf>> {
    for taken_away in [std::fs::remove_file(path), std::fs::remove_dir(path)] {
        match taken_away {
            Err(e) if e.kind() != ErrorKind::NotFound => {}
            _ => return Ok(None),
        }
    }
    let aside = path.with_file_name(format!("in-the-way-{:010x}", crate::call::random_bits() >> 24));
    std::fs::rename(path, &aside).map_err(Error::file("move out of the way", path))?;
    Ok(Some(aside))
}

/// Which file a name leads to at the moment: device and number.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_plain_file_under_one_name_is_ones_own() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(matches!(own_file(&at("none")), Found::Nothing));
        fs::write(at("plain"), "x").unwrap();
        assert!(matches!(own_file(&at("plain")), Found::Own(_)));
        symlink(at("plain"), at("link")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["link", "folder", "pipe"] {
            assert!(matches!(own_file(&at(name)), Found::Foreign), "{name}");
        }
        fs::hard_link(at("plain"), at("second")).unwrap();
        assert!(matches!(own_file(&at("plain")), Found::Foreign));
        assert!(own_folder(&at("folder")).is_ok() && own_folder(&at("link")).is_err());
    }

    #[test]
    fn whatever_is_in_the_way_goes_and_a_full_folder_keeps_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        let outside = dir.path().join("outside");
        fs::write(&outside, "precious").unwrap();
        assert_eq!(out_of_the_way(&path).unwrap(), None);
        fs::write(&path, "").unwrap();
        assert_eq!(out_of_the_way(&path).unwrap(), None);
        symlink(&outside, &path).unwrap();
        assert_eq!(out_of_the_way(&path).unwrap(), None);
        fs::create_dir(&path).unwrap();
        assert_eq!(out_of_the_way(&path).unwrap(), None);
        assert!(fs::symlink_metadata(&path).is_err());
        fs::create_dir_all(path.join("deep")).unwrap();
        let aside = out_of_the_way(&path).unwrap().unwrap();
        assert!(aside.join("deep").is_dir() && fs::symlink_metadata(&path).is_err());
        assert_eq!(fs::read(&outside).unwrap(), b"precious");
    }
}
