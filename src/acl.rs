//! POSIX access control lists of Postern's own files, written as the kernel keeps them.
//!
//! The mail servers' users share the state and read the policy, and belong to no common group that their
//! servers would keep (Dovecot drops supplementary groups). The C library for ACLs cannot be linked into a
//! static program, so the extended attribute is written here: a version word, then entries of tag,
//! permissions and number, little-endian (`include/uapi/linux/posix_acl_xattr.h` of the kernel; acl(5)).

use crate::error::{Error, Result};
use nix::libc;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;

const READ: u16 = 4;
const READ_ENTER: u16 = 5;
const READ_WRITE: u16 = 6;
const READ_WRITE_ENTER: u16 = 7;

/// Lets these users read the file; owner reads and writes, its group reads, others nothing.
pub fn set_readers(file: &File, path: &Path, uids: &[u32]) -> Result<()> {
    set(file, path, c"system.posix_acl_access", &list(READ_WRITE, READ, READ, uids))
}

/// Lets these users read and write the file, as its owner and group do.
pub fn set_sharers(file: &File, path: &Path, uids: &[u32]) -> Result<()> {
    set(file, path, c"system.posix_acl_access", &list(READ_WRITE, READ_WRITE, READ_WRITE, uids))
}

/// Lets these users enter the folder and see what is in it; its group, too, and others not.
pub fn set_entered_folder(folder: &File, path: &Path, uids: &[u32]) -> Result<()> {
    set(folder, path, c"system.posix_acl_access", &list(READ_WRITE_ENTER, READ_ENTER, READ_ENTER, uids))
}

/// Lets these users work in the folder, and gives every file that is made there the same rights.
pub fn set_shared_folder(folder: &File, path: &Path, uids: &[u32]) -> Result<()> {
    let list = list(READ_WRITE_ENTER, READ_WRITE_ENTER, READ_WRITE_ENTER, uids);
    set(folder, path, c"system.posix_acl_access", &list)?;
    set(folder, path, c"system.posix_acl_default", &list)
}

/// Owner, named users (ascending, as the kernel demands), group, mask, others.
fn list(owner: u16, group: u16, named: u16, uids: &[u32]) -> Vec<u8> {
    let mut uids = uids.to_vec();
    uids.sort_unstable();
    uids.dedup();
    let mut bytes = VERSION.to_le_bytes().to_vec();
    let mut entry = |tag: u16, permissions: u16, id: u32| {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    };
    entry(USER_OBJ, owner, NO_ID);
    uids.iter().for_each(|uid| entry(USER, named, *uid));
    entry(GROUP_OBJ, group, NO_ID);
    entry(MASK, group | named, NO_ID);
    entry(OTHER, 0, NO_ID);
    bytes
}

/// On the open file, so that nobody can lay another one under its name; the path is for the error.
fn set(file: &File, path: &Path, attribute: &std::ffi::CStr, value: &[u8]) -> Result<()> {
    // SAFETY: an open descriptor, a C string of our own, and a buffer as long as we say.
    let done = unsafe {
        libc::fsetxattr(file.as_raw_fd(), attribute.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    if done == 0 {
        return Ok(());
    }
    Err(Error::file("set the access list of", path)(std::io::Error::last_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_the_kernels_form() {
        let bytes = list(6, READ, READ, &[103, 7, 103]);
        assert_eq!(bytes.len(), 4 + 8 * 6);
        assert_eq!(&bytes[..4], &[2, 0, 0, 0]);
        assert_eq!(&bytes[12..20], &[2, 0, 4, 0, 7, 0, 0, 0]);
        assert_eq!(&bytes[20..28], &[2, 0, 4, 0, 103, 0, 0, 0]);
    }

    #[test]
    fn the_kernel_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        set_shared_folder(&File::open(dir.path()).unwrap(), dir.path(), &[1, 2]).unwrap();
        let path = dir.path().join("file");
        set_readers(&File::create(&path).unwrap(), &path, &[3]).unwrap();
        assert!(
            set_shared_folder(&File::open(&path).unwrap(), &path, &[3]).is_err(),
            "a file has no default list"
        );
    }
}
