//! The policy server that was there before us, as cPHulk on cPanel: it goes on being asked, by us.
//!
//! It gets what Dovecot would have sent it: the same header fields with the same values in the same order, and the
//! same body. Only where it is (`Host`), the length of the body, and what is ours differ from what came to us. It has
//! [`LIMIT`] for all; where it fails, our own answer holds.

use super::{KEY_HEADER, Reply, body, http, read_some};
use crate::error::{Error, Result};
use httparse::{EMPTY_HEADER, Status, parse_chunk_size};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a chained server may take in all: to connect, to read, to answer.
pub const LIMIT: Duration = Duration::from_millis(600);

/// Longest answer that is read, in bytes. Dovecot gives up a reply of its own that is longer than 16 KiB.
const LONGEST: usize = 8192;

/// Where the chained server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chained {
    /// Host and port as the address has them, for the field `Host`.
    authority: String,
    address: SocketAddr,
    /// Path and query.
    path: String,
}

impl Chained {
    /// Reads the file that names it; none where there is no such file, or an empty one.
    pub fn read(file: &Path) -> Result<Option<Chained>> {
        match std::fs::read_to_string(file) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::file("read", file)(e)),
            Ok(text) if text.trim().is_empty() => Ok(None),
            Ok(text) => Chained::at(text.trim()).map(Some),
        }
    }

    /// Reads `http://127.0.0.1:PORT/PATH`. The address stands in numbers, since no name is looked up here, and is
    /// one of this machine: what Dovecot tells is for nobody else.
    pub fn at(url: &str) -> Result<Chained> {
        let bad = || {
            let accepted = "give http://127.0.0.1:PORT/PATH, as it stood in auth_policy_server_url, without name and password";
            Error::bad_value("The chained policy server's address", url, accepted)
        };
        let rest = url.strip_prefix("http://").ok_or_else(bad)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let address = authority.parse().or_else(|_| authority.parse().map(|ip| SocketAddr::new(ip, 80)));
        let address: SocketAddr = address.map_err(|_| bad())?;
        if !address.ip().is_loopback() || !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err(bad());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Chained { authority: authority.to_owned(), address, path })
    }

    /// Asks it what Dovecot asked us.
    pub(super) fn ask(&self, request: &http::Request) -> Result<Reply> {
        self.hand_on(request, true).and_then(|answer| read_reply(&answer)).map_err(self.failed("ask"))
    }

    /// Tells it what Dovecot told us.
    pub(super) fn tell(&self, request: &http::Request) -> Result<()> {
        self.hand_on(request, false).map(drop).map_err(self.failed("tell"))
    }

    fn failed(&self, doing: &str) -> impl FnOnce(std::io::Error) -> Error {
        Error::system(format!("{doing} the chained policy server at {}", self.authority))
    }

    /// Asks this with header fields of our own, to find out whether it answers.
    pub(super) fn try_out(&self, command: &str, fields: &str) -> Result<Reply> {
        let (target, authority) = (self.target(command), &self.authority);
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: {authority}\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let answer = self.exchange(request.as_bytes(), true).and_then(|answer| read_reply(&answer));
        answer.map_err(Error::system(format!("ask the policy server at {authority}")))
    }

    fn hand_on(&self, request: &http::Request, whole: bool) -> std::io::Result<Vec<u8>> {
        self.exchange(&self.rewritten(request), whole)
    }

    fn exchange(&self, request: &[u8], whole: bool) -> std::io::Result<Vec<u8>> {
        let until = Instant::now() + LIMIT;
        let mut stream = Limited { stream: TcpStream::connect_timeout(&self.address, LIMIT)?, until };
        stream.write_all(request)?;
        answer(&mut stream, whole)
    }

    /// Path and query, as Dovecot makes them.
    fn target(&self, command: &str) -> String {
        let before = if self.path.ends_with('&') { "" } else { "?" };
        format!("{}{before}command={command}", self.path)
    }

    /// The request as Dovecot would have sent it to that server.
    pub(super) fn rewritten(&self, request: &http::Request) -> Vec<u8> {
        let body = body::without_ours(&request.body);
        let target = self.target(request.command().unwrap_or_default());
        let mut bytes = format!("POST {target} HTTP/1.1\r\n").into_bytes();
        // Empty lines before a request belong to no request (RFC 9112 §2.2).
        let lines = request.head.trim_ascii_start().split_inclusive(|b| *b == b'\n').skip(1);
        for line in lines {
            let name = line.split(|b| *b == b':').next().unwrap_or_default();
            match name {
                name if name.eq_ignore_ascii_case(KEY_HEADER.as_bytes()) => {}
                name if name.eq_ignore_ascii_case(b"Expect") => {}
                name if name.eq_ignore_ascii_case(b"Host") => {
                    bytes.extend(format!("Host: {}\r\n", self.authority).bytes());
                }
                name if name.eq_ignore_ascii_case(b"Content-Length") => {
                    bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
                }
                _ => bytes.extend(line),
            }
        }
        bytes.extend(body.iter());
        bytes
    }
}

