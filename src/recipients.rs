//! Who the recipients of a message are, as far as limits of sending ask: on this server or elsewhere, and the same ones
//! as before or new ones.
//!
//! `recipients.bin` lies beside the policy and is root's: a key, and the domains of this server as the panel knows them,
//! each as a hash by that key, ascending. The key is kept as long as the file, so that the same recipient has the same
//! hash tomorrow, and it is not known to those who send: nobody can choose recipients whose hashes are alike.

use crate::account::lower_case;
use crate::acl;
use crate::call::random_bits;
use crate::decide::limits::Weight;
use crate::error::{Error, Result};
use crate::idn;
use crate::kept_file;
use crate::networks::map_file;
use crate::panel;
use crate::paths::Paths;
use crate::store::settings::Host;
use maxminddb::Mmap;
use nix::unistd::geteuid;
use siphasher::sip::SipHasher24;
use std::fs::File;
use std::hash::Hasher;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::chown;
use std::path::Path;

/// What the file begins with.
const MAGIC: &[u8; 16] = b"postern recip 1\n";

const KEY: usize = 16;

/// Where the hashes begin.
const HEAD: usize = MAGIC.len() + KEY;

/// Longest text of recipients that is read, in bytes. A mail server's question has room for some more.
pub const LONGEST: usize = 4000;

/// The recipients that a mail server names in one text, with commas, in lower case. Of a text that was cut the last is
/// left out, since half a name is another one.
pub fn named(text: &str) -> Vec<String> {
    let cut = text.floor_char_boundary(LONGEST);
    let mut names: Vec<&str> = text[..cut].split(',').map(str::trim).collect();
    if text.len() >= LONGEST {
        names.pop();
    }
    names.into_iter().filter(|name| !name.is_empty()).map(lower_case).collect()
}

/// The file, mapped into memory.
#[derive(Debug)]
pub struct Recipients {
    map: Mmap,
}

