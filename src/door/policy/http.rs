//! HTTP/1.1 (RFC 9112) as far as Dovecot's client speaks it. Everything else has a status of its own.

use super::read_some;
use httparse::{EMPTY_HEADER, Error};
use std::io::{Read, Result, Write};

/// Longest head of a request, in bytes. Dovecot's have less than 400.
pub(super) const LONGEST_HEAD: usize = 8192;

/// Longest body, in bytes. Dovecot's have less than 500 with the longest name that it takes.
pub(super) const LONGEST_BODY: usize = 16_384;

/// Most header fields.
pub(super) const MOST_FIELDS: usize = 32;

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    BadRequest,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    LengthRequired,
    BodyTooLarge,
    ExpectationFailed,
    HeadTooLarge,
    VersionNotSupported,
}

impl Status {
    /// Number and words (RFC 9110 §15, RFC 6585 §5).
    pub(super) fn reason(self) -> &'static str {
        match self {
            Status::BadRequest => "400 Bad Request",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::LengthRequired => "411 Length Required",
            Status::BodyTooLarge => "413 Content Too Large",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// An answer with a body.
pub(super) fn response(json: &str, keep: bool) -> Vec<u8> {
    let end = if keep { "" } else { "Connection: close\r\n" };
    let length = json.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{end}\r\n{json}"
    )
    .into_bytes()
}

/// An answer that ends the connection.
pub(super) fn failure(status: Status) -> Vec<u8> {
    format!("HTTP/1.1 {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status.reason()).into_bytes()
}

/// A request that came whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    /// The head as it came, with the empty line at its end.
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// Whether the client wants to ask more on this connection.
    pub(super) keep: bool,
    fields: Vec<(String, Vec<u8>)>,
}

impl Request {
    /// The value of the first header field of this name.
    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        let field = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.trim_ascii())
    }

    /// The last element of the path.
    pub(super) fn last_of_path(&self) -> &[u8] {
        let path = self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path);
        path.rsplit_once('/').map_or("", |(_, last)| last).as_bytes()
    }

    /// What Dovecot appends to the address that it was given: `?command=…`, or `&command=…`.
    pub(super) fn command(&self) -> Option<&str> {
        let (_, query) = self.target.rsplit_once('?')?;
        query.split('&').rev().find_map(|pair| pair.strip_prefix("command="))
    }
}

/// What a head says of the body behind it.
struct Head {
    request: Request,
    length: usize,
    expects: bool,
}

/// What was read from the connection and not yet used.
#[derive(Default)]
pub(super) struct Input {
    read: Vec<u8>,
}

impl Input {
    /// The next request; none at the end of the connection, also where it ends within a request.
    pub(super) fn request(
        &mut self,
        stream: &mut (impl Read + Write),
    ) -> Result<std::result::Result<Option<Request>, Status>> {
        let Head { mut request, length, expects } = loop {
            match head(&self.read) {
                Err(status) => return Ok(Err(status)),
                Ok(Some(head)) => break head,
                Ok(None) if self.read.len() > LONGEST_HEAD => return Ok(Err(Status::HeadTooLarge)),
                Ok(None) => {
                    if read_some(stream, &mut self.read)? == 0 {
                        return Ok(Ok(None));
                    }
                }
            }
        };
        self.read.drain(..request.head.len());
        if expects && self.read.len() < length {
            // No answer yet: whoever asks for this has not even shown the key.
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        while self.read.len() < length {
            if read_some(stream, &mut self.read)? == 0 {
                return Ok(Ok(None));
            }
        }
        request.body = self.read.drain(..length).collect();
        Ok(Ok(Some(request)))
    }
}

/// Reads a head; none where it has not come to its end.
fn head(bytes: &[u8]) -> std::result::Result<Option<Head>, Status> {
    let mut fields = [EMPTY_HEADER; MOST_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(Error::TooManyHeaders) => return Err(Status::HeadTooLarge),
        Err(Error::Version) => return Err(Status::VersionNotSupported),
        Err(_) => return Err(Status::BadRequest),
    };
    if length > LONGEST_HEAD {
        return Err(Status::HeadTooLarge);
    }
    let fields = parsed.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
    let mut request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        head: bytes[..length].to_vec(),
        body: Vec::new(),
        keep: false,
        fields,
    };
    request.keep = parsed.version == Some(1) && !asks_to_close(&request);
    let (length, expects) = (body_length(&request)?, expects(&request)?);
    Ok(Some(Head { request, length, expects }))
}

fn asks_to_close(request: &Request) -> bool {
    let words = request.header("Connection").unwrap_or_default().split(|b| *b == b',');
    words.into_iter().any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Two lengths that differ, or a length and another way to tell where the body ends, are how one request is smuggled
/// within another (RFC 9112 §11.2): no such request is read.
fn body_length(request: &Request) -> std::result::Result<usize, Status> {
    if request.header("Transfer-Encoding").is_some() {
        return Err(Status::LengthRequired);
    }
    let lengths = request.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Content-Length"));
    let mut found = None;
    for (_, value) in lengths {
        let digits = value.trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Status::BadRequest);
        }
        // Longer than any number is longer than any body.
        let length = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).unwrap_or(usize::MAX);
        if found.is_some_and(|earlier| earlier != length) {
            return Err(Status::BadRequest);
        }
        found = Some(length);
    }
    match found {
        Some(length) if length > LONGEST_BODY => Err(Status::BodyTooLarge),
        Some(length) => Ok(length),
        None if request.method == "POST" => Err(Status::LengthRequired),
        None => Ok(0),
    }
}

fn expects(request: &Request) -> std::result::Result<bool, Status> {
    match request.header("Expect") {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) => Err(Status::ExpectationFailed),
    }
}