/// A connection that ends at a time.
struct Limited {
    stream: TcpStream,
    until: Instant,
}

impl Limited {
    fn left(&self) -> std::io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::Error::new(ErrorKind::TimedOut, "its time is over"));
        }
        Ok(Some(left))
    }
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

fn broken(why: &str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, why)
}

/// The body of a good answer, or nothing where only the answer's kind is wanted. What counts as good is what
/// Dovecot takes for it: a status from 200 to 209.
fn answer(stream: &mut impl Read, whole: bool) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    let (status, framing) = loop {
        match head(&read)? {
            // "100 Continue" and its like come before the answer.
            Some((length, status, _)) if status / 100 == 1 => drop(read.drain(..length)),
            Some((length, status, framing)) => {
                read.drain(..length);
                break (status, framing);
            }
            None if more(stream, &mut read)? == 0 => return Err(broken("it closed without an answer")),
            None => {}
        }
    };
    if status / 10 != 20 {
        return Err(broken(&format!("it answered {status}")));
    }
    if !whole {
        return Ok(Vec::new());
    }
    framing.body(stream, read)
}

/// How an answer tells where its body ends (RFC 9112 §6.3).
enum Framing {
    Length(usize),
    Chunks,
    Close,
}

impl Framing {
    fn body(self, stream: &mut impl Read, mut read: Vec<u8>) -> std::io::Result<Vec<u8>> {
        loop {
            let whole = match self {
                Framing::Length(length) if read.len() >= length => Some(read[..length].to_vec()),
                Framing::Chunks => chunks(&read)?,
                _ => None,
            };
            if let Some(body) = whole {
                return Ok(body);
            }
            if more(stream, &mut read)? == 0 {
                return match self {
                    Framing::Close => Ok(read),
                    _ => Err(broken("its answer broke off")),
                };
            }
        }
    }
}

fn more(stream: &mut impl Read, read: &mut Vec<u8>) -> std::io::Result<usize> {
    if read.len() > LONGEST {
        return Err(broken("its answer is too long"));
    }
    read_some(stream, read)
}

/// Reads the head of an answer; none where it has not come to its end.
fn head(bytes: &[u8]) -> std::io::Result<Option<(usize, u16, Framing)>> {
    let mut fields = [EMPTY_HEADER; http::MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let length = match parsed.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(e) => return Err(broken(&format!("it does not speak HTTP ({e})"))),
    };
    let field =
        |name: &str| parsed.headers.iter().find(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value);
    let framing = match (field("Transfer-Encoding"), field("Content-Length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunks,
        (Some(_), _) => return Err(broken("it answered in a transfer coding that is not chunked")),
        (None, Some(length)) => {
            let length = std::str::from_utf8(length).ok().and_then(|text| text.trim().parse().ok());
            Framing::Length(length.ok_or_else(|| broken("its answer has no length that could be read"))?)
        }
        (None, None) => Framing::Close,
    };
    Ok(Some((length, parsed.code.unwrap_or_default(), framing)))
}

/// Puts chunks together (RFC 9112 §7.1); none where the last has not come.
fn chunks(mut bytes: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let (begin, size) = match parse_chunk_size(bytes) {
            Ok(Status::Complete(found)) => found,
            Ok(Status::Partial) => return Ok(None),
            Err(_) => return Err(broken("its answer has a chunk of no size")),
        };
        if size == 0 {
            return Ok(Some(body));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some(rest) = bytes[begin..].get(..size.saturating_add(2)) else {
            return if size > LONGEST { Err(broken("its answer is too long")) } else { Ok(None) };
        };
        if !rest.ends_with(b"\r\n") {
            return Err(broken("its answer has a chunk without an end"));
        }
        body.extend(&rest[..size]);
        bytes = &bytes[begin + size + 2..];
    }
}

fn read_reply(body: &[u8]) -> std::io::Result<Reply> {
    serde_json::from_slice(body).map_err(|e| broken(&format!("its answer is no policy answer ({e})")))
}

#[cfg(test)]
#[path = "chained_tests.rs"]
mod tests;
