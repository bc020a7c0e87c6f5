//! Postern's folders: each with its owner, mode and access list. README, "Files", says who writes what.

use crate::acl;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::store::settings::Host;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;

/// Makes every folder, and puts right what it finds wrong. For root.
pub fn make_all(paths: &Paths, host: &Host) -> Result<()> {
    for path in [paths.etc(), paths.lib()] {
        folder(&path, 0o755, Some((0, 0)))?;
    }
    let postern = Some((host.postern_uid, host.postern_gid));
    folder(&paths.data(), 0o755, postern)?;
    for path in [paths.state_dir(), paths.tally_dir()] {
        folder(&path, 0o2770, postern)?;
        acl::set_shared_folder(&path, &host.mail_uids)?;
    }
    make_run(paths, host)
}

/// `/run/postern`, which is gone after each start of the machine.
pub fn make_run(paths: &Paths, host: &Host) -> Result<()> {
    folder(&paths.run(), 0o755, Some((0, 0)))?;
    folder(&paths.trouble(), 0o2770, Some((host.postern_uid, host.postern_gid)))?;
    acl::set_shared_folder(&paths.trouble(), &host.mail_uids)
}

fn folder(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<()> {
    let found = std::fs::symlink_metadata(path);
    match found {
        Ok(meta) if !meta.is_dir() => {
            return Err(Error::State(format!("{} is in the way: it is no folder.", path.display())));
        }
        Ok(_) => {}
        Err(_) => {
            DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(Error::file("make", path))?
        }
    }
    if let Some((uid, gid)) = owner {
        chown(path, Some(uid), Some(gid)).map_err(Error::file("give away", path))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::file("set the mode of", path))
}
