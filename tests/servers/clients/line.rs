//! A connection that speaks in lines and tells any address as its own.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

/// Longer than the longest delay that Postern may add and than any server here needs.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Line {
    stream: BufReader<TcpStream>,
}

impl Line {
    /// Connects; with an address to tell, the PROXY line goes first.
    pub(super) fn connect(server: Ipv4Addr, port: u16, from: Option<&str>) -> Line {
        let mut stream = TcpStream::connect((server, port))
            .unwrap_or_else(|error| panic!("no server at {server}:{port}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        if let Some(from) = from {
            stream.write_all(proxy_line(from, port).as_bytes()).unwrap();
        }
        Line { stream: BufReader::new(stream) }
    }

    /// One line, without its end.
    pub(super) fn read(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => Err("(the server closed the connection)".to_owned()),
            Ok(_) => Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => Err(format!("(no answer: {error})")),
        }
    }

    /// Sends these words and an end of line. A failure shows at the next read.
    pub(super) fn write(&mut self, words: &str) {
        let _ = self.stream.get_mut().write_all(format!("{words}\r\n").as_bytes());
    }
}

/// PROXY protocol, version 1. The server's own address is one that is public but nobody's.
fn proxy_line(from: &str, port: u16) -> String {
    match from.parse() {
        Ok(IpAddr::V4(_)) => format!("PROXY TCP4 {from} 192.0.2.10 40000 {port}\r\n"),
        Ok(IpAddr::V6(_)) => format!("PROXY TCP6 {from} 2001:db8::10 40000 {port}\r\n"),
        Err(_) => panic!("'{from}' is no address"),
    }
}
