//! The files that network data are compiled from.
//!
//! [`Sources::open`] opens them all, so that a caller who is root can give root up before a single byte is
//! interpreted. Contents come from outside: they are read into memory (a file that somebody cuts while it is
//! read must not end the program), bounded, and judged before use; each refusal has its own sentence.

pub(super) mod asn;
pub(super) mod country;
mod mmdb;

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A source larger than this is refused: the largest data sets for sale stay below it.
const LARGEST: u64 = 1 << 30;

/// Sources that have been opened but not yet read.
#[derive(Debug)]
pub struct Sources {
    pub(super) country: SourceFile,
    pub(super) asn: Vec<SourceFile>,
    pub(super) allow_small: bool,
}

impl Sources {
    /// Opens a country MMDB and any number of ASN tables (CSV or MMDB, each for one family or both).
    ///
    /// `allow_small` is for tests and for closed networks: it lifts the checks that need a source to cover
    /// the internet. Fails where a file cannot be opened, is no regular file, is empty, compressed or too large.
    pub fn open(country: &Path, asn: &[PathBuf], allow_small: bool) -> Result<Sources> {
        Ok(Sources {
            country: SourceFile::open(country)?,
            asn: asn.iter().map(|path| SourceFile::open(path)).collect::<Result<_>>()?,
            allow_small,
        })
    }
}

/// One open source.
#[derive(Debug)]
pub(super) struct SourceFile {
    path: PathBuf,
    file: File,
    /// The first bytes, which tell what kind of file it is.
    head: Vec<u8>,
}

impl SourceFile {
    fn open(path: &Path) -> Result<SourceFile> {
        // Without O_NONBLOCK the opening of a FIFO would wait for a writer.
        let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
        let file = file.map_err(Error::file("open", path))?;
        let about = file.metadata().map_err(Error::file("examine", path))?;
        let mut source = SourceFile { path: path.to_owned(), file, head: Vec::new() };
        if !about.is_file() {
            return Err(source.refused("is not a regular file"));
        }
        if about.len() == 0 {
            return Err(source.refused("is empty"));
        }
        if about.len() > LARGEST {
            return Err(source.refused("is larger than 1 GiB, which no known source is"));
        }
        let head = (&source.file).take(64).read_to_end(&mut source.head);
        head.map_err(Error::file("read", path))?;
        if source.head.starts_with(b"\x1f\x8b") || source.head.starts_with(b"PK\x03\x04") {
            return Err(source.refused("is compressed: unpack it first"));
        }
        Ok(source)
    }

    /// The path for reports.
    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// The last part of the path, for the description in the compiled file.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Binary data hold zero bytes early on (an MMDB's first node points to node 1); tables never do.
    fn is_text(&self) -> bool {
        !self.head.contains(&0)
    }

    /// The open file, from its beginning.
    fn rewound(&self) -> Result<&File> {
        (&self.file).rewind().map_err(Error::file("read", &self.path))?;
        Ok(&self.file)
    }

    /// The whole contents. The bound holds even when the file grows meanwhile.
    fn contents(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.rewound()?.take(LARGEST).read_to_end(&mut bytes);
        read.map_err(Error::file("read", &self.path))?;
        Ok(bytes)
    }

    /// The sentence for a source that is not taken.
    fn refused(&self, why: &str) -> Error {
        Error::Data(format!("The source {} {why}.", self.path.display()))
    }
}
