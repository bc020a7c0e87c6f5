//! Files of lines, plain or compressed, and by what they are known again.

use crate::error::{Error, Result};
use crate::store::state::logs::Mark;
use flate2::read::MultiGzDecoder;
use memchr::memchr;
use nix::libc;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What is read at once, and the longest line, in bytes. No mail server writes one of a tenth of it.
const BUFFER: usize = 256 * 1024;

/// So much of a line stands for it, from its end.
pub(super) const MARKED: usize = 256;

/// A log that is open.
#[derive(Debug)]
pub struct Source {
    file: File,
    /// The name to tell it by.
    pub name: String,
    /// When it was changed last.
    pub changed: i64,
    /// Its length on the disk.
    pub length: u64,
    is_compressed: bool,
}

/// Opens a log for reading, which root may be alone to read. What belongs to a mail server's user may be a link
/// by the time that root opens it, so none is followed; and no pipe is waited for.
pub fn open(path: &Path) -> Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|e| match e.raw_os_error() {
        Some(libc::ELOOP) => Error::Data(format!("{} is a link: name the file itself.", path.display())),
        _ => Error::file("open", path)(e),
    })?;
    match file.metadata().map_err(Error::file("examine", path))?.is_file() {
        true => Ok(file),
        false => Err(Error::Data(format!("{} is no ordinary file.", path.display()))),
    }
}

impl Source {
    /// Looks at the file: compressed by gzip or not at all. Others are refused with what to do.
    pub fn new(name: impl Into<String>, file: File) -> Result<Source> {
        let name = name.into();
        let failed = || Error::file("read", name.as_ref());
        let about = file.metadata().map_err(failed())?;
        let mut magic = [0; 6];
        let n = file.read_at(&mut magic, 0).map_err(failed())?;
        let other: [(&[u8], &str); 3] =
            [(b"\xfd7zXZ\0", "xzcat"), (b"\x28\xb5\x2f\xfd", "zstdcat"), (b"BZh", "bzcat")];
        if let Some((_, program)) = other.iter().find(|(magic_of, _)| magic[..n].starts_with(magic_of)) {
            return Err(Error::Data(format!(
                "{name} is compressed in a way that is not read here: unpack it first (`{program} {name} > FILE`)."
            )));
        }
        let is_compressed = magic[..n].starts_with(b"\x1f\x8b");
        Ok(Source { file, changed: about.mtime(), length: about.len(), is_compressed, name })
    }

    /// Whether more can be written to its end.
    pub fn is_compressed(&self) -> bool {
        self.is_compressed
    }

