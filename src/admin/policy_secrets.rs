//! The secrets of Dovecot's policy door: its key, and the part of Dovecot's configuration that holds it.
//!
//! They lie in `/etc/postern`, which is root's own. The key is for the programs that answer Dovecot; the
//! configuration is for root alone, and Dovecot pulls it in by `!include_try`, so that `doveconf` goes on working for
//! users who may not read it: for them there is no policy server.

use crate::door::policy::chained::Chained;
use crate::door::policy::{KEY_HEADER, PORT};
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::store::settings::Host;
use nix::libc;
use std::fs::{File, OpenOptions, Permissions, rename};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Bytes of chance in a secret.
const STRENGTH: usize = 32;

/// For the programs that answer, besides root.
const SHARED: u32 = 0o640;

/// For root alone.
const OWN: u32 = 0o600;

/// Makes what is missing and puts owners and rights right; tells where Dovecot must be reloaded. For root.
pub(super) fn make(paths: &Paths, host: &Host) -> Result<Option<String>> {
    let group = host.postern_gid;
    let key = match read(&paths.policy_key())? {
        Some(text) if !text.trim().is_empty() => {
            give(&paths.policy_key(), SHARED, group)?;
            text.trim().to_owned()
        }
        _ => {
            let key = random()?;
            write(&paths.policy_key(), &format!("{key}\n"), SHARED, group)?;
            key
        }
    };
    let chained = Chained::read(&paths.chained_policy_url())?;
    if chained.is_some() {
        give(&paths.chained_policy_url(), SHARED, group)?;
    }
    let file = paths.dovecot_policy_conf();
    let before = read(&file)?.unwrap_or_default();
    let text = configuration(&key, chained.is_some(), &nonce_of(&before, random)?);
    if before == text {
        give(&file, OWN, 0)?;
        return Ok(None);
    }
    write(&file, &text, OWN, 0)?;
    let told = "is new: where Dovecot's policy snippet is in place, reload Dovecot.";
    Ok((!before.is_empty()).then(|| format!("{} {told}", file.display())))
}

/// What Dovecot reads. A chained server has the one header that Dovecot can send, and the hash is its own too; so the
/// key is a part of the path there.
fn configuration(key: &str, chained: bool, nonce: &str) -> String {
    let head = "# Written by `postern init`; see Postern's snippets for Dovecot's policy server.\n";
    match chained {
        true => format!("{head}auth_policy_server_url = http://127.0.0.1:{PORT}/{key}\n"),
        false => format!(
            "{head}auth_policy_server_url = http://127.0.0.1:{PORT}/\nauth_policy_server_api_header = {KEY_HEADER}: {key}\n{NONCE}{nonce}\n"
        ),
    }
}

const NONCE: &str = "auth_policy_hash_nonce = ";

/// The nonce that is in use: hashes of the same password stay the same.
fn nonce_of(text: &str, new: impl FnOnce() -> Result<String>) -> Result<String> {
    match text.lines().find_map(|line| line.strip_prefix(NONCE)) {
        Some(nonce) if !nonce.trim().is_empty() => Ok(nonce.trim().to_owned()),
        _ => new(),
    }
}

fn random() -> Result<String> {
    let (source, mut bytes) = (Path::new("/dev/urandom"), [0; STRENGTH]);
    let read = File::open(source).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(Error::file("read", source))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file("read", path)(e)),
    }
}

/// By rename, so that nobody reads a half, and with its rights from the beginning.
fn write(path: &Path, text: &str, mode: u32, group: u32) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::file("remove", &new)(e)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWN)
        .open(&new)
        .map_err(Error::file("make", &new))?;
    fchown(&file, Some(0), Some(group)).map_err(Error::file("give away", &new))?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(Error::file("set the mode of", &new))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(Error::file("write", &new))?;
    rename(&new, path).map_err(Error::file("replace", path))
}

fn give(path: &Path, mode: u32, group: u32) -> Result<()> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let file = file.map_err(Error::file("open", path))?;
    let meta = file.metadata().map_err(Error::file("examine", path))?;
    if (meta.uid(), meta.gid(), meta.mode() & 0o7777) == (0, group, mode) {
        return Ok(());
    }
    fchown(&file, Some(0), Some(group)).map_err(Error::file("give away", path))?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(Error::file("set the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> Option<(tempfile::TempDir, Paths, Host)> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.etc()).unwrap();
        Some((dir, paths, Host { postern_uid: 61000, postern_gid: 61000, mail_uids: vec![61001] }))
    }

    fn rights(path: &Path) -> (u32, u32, u32) {
        let meta = path.symlink_metadata().unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    }

    fn text(path: PathBuf) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_secrets_are_made_once_and_a_second_run_puts_their_rights_right() {
        let Some((_dir, paths, host)) = scene() else { return };
        assert_eq!(make(&paths, &host).unwrap(), None);
        let (key, configuration) = (text(paths.policy_key()), text(paths.dovecot_policy_conf()));
        assert_eq!(key.trim().len(), 2 * STRENGTH);
        assert!(configuration.contains(key.trim()) && configuration.contains(NONCE), "{configuration}");
        for path in [paths.policy_key(), paths.dovecot_policy_conf()] {
            std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        }
        assert_eq!(make(&paths, &host).unwrap(), None);
        assert_eq!((key, configuration), (text(paths.policy_key()), text(paths.dovecot_policy_conf())));
        assert_eq!(rights(&paths.policy_key()), (0, 61000, 0o640));
        assert_eq!(rights(&paths.dovecot_policy_conf()), (0, 0, 0o600));
    }

    #[test]
    fn a_new_key_leaves_the_nonce_as_it_is_and_asks_for_a_reload() {
        let Some((_dir, paths, host)) = scene() else { return };
        make(&paths, &host).unwrap();
        let nonce = |text: &str| nonce_of(text, || Ok("none".into())).unwrap();
        let before = text(paths.dovecot_policy_conf());
        std::fs::remove_file(paths.policy_key()).unwrap();
        assert!(make(&paths, &host).unwrap().unwrap().contains("reload Dovecot"));
        let after = text(paths.dovecot_policy_conf());
        assert_ne!(before, after);
        assert_eq!(nonce(&before), nonce(&after));
        assert_ne!(nonce(&after), "none");
    }

    #[test]
    fn beside_a_chained_server_the_key_is_a_part_of_the_path_and_nothing_else_is_set() {
        let Some((_dir, paths, host)) = scene() else { return };
        std::fs::write(paths.chained_policy_url(), "http://127.0.0.1:579/dovecot-auth-policy\n").unwrap();
        make(&paths, &host).unwrap();
        let key = text(paths.policy_key());
        let configuration = text(paths.dovecot_policy_conf());
        assert!(configuration.ends_with(&format!("_url = http://127.0.0.1:{PORT}/{key}")), "{configuration}");
        assert_eq!(configuration.matches('=').count(), 1, "{configuration}");
        assert_eq!(rights(&paths.chained_policy_url()), (0, 61000, 0o640));
        std::fs::write(paths.chained_policy_url(), "http://192.0.2.1/").unwrap();
        assert_eq!(make(&paths, &host).unwrap_err().code(), "bad_value");
    }
}
