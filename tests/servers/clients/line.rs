//! A connection that speaks in lines and tells any address as its own.

use super::tls::secured;
use super::{Route, Tls};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// Longer than the longest delay that Postern may add and than any server here needs.
const PATIENCE: Duration = Duration::from_secs(15);

trait Stream: Read + Write + Send + fmt::Debug {}
impl<T: Read + Write + Send + fmt::Debug> Stream for T {}

#[derive(Debug)]
pub(super) struct Line {
    socket: TcpStream,
    stream: BufReader<Box<dyn Stream>>,
    certificate: PathBuf,
}

impl Line {
    /// Connects; with an address to tell, the PROXY line goes first, before TLS too.
    pub(super) fn connect(route: &Route) -> Line {
        let Route { server, port, from, tls, certificate } = route;
        let mut socket = TcpStream::connect((*server, *port))
            .unwrap_or_else(|error| panic!("no server at {server}:{port}: {error}"));
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        if let Some(from) = from {
            socket.write_all(proxy_line(from, *port).as_bytes()).unwrap();
        }
        let stream: Box<dyn Stream> = Box::new(socket.try_clone().unwrap());
        let mut line = Line { socket, stream: BufReader::new(stream), certificate: certificate.clone() };
        if *tls == Tls::Wrapper {
            line.start_tls();
        }
        line
    }

    /// Secures the connection from here on.
    pub(super) fn start_tls(&mut self) {
        assert!(
            self.stream.buffer().is_empty(),
            "the server spoke on in the clear: {:?}",
            self.stream.buffer()
        );
        let secured = secured(self.socket.try_clone().unwrap(), &self.certificate);
        self.stream = BufReader::new(Box::new(secured));
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
        let stream = self.stream.get_mut();
        let _ = stream.write_all(format!("{words}\r\n").as_bytes()).and_then(|()| stream.flush());
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
