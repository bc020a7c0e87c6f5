//! Giving up root, for good.
//!
//! Files below the data and state folders belong to user `postern`, and mail users can write some of them.
//! Root therefore does no work there: it opens what only root can open, becomes the folder's owner and then
//! works. No name is resolved; the folder itself says whose it is.

use crate::error::{Error, Result};
use nix::libc;
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid, setgid, setgroups, setuid};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Makes a process of root's one of the folder's owner, in user, group and without further groups, so that it
/// can never be root again. Does nothing where the caller is not root or the folder is root's own.
///
/// Fails with [`Error::File`] where the folder cannot be examined, with [`Error::System`] where a call fails,
/// with [`Error::NotAllowed`] where something of root would be left. After an error the process must end: it
/// may have lost a part of its rights only.
pub fn become_owner_of(folder: &Path) -> Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let about = std::fs::metadata(folder).map_err(Error::file("examine", folder))?;
    let (user, group) = (Uid::from_raw(about.uid()), Gid::from_raw(about.gid()));
    if user.is_root() {
        return Ok(());
    }
    if group.as_raw() == 0 {
        let folder = folder.display();
        return Err(Error::NotAllowed(format!(
            "{folder} belongs to user {user} but to root's group: give it to the user's own group first."
        )));
    }
    become_for_good(user, group)
}

/// Makes a process of root's one of this user, as [`become_owner_of`] does; neither number may be root's.
pub fn become_user(user: u32, group: u32) -> Result<()> {
    if user == 0 || group == 0 {
        return Err(Error::NotAllowed(format!(
            "User {user} of group {group} has something of root's: give Postern a user of its own (`postern init --user`)."
        )));
    }
    become_for_good(Uid::from_raw(user), Gid::from_raw(group))
}

/// Whether files are opened with root's rights at the moment. A hook that could not give them up must not
/// open what mail users can write. Async-signal-safe.
pub fn opens_files_as_root() -> bool {
    // SAFETY: plain numbers. -1 is no user, so nothing changes, and the call tells whose rights are used now
    // (setfsuid(2)).
    unsafe { libc::setfsuid(libc::uid_t::MAX) == 0 }
}

/// In this order: once the user is gone, the groups could not be given up any more.
fn become_for_good(user: Uid, group: Gid) -> Result<()> {
    let failed = |doing: String| move |e: nix::Error| Error::system(doing)(e.into());
    setgroups(&[]).map_err(failed("give up root's further groups".to_owned()))?;
    setgid(group).map_err(failed(format!("become group {group}")))?;
    setuid(user).map_err(failed(format!("become user {user}")))?;
    let users = getresuid().map_err(failed("read the own user".to_owned()))?;
    let groups = getresgid().map_err(failed("read the own group".to_owned()))?;
    let further = getgroups().map_err(failed("read the own groups".to_owned()))?;
    let is_whole = [users.real, users.effective, users.saved] == [user; 3]
        && [groups.real, groups.effective, groups.saved] == [group; 3]
        && further.iter().all(|g| *g == group);
    if !is_whole || setuid(Uid::from_raw(0)).is_ok() {
        return Err(Error::NotAllowed(format!(
            "Something of root was left after becoming user {user}, so nothing was done."
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;
    use std::process::Command;
    use tempfile::TempDir;

    const FOLDER: &str = "POSTERN_TEST_BECOME_OWNER_OF";

    /// Runs the test below in a process of its own, because what it does cannot be undone.
    fn in_a_child(folder: &Path) -> String {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--nocapture", "authority::tests::child", "--test-threads=1"]);
        let output = child.env(FOLDER, folder).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn child() {
        let Some(folder) = std::env::var_os(FOLDER) else { return };
        let outcome = become_owner_of(Path::new(&folder)).map_err(|e| e.to_string());
        let (uid, gid) = (Uid::current(), Gid::current());
        println!("outcome {outcome:?} as {uid}:{gid} with {} groups", getgroups().unwrap().len());
        let file = Path::new(&folder).join("made");
        println!("owner {:?}", std::fs::write(&file, "").map(|()| file.metadata().unwrap().uid()));
    }

    #[test]
    fn root_becomes_the_owner_of_the_folder() {
        if !Uid::effective().is_root() {
            return;
        }
        let folder = TempDir::new().unwrap();
        chown(folder.path(), Some(12345), Some(12346)).unwrap();
        let said = in_a_child(folder.path());
        assert!(said.contains("outcome Ok(()) as 12345:12346 with 0 groups"), "{said}");
        assert!(said.contains("owner Ok(12345)"), "{said}");
    }

    #[test]
    fn root_stays_root_for_a_folder_of_its_own() {
        if !Uid::effective().is_root() {
            return;
        }
        let folder = TempDir::new().unwrap();
        assert!(in_a_child(folder.path()).contains("outcome Ok(()) as 0:0"));
    }

    #[test]
    fn a_folder_of_roots_group_is_refused_before_anything_is_given_up() {
        if !Uid::effective().is_root() {
            return;
        }
        let folder = TempDir::new().unwrap();
        chown(folder.path(), Some(12345), Some(0)).unwrap();
        let said = in_a_child(folder.path());
        assert!(said.contains("root's group") && said.contains("as 0:0"), "{said}");
    }

    #[test]
    fn a_missing_folder_is_an_error_for_root() {
        if Uid::effective().is_root() {
            assert_eq!(become_owner_of(Path::new("/nonexistent/folder")).unwrap_err().code(), "file");
        }
    }
}
