//! Postern's folders: each with its owner, mode and access list. README, "Files", says who writes what.

use crate::acl;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::store::settings::Host;
use nix::libc;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// Makes every folder, and puts right what it finds wrong. For root.
pub fn make_all(paths: &Paths, host: &Host) -> Result<()> {
    for path in [paths.etc(), paths.lib()] {
        folder(&path, 0o755, Some((0, 0)))?;
    }
    let postern = Some((host.postern_uid, host.postern_gid));
    folder(&paths.data(), 0o755, postern)?;
    for path in [paths.state_dir(), paths.tally_dir()] {
        let made = folder(&path, 0o2770, postern)?;
        acl::set_shared_folder(&made, &path, &host.mail_uids)?;
    }
    make_run(paths, host)
}

/// Puts owner and rights of the state's files right, where they are there. For root, while this process has
/// none of them open.
///
/// Mail users can write their folder, so only what cannot be somebody else's file is given away: a plain file
/// that is opened without following a link and has no other name.
pub fn mend_state(paths: &Paths, host: &Host) -> Result<()> {
    let mut files = vec![paths.state(), paths.state_lock(), crate::tally::current(paths)];
    files.extend(["-wal", "-shm"].map(|side| paths.state_dir().join(format!("state.db{side}"))));
    for path in files {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(&path) else { continue };
        let found = file.metadata().map_err(Error::file("examine", &path))?;
        if found.is_file() && found.nlink() == 1 {
            fchown(&file, Some(host.postern_uid), Some(host.postern_gid))
                .map_err(Error::file("give away", &path))?;
            acl::set_shared_file(&file, &path, &host.mail_uids)?;
        }
    }
    Ok(())
}

/// `/run/postern`, which is gone after each start of the machine.
pub fn make_run(paths: &Paths, host: &Host) -> Result<()> {
    folder(&paths.run(), 0o755, Some((0, 0)))?;
    let path = paths.trouble();
    let made = folder(&path, 0o2770, Some((host.postern_uid, host.postern_gid)))?;
    acl::set_shared_folder(&made, &path, &host.mail_uids)
}

/// Opened without following a link, and only then changed: mail users can write the folder above the tally's,
/// and must not be able to lay a link there for root to work on.
fn folder(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<File> {
    if std::fs::symlink_metadata(path).is_err() {
        DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(Error::file("make", path))?;
    }
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder =
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| match e.raw_os_error() {
            Some(libc::ENOTDIR | libc::ELOOP) => {
                Error::State(format!("{} is in the way: it is no folder.", path.display()))
            }
            _ => Error::file("open", path)(e),
        })?;
    if let Some((uid, gid)) = owner {
        fchown(&folder, Some(uid), Some(gid)).map_err(Error::file("give away", path))?;
    }
    folder.set_permissions(Permissions::from_mode(mode)).map_err(Error::file("set the mode of", path))?;
    Ok(folder)
}