    /// The lines from this place on, which is the begin of one.
    pub fn lines(&self, from: u64) -> Result<Lines<Box<dyn Read + '_>>> {
        let failed = || Error::file("read", self.name.as_ref());
        let mut file = &self.file;
        if self.is_compressed {
            file.rewind().map_err(failed())?;
            let mut lines: Lines<Box<dyn Read + '_>> = Lines::new(Box::new(MultiGzDecoder::new(file)), 0);
            while lines.offset < from {
                if lines.next().map_err(failed())?.is_none() {
                    break;
                }
            }
            return Ok(lines);
        }
        file.seek(SeekFrom::Start(from)).map_err(failed())?;
        Ok(Lines::new(Box::new(file), from))
    }

    /// Stands for the first line; none where there is no whole one.
    pub fn head(&self) -> Result<Option<Mark>> {
        let mut lines = self.lines(0)?;
        let first = lines.next().map_err(Error::file("read", self.name.as_ref()))?;
        Ok(first.map(|line| mark(line.text())))
    }

    /// Of these places, those before which the line ends that the mark stands for.
    pub fn are_known(&self, places: &[(u64, Mark)]) -> Result<Vec<bool>> {
        let failed = || Error::file("read", self.name.as_ref());
        if !self.is_compressed {
            return places.iter().map(|(at, tail)| Ok(self.mark_before(*at)? == Some(*tail))).collect();
        }
        let mut known = vec![false; places.len()];
        let Some(last) = places.iter().map(|(at, _)| *at).max() else { return Ok(known) };
        let mut lines = self.lines(0)?;
        while lines.offset < last {
            let Some(line) = lines.next().map_err(failed())? else { break };
            let (end, tail) = (line.end, line.text());
            for (n, (at, expected)) in places.iter().enumerate() {
                if *at == end {
                    known[n] = mark(tail) == *expected;
                }
            }
        }
        Ok(known)
    }

    fn mark_before(&self, at: u64) -> Result<Option<Mark>> {
        if at == 0 || at > self.length {
            return Ok(None);
        }
        let begin = at.saturating_sub(MARKED as u64 + 1);
        let mut bytes = vec![0; usize::try_from(at - begin).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, begin).map_err(Error::file("read", self.name.as_ref()))?;
        if bytes.pop() != Some(b'\n') {
            return Ok(None);
        }
        let line = bytes.iter().rposition(|b| *b == b'\n').map_or(&bytes[..], |at| &bytes[at + 1..]);
        Ok(Some(mark(line)))
    }

    /// Where the last whole line ends, and what stands for it; of a plain file.
    pub fn end(&self) -> Result<Option<(u64, Mark)>> {
        let mut lines = self.lines(self.last_lines_begin()?)?;
        let mut end = None;
        while let Some(line) = lines.next().map_err(Error::file("read", self.name.as_ref()))? {
            end = Some((line.end, mark(line.text())));
        }
        Ok(end)
    }

    /// Some begin of a line near the end.
    fn last_lines_begin(&self) -> Result<u64> {
        let from = self.length.saturating_sub(2 * BUFFER as u64);
        if from == 0 {
            return Ok(0);
        }
        let mut bytes = vec![0; BUFFER];
        let n = self.file.read_at(&mut bytes, from).map_err(Error::file("read", self.name.as_ref()))?;
        Ok(memchr(b'\n', &bytes[..n]).map_or(0, |at| from + at as u64 + 1))
    }
}

/// Stands for a line.
pub fn mark(line: &[u8]) -> Mark {
    let hash = Sha256::digest(end_of(line));
    let mut mark = [0; 16];
    mark.copy_from_slice(&hash[..16]);
    mark
}

/// What of a line stands for it.
pub(super) fn end_of(line: &[u8]) -> &[u8] {
    &line[line.len().saturating_sub(MARKED)..]
}

/// A line, and where it ends in the file.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    text: &'a [u8],
    /// Whether all of it is there: the begin of one that is too long is not.
    pub is_whole: bool,
    /// Where the next one begins.
    pub end: u64,
}

impl<'a> Found<'a> {
    /// Its bytes, without the end.
    pub fn text(&self) -> &'a [u8] {
        self.text
    }
}

/// Lines of a stream, one after the other, in one buffer.
pub struct Lines<R> {
    from: R,
    buffer: Box<[u8]>,
    begin: usize,
    filled: usize,
    /// Where the next line begins in the file.
    pub offset: u64,
}

impl<R> std::fmt::Debug for Lines<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lines at {}", self.offset)
    }
}

impl<R: Read> Lines<R> {
    /// The stream begins at this place of the file.
    pub fn new(from: R, offset: u64) -> Lines<R> {
        Lines { from, buffer: vec![0; BUFFER].into_boxed_slice(), begin: 0, filled: 0, offset }
    }

