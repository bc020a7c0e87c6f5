//! The file of a backup: a tar archive (POSIX.1-1988, pax) whose first member says what is in it.
//!
//! | member | what |
//! |---|---|
//! | `manifest.json` | form, version, when, generation, and size and SHA-256 of each further member |
//! | `settings.db` | the settings, a SQLite file |
//! | `state.db` | the state, a SQLite file; may be missing |
//!
//! In this order and with nothing else, neither between nor behind. No name in an archive becomes a name on disk.

use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use tar::{Archive, Builder, Entries, EntryType, Header};

/// The form that this program writes; it reads older ones too.
pub(super) const FORM: u64 = 1;

const MANIFEST: &str = "manifest.json";

/// The settings' member.
pub(super) const SETTINGS: &str = "settings.db";

/// The state's member.
pub(super) const STATE: &str = "state.db";

/// Largest manifest that is read, in bytes.
const LARGEST_MANIFEST: u64 = 64 * 1024;

/// A tar archive is made of blocks of so many bytes, and ends in two empty ones.
const BLOCK: u64 = 512;

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Always `postern`.
    pub(super) program: String,
    /// The form of the archive.
    pub(super) form: u64,
    /// The version that made it.
    pub(super) version: String,
    /// When.
    pub(super) made: Seconds,
    /// The settings' generation.
    pub(super) generation: i64,
    /// The further members, in their order.
    pub(super) parts: Vec<Part>,
}

/// A member of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Its name.
    pub(super) name: String,
    /// Its length.
    pub(super) bytes: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub(super) sha256: String,
}

/// Passes bytes on and sums them up.
struct Summed<T> {
    inner: T,
    sum: Sha256,
    progress: Progress,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Summed<T> {
        Summed { inner, sum: Sha256::new(), progress: Progress::default() }
    }

    fn digits(self) -> String {
        self.sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sum.update(&bytes[..n]);
        self.progress.tick();
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What a file is as a member of this name.
pub(super) fn part(name: &str, file: &mut File) -> io::Result<Part> {
    file.rewind()?;
    let mut sink = Summed::new(io::sink());
    let bytes = io::copy(file, &mut sink)?;
    Ok(Part { name: name.into(), bytes, sha256: sink.digits() })
}

/// Writes the archive; the files are in the order of the manifest's parts.
pub(super) fn write(out: &mut File, manifest: &Manifest, files: &mut [File]) -> io::Result<()> {
    let json = serde_json::to_vec_pretty(manifest)?;
    let mut archive = Builder::new(io::BufWriter::new(out));
    let length = u64::try_from(json.len()).unwrap_or(u64::MAX);
    append(&mut archive, MANIFEST, length, manifest.made, json.as_slice())?;
    for (part, file) in manifest.parts.iter().zip(files) {
        file.rewind()?;
        append(&mut archive, &part.name, part.bytes, manifest.made, file)?;
    }
    archive.into_inner()?.flush()
}

fn append(
    archive: &mut Builder<impl Write>,
    name: &str,
    bytes: u64,
    made: Seconds,
    from: impl Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_path(name)?;
    header.set_mode(0o600);
    header.set_size(bytes);
    header.set_mtime(u64::try_from(made).unwrap_or(0));
    header.set_cksum();
    archive.append(&header, from)
}

/// A backup that is read, member after member.
pub(super) struct Reader<'a> {
    entries: Entries<'a, File>,
    /// What is in it, as it says itself.
    pub(super) manifest: Manifest,
}

fn refused(why: impl std::fmt::Display) -> Error {
    Error::Data(format!("This is no backup that can be restored: {why}. Nothing was changed."))
}

fn cut_off(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => refused("it is cut off"),
        _ => refused(format!("it cannot be read as a tar archive ({e})")),
    }
}

/// Reads what is in an archive, and refuses one that is not as long as that says.
pub(super) fn open<'a>(archive: &'a mut Archive<File>, length: u64) -> Result<Reader<'a>> {
    let mut entries = archive.entries().map_err(cut_off)?;
    let mut json = Vec::new();
    let most = LARGEST_MANIFEST;
    let mut first = member(&mut entries, MANIFEST)?;
    let its_length = first.size();
    if its_length > most {
        return Err(refused("what should say what is in it is too long"));
    }
    first.read_to_end(&mut json).map_err(cut_off)?;
    drop(first);
    let manifest = manifest(&json)?;
    let blocks = |bytes: u64| bytes.div_ceil(BLOCK).saturating_add(1).saturating_mul(BLOCK);
    let should = manifest.parts.iter().fold(blocks(its_length).saturating_add(2 * BLOCK), |sum, part| {
        sum.saturating_add(blocks(part.bytes))
    });
    if length != should {
        let how = if length < should { "it is cut off" } else { "something stands behind its end" };
        return Err(refused(format!("{how} ({length} bytes, and {should} are said to be there)")));
    }
    Ok(Reader { entries, manifest })
}

fn manifest(json: &[u8]) -> Result<Manifest> {
    #[derive(Deserialize)]
    struct Head {
        program: String,
        form: u64,
        version: String,
    }
    let no_manifest = |e: serde_json::Error| refused(format!("it does not say what is in it ({e})"));
    let head: Head = serde_json::from_slice(json).map_err(no_manifest)?;
    if head.program != "postern" {
        return Err(refused(format!("it is {:?}'s, not Postern's", head.program)));
    }
    if head.form > FORM {
        let version: String = head.version.chars().take(40).collect();
        return Err(refused(format!("a newer Postern ({version:?}) made it; install that one first")));
    }
    let manifest: Manifest = serde_json::from_slice(json).map_err(no_manifest)?;
    let names: Vec<&str> = manifest.parts.iter().map(|part| part.name.as_str()).collect();
    match names.as_slice() {
        [SETTINGS] | [SETTINGS, STATE] => Ok(manifest),
        _ => Err(refused(format!("it holds {names:?}, not settings and state"))),
    }
}

fn member<'a>(entries: &mut Entries<'a, File>, name: &str) -> Result<tar::Entry<'a, File>> {
    let found = entries.next().ok_or_else(|| refused(format!("{name} is missing")))?.map_err(cut_off)?;
    let is_it = found.path_bytes().as_ref() == name.as_bytes();
    if !is_it || found.header().entry_type() != EntryType::Regular {
        return Err(refused(format!("{name} is not where it should be")));
    }
    Ok(found)
}

impl Reader<'_> {
    /// Writes each member into the file for it, and refuses what is not what the manifest says.
    pub(super) fn unpack(mut self, mut begin: impl FnMut(&str) -> Result<File>) -> Result<Manifest> {
        for part in &self.manifest.parts {
            let mut found = member(&mut self.entries, &part.name)?;
            let mut out = Summed::new(begin(&part.name)?);
            let n = io::copy(&mut found, &mut out).map_err(cut_off)?;
            if n != part.bytes || out.digits() != part.sha256 {
                return Err(refused(format!(
                    "{} is not what was backed up (its checksum is another)",
                    part.name
                )));
            }
        }
        match self.entries.next() {
            None => Ok(self.manifest),
            Some(_) => Err(refused("there is more in it than it says")),
        }
    }
}

/// How long a file is.
pub(super) fn length(file: &File, path: &Path) -> Result<u64> {
    file.metadata().map(|m| m.len()).map_err(Error::file("examine", path))
}
