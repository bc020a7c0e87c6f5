//! A publisher of lists: a real HTTPS server on loopback, with an authority of its own.
//!
//! What it answers is set for each path; what it was asked is kept. Bodies that never end are sent until whoever asked
//! goes away.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server's certificate is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Signed by its authority, for its address.
    Good,
    /// The same, and it ended in 2020.
    Ended,
    /// For somebody else.
    OfAnother,
    /// By itself.
    Own,
}

/// What it answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status, headers, and a body of its full length.
    Whole(u16, Vec<(String, String)>, Vec<u8>),
    /// These bytes, whatever they are, and the end of the connection.
    Raw(Vec<u8>),
    /// These bytes and then the second ones again and again, each after so long.
    Endless(Vec<u8>, Vec<u8>, Duration),
}

impl Reply {
    pub fn list(body: impl Into<Vec<u8>>) -> Reply {
        Reply::Whole(200, Vec::new(), body.into())
    }

    pub fn status(status: u16) -> Reply {
        Reply::Whole(status, Vec::new(), b"an answer of the server's\n".to_vec())
    }

    pub fn leads_to(place: &str) -> Reply {
        Reply::Whole(302, vec![("Location".into(), place.into())], Vec::new())
    }

    pub fn with(self, name: &str, value: &str) -> Reply {
        let Reply::Whole(status, mut headers, body) = self else { panic!("only whole answers have headers") };
        headers.push((name.into(), value.into()));
        Reply::Whole(status, headers, body)
    }
}

/// The server.
pub struct Publisher {
    at: SocketAddr,
    authority: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    replies: Mutex<HashMap<String, Reply>>,
    asked: Mutex<Vec<String>>,
    posted: Mutex<Vec<(String, String)>>,
}

impl Publisher {
    pub fn new() -> Publisher {
        Publisher::with(Certificate::Good)
    }

    pub fn with(certificate: Certificate) -> Publisher {
        let (config, authority) = identity(certificate);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (config, of_thread) = (Arc::new(config), shared.clone());
        // Ends with the test's process: the listener's threads hold nothing that others wait for.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, shared) = (config.clone(), of_thread.clone());
                std::thread::spawn(move || drop(serve(&config, &shared, stream)));
            }
        });
        Publisher { at, authority, shared }
    }

    /// The certificate of its authority, as systems keep them.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.at)
    }

    pub fn answers(&self, path: &str, reply: Reply) {
        self.shared.replies.lock().unwrap().insert(path.into(), reply);
    }

    /// What was posted since the last time: the head in small letters, and the body.
    pub fn posted(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.shared.posted.lock().unwrap())
    }

    /// The heads of the questions since the last time, in small letters.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }
}

/// The length that a head tells of its body.
fn length(head: &str) -> Option<usize> {
    let named = |line: &str| line.strip_prefix("content-length:").map(|value| value.trim().to_owned());
    head.to_ascii_lowercase().lines().find_map(named)?.parse().ok()
}

fn identity(certificate: Certificate) -> (ServerConfig, String) {
    let mut of_authority = CertificateParams::default();
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    of_authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority = CertifiedIssuer::self_signed(of_authority, KeyPair::generate().unwrap()).unwrap();
    let name = if certificate == Certificate::OfAnother { "lists.example.org" } else { "127.0.0.1" };
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if certificate == Certificate::Ended {
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    }
    let key = KeyPair::generate().unwrap();
    let signed = match certificate {
        Certificate::Own => params.self_signed(&key).unwrap(),
        _ => params.signed_by(&key, &authority).unwrap(),
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.der().clone()], key)
        .unwrap();
    (config, authority.pem())
}

fn serve(config: &Arc<ServerConfig>, shared: &Shared, stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    let connection = ServerConnection::new(config.clone()).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut body = vec![0; length(&head).unwrap_or(0)];
    stream.read_exact(&mut body)?;
    if head.starts_with("POST ") {
        let body = String::from_utf8(body).unwrap();
        shared.posted.lock().unwrap().push((head.to_ascii_lowercase(), body));
    }
    shared.asked.lock().unwrap().push(head.to_ascii_lowercase());
    let reply = shared.replies.lock().unwrap().get(&path).cloned();
    match reply.unwrap_or(Reply::status(404)) {
        Reply::Whole(status, headers, body) => {
            // What the publisher's list is known by is known again.
            let known = headers.iter().any(|(name, value)| {
                let condition = match name.as_str() {
                    "ETag" => "if-none-match",
                    "Last-Modified" => "if-modified-since",
                    _ => return false,
                };
                let line = format!("{condition}: {}\r\n", value.to_ascii_lowercase());
                head.to_ascii_lowercase().contains(&line)
            });
            let (status, body) = if known { (304, Vec::new()) } else { (status, body) };
            write!(
                stream,
                "HTTP/1.1 {status} Word\r\nContent-Length: {}\r\nConnection: close\r\n",
                body.len()
            )?;
            for (name, value) in headers {
                write!(stream, "{name}: {value}\r\n")?;
            }
            stream.write_all(b"\r\n")?;
            stream.write_all(&body)?;
        }
        Reply::Raw(bytes) => stream.write_all(&bytes)?,
        Reply::Endless(first, again, pause) => {
            stream.write_all(&first)?;
            loop {
                stream.write_all(&again)?;
                stream.flush()?;
                std::thread::sleep(pause);
            }
        }
    }
    stream.conn.send_close_notify();
    stream.flush()
}