    /// The next whole line; none where there is no more. What has no end yet is no line.
    #[allow(clippy::should_implement_trait, reason = "a line borrows from the buffer")]
    pub fn next(&mut self) -> std::io::Result<Option<Found<'_>>> {
        let (mut is_whole, mut searched) = (true, 0);
        loop {
            if let Some(n) = memchr(b'\n', &self.buffer[self.begin + searched..self.filled]) {
                let line = self.begin..self.begin + searched + n;
                self.begin = line.end + 1;
                self.offset += (line.len() + 1) as u64;
                return Ok(Some(Found { text: &self.buffer[line], is_whole, end: self.offset }));
            }
            searched = self.filled - self.begin;
            self.buffer.copy_within(self.begin..self.filled, 0);
            (self.begin, self.filled) = (0, searched);
            if self.filled == self.buffer.len() {
                // Too long: what stands for it is its end, so that is kept.
                let kept = self.filled - MARKED;
                self.buffer.copy_within(kept.., 0);
                self.offset += kept as u64;
                (self.filled, searched, is_whole) = (MARKED, MARKED, false);
            }
            match self.from.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(None),
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    fn plain(text: &[u8]) -> Source {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        Source::new("plain", file).unwrap()
    }

    fn compressed(text: &[u8]) -> Source {
        let mut file = tempfile::tempfile().unwrap();
        // Two members, as `cat a.gz b.gz` makes them.
        for half in [&text[..text.len() / 2], &text[text.len() / 2..]] {
            let mut encoder = GzEncoder::new(&mut file, Compression::fast());
            encoder.write_all(half).unwrap();
            encoder.finish().unwrap();
        }
        Source::new("compressed", file).unwrap()
    }

    fn all(source: &Source, from: u64) -> Vec<(Vec<u8>, u64, bool)> {
        let mut lines = source.lines(from).unwrap();
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push((line.text().to_vec(), line.end, line.is_whole));
        }
        found
    }

    #[test]
    fn what_is_no_plain_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("log"), "line\n").unwrap();
        std::os::unix::fs::symlink(at("log"), at("link")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open(&at("log")).is_ok());
        for (name, said) in [("link", "is a link"), ("pipe", "no ordinary"), ("none", "No such file")] {
            let error = open(&at(name)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"\xfd7zXZ\0rest").unwrap();
        assert!(Source::new("mail.log.2.xz", file).unwrap_err().to_string().contains("xzcat"));
    }

    #[test]
    fn a_line_that_is_too_long_is_not_whole_and_the_next_one_is() {
        let long = "x".repeat(3 * BUFFER);
        let text = format!("one\n{long}\ntwo\nhalf");
        for source in [plain(text.as_bytes()), compressed(text.as_bytes())] {
            let found = all(&source, 0);
            let ends: Vec<(u64, bool)> = found.iter().map(|(_, end, whole)| (*end, *whole)).collect();
            let long_end = 4 + long.len() as u64 + 1;
            assert_eq!(ends, [(4, true), (long_end, false), (long_end + 4, true)]);
            let places: Vec<_> = found.iter().map(|(text, end, _)| (*end, mark(text))).collect();
            assert_eq!(source.are_known(&places).unwrap(), [true; 3]);
        }
    }

    proptest! {
        #[test]
        fn plain_and_compressed_have_the_same_lines_and_are_known_by_them(
            lines in proptest::collection::vec("[a-z]{0,400}", 0..30), rest in "[a-z]{0,5}", skip in 0usize..30
        ) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect::<String>() + &rest;
            let sources = [plain(text.as_bytes()), compressed(text.as_bytes())];
            let expected: Vec<Vec<u8>> = lines.iter().map(|line| line.clone().into_bytes()).collect();
            for source in &sources {
                let found = all(source, 0);
                let texts: Vec<Vec<u8>> = found.iter().map(|(text, ..)| text.clone()).collect();
                prop_assert_eq!(&texts, &expected);
                prop_assert_eq!(source.head().unwrap(), lines.first().map(|line| mark(line.as_bytes())));
                let places: Vec<_> = found.iter().map(|(text, end, _)| (*end, mark(text))).collect();
                prop_assert!(source.are_known(&places).unwrap().into_iter().all(|known| known));
                let others: Vec<_> = found.iter().map(|(text, end, _)| (*end, mark(&[text, &b"x"[..]].concat()))).collect();
                prop_assert!(!source.are_known(&others).unwrap().into_iter().any(|known| known));
                if let Some((_, from, _)) = found.get(skip) {
                    prop_assert_eq!(&all(source, *from)[..], &found[skip + 1..]);
                }
                prop_assert_eq!(sources[0].end().unwrap(), places.last().copied());
            }
        }
    }
}
