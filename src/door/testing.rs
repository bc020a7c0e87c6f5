//! A connection for tests of doors.

use std::io::{Cursor, Read, Result, Write};

/// What a client sends, so many bytes at once, and what it is told. The one does not come back as the other.
pub(super) struct Stream {
    pub(super) from: Cursor<Vec<u8>>,
    pub(super) to: Vec<u8>,
    at_once: usize,
}

impl Stream {
    pub(super) fn of(bytes: impl Into<Vec<u8>>, at_once: usize) -> Stream {
        Stream { from: Cursor::new(bytes.into()), to: Vec::new(), at_once }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = buffer.len().min(self.at_once);
        self.from.read(&mut buffer[..n])
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