impl Recipients {
    /// Opens the file; none where there is none.
    ///
    /// Fails with [`Error::File`] where it cannot be opened, with [`Error::Data`] where it is not Postern's.
    pub fn open(path: &Path) -> Result<Option<Recipients>> {
        let map = match map_file(path, "The file of recipients") {
            Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if map.len() < HEAD || !map.starts_with(MAGIC) || !(map.len() - HEAD).is_multiple_of(8) {
            let damaged = format!(
                "The file {} is damaged: remove it, and `postern tick` makes it anew.",
                path.display()
            );
            return Err(Error::Data(damaged));
        }
        Ok(Some(Recipients { map }))
    }

    /// What a message to so many adds to limits, of whom these are named.
    pub fn weigh(&self, count: u32, named: &[String]) -> Weight {
        let named = &named[..named.len().min(count as usize)];
        let mut weight = Weight { nameless: i64::from(count) - named.len() as i64, ..Weight::default() };
        for name in named {
            match self.is_local(name) {
                true => weight.local += 1,
                false => weight.hashes.push(folded(self.hash(name))),
            }
        }
        weight.recipients = i64::from(count) - weight.local;
        weight.hashes.sort_unstable();
        weight.hashes.dedup();
        weight
    }

    /// Whether mail for this recipient stays here: a local user, or of one of this server's domains.
    fn is_local(&self, name: &str) -> bool {
        let Some((_, domain)) = name.rsplit_once('@') else { return true };
        match domain.is_ascii() {
            true => self.has(domain),
            false => idn::ascii(domain).is_some_and(|domain| self.has(&domain)),
        }
    }

    fn has(&self, domain: &str) -> bool {
        let wanted = self.hash(domain);
        let domains = &self.map[HEAD..];
        let at = |n: usize| domains.get(n * 8..n * 8 + 8).map_or(0, number);
        let (mut low, mut high) = (0, domains.len() / 8);
        while low < high {
            let middle = low + (high - low) / 2;
            if at(middle) < wanted { low = middle + 1 } else { high = middle }
        }
        low < domains.len() / 8 && at(low) == wanted
    }

    fn hash(&self, text: &str) -> u64 {
        hash(&self.key(), text)
    }

    fn key(&self) -> [u8; KEY] {
        self.map.get(MAGIC.len()..HEAD).and_then(|key| key.try_into().ok()).unwrap_or_default()
    }
}

/// What a message to so many adds to limits where nothing is known of them: each one is new, and elsewhere.
pub fn unknown(count: u32) -> Weight {
    Weight { recipients: count.into(), nameless: count.into(), ..Weight::default() }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

fn hash(key: &[u8; KEY], text: &str) -> u64 {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(text.as_bytes());
    hasher.finish()
}

fn folded(hash: u64) -> u32 {
    u32::try_from(hash & 0xffff_ffff).unwrap_or_default()
}

/// Writes the file where it is missing or the panel knows other domains by now; tells whether it did. For root.
///
/// Fails where a panel's records cannot be read: what was known stays.
pub fn publish(paths: &Paths, host: &Host) -> Result<bool> {
    let path = paths.recipients();
    // One that is damaged is made anew.
    let before = Recipients::open(&path).ok().flatten();
    let key = before.as_ref().map_or_else(new_key, Recipients::key);
    let mut domains: Vec<u64> = domains(paths)?.iter().map(|domain| hash(&key, domain)).collect();
    domains.sort_unstable();
    domains.dedup();
    let mut bytes = MAGIC.to_vec();
    bytes.extend(key);
    domains.iter().for_each(|hash| bytes.extend(hash.to_le_bytes()));
    if before.is_some_and(|before| before.map[..] == bytes[..]) {
        return Ok(false);
    }
    kept_file::replace(&path, 0o600, |file| {
        file.write_all(&bytes)?;
        give(file, &path, host).map_err(std::io::Error::other)
    })?;
    Ok(true)
}

fn give(file: &File, path: &Path, host: &Host) -> Result<()> {
    if geteuid().is_root() {
        let new = path.with_extension("new");
        chown(&new, Some(0), Some(host.postern_gid)).map_err(Error::file("give away", &new))?;
    }
    acl::set_readers(file, path, &host.mail_uids)
}

fn new_key() -> [u8; KEY] {
    let mut key = [0; KEY];
    for part in key.chunks_mut(4) {
        part.copy_from_slice(&random_bits().to_le_bytes()[..part.len()]);
    }
    key
}

/// The domains of this server; none on a server without a panel whose administrator wrote none down.
fn domains(paths: &Paths) -> Result<Vec<String>> {
    let panel = panel::of_this_server(paths);
    let records = match panel.records(paths) {
        Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound && !panel.is_a_panel() => {
            return Ok(Vec::new());
        }
        other => other?,
    };
    Ok(panel.owners(&records)?.all_domains().map(lower_case).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(domains: &str) -> (tempfile::TempDir, Recipients) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.lib()).unwrap();
        std::fs::create_dir_all(paths.etc()).unwrap();
        std::fs::write(paths.owners(), domains).unwrap();
        let host = Host { postern_gid: nix::unistd::getegid().as_raw(), ..Host::default() };
        assert!(publish(&paths, &host).unwrap());
        assert!(!publish(&paths, &host).unwrap(), "the same again");
        let recipients = Recipients::open(&paths.recipients()).unwrap().unwrap();
        (dir, recipients)
    }

    #[test]
    fn recipients_on_this_server_are_told_from_others_and_the_same_one_has_the_same_hash() {
        let (_dir, here) = of("example.org: ann\nexample.net: bob\nxn--bcher-kva.example: ann\n");
        let weigh = |count, text: &str| here.weigh(count, &named(text));
        let weight = weigh(4, "a@Example.ORG, b@far.test, B@FAR.test, c@far.test");
        assert_eq!((weight.local, weight.recipients, weight.hashes.len(), weight.nameless), (1, 3, 2, 0));
        assert_eq!(weigh(1, "b@far.test").hashes, weigh(1, "B@far.TEST").hashes);
        assert_eq!(weigh(3, "root, x@bücher.example, y@xn--bcher-kva.example").local, 3);
        let nobody = weigh(7, "");
        assert_eq!((nobody.local, nobody.recipients, nobody.nameless), (0, 7, 7));
    }

    #[test]
    fn the_key_stays_and_the_domains_follow_the_panel() {
        let (dir, before) = of("example.org: ann\n");
        let paths = Paths::below(dir.path());
        let hash = before.weigh(1, &named("b@far.test")).hashes;
        std::fs::write(paths.owners(), "far.org: ann\n").unwrap();
        let host = Host { postern_gid: nix::unistd::getegid().as_raw(), ..Host::default() };
        assert!(publish(&paths, &host).unwrap());
        let now = Recipients::open(&paths.recipients()).unwrap().unwrap();
        assert_eq!(now.weigh(1, &named("b@far.test")).hashes, hash);
        assert_eq!((now.has("example.org"), now.has("far.org")), (false, true));
    }

    #[test]
    fn a_file_that_is_not_whole_is_refused_and_made_anew() {
        let (dir, _) = of("example.org: ann\n");
        let paths = Paths::below(dir.path());
        for damaged in [&b""[..], b"postern recip 1\n", b"postern recip 2\n0123456789abcdef", b"x"] {
            std::fs::write(paths.recipients(), damaged).unwrap();
            assert!(Recipients::open(&paths.recipients()).is_err());
        }
        let host = Host { postern_gid: nix::unistd::getegid().as_raw(), ..Host::default() };
        assert!(publish(&paths, &host).unwrap());
        assert!(Recipients::open(&paths.recipients()).unwrap().unwrap().has("example.org"));
    }

    proptest! {
        #[test]
        fn whatever_a_server_names_weighs_as_many_as_there_are(text in "\\PC{0,60}|[a-c@., ]{0,60}", count in 0u32..9) {
            let (_dir, here) = of("a.b: ann\n");
            let weight = here.weigh(count, &named(&text));
            prop_assert_eq!(weight.local + weight.recipients, i64::from(count));
            prop_assert!(weight.hashes.len() as i64 + weight.nameless <= weight.recipients);
        }

        #[test]
        fn domains_are_found_as_a_plain_search_finds_them(known in proptest::collection::btree_set("[a-e]{1,3}", 0..40), asked in "[a-e]{1,3}") {
            let text: String = known.iter().map(|name| format!("{name}.test: ann\n")).collect();
            let (_dir, here) = of(&text);
            prop_assert_eq!(here.has(&format!("{asked}.test")), known.contains(&asked));
        }
    }

    #[test]
    fn of_a_text_that_was_cut_the_last_name_is_left_out() {
        let text = "someone@far.test, ".repeat(400);
        let names = named(&text[..LONGEST]);
        assert!(names.len() > 200 && names.iter().all(|name| name == "someone@far.test"), "{names:?}");
        let long = (0..400).map(|n| format!("r{n}@far.test")).collect::<Vec<_>>().join(", ");
        let names = named(&long[..LONGEST]);
        assert!(names.iter().all(|name| name.ends_with("@far.test")), "{names:?}");
    }
}
