//! The ports that Dovecot's policy requests go to: Postern's, where a process is started for each connection as
//! systemd and inetd do it, and that of another policy server which was there before. In the place of each a test
//! may put what it wants.

use super::root::Root;
use super::{Scene, eventually};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

/// Where Dovecot asks Postern, in place of port 301, which all folders would share.
const OURS: u16 = 10301;

/// Where the policy server is that was there before.
const OTHER: u16 = 10302;

/// What happens on a port.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OnPort {
    /// Postern's program, with these words before its verb.
    Postern(&'static [&'static str]),
    /// Every request is answered with this JSON.
    Json(&'static str),
    /// Every request is answered with these bytes, and the connection closed.
    Bytes(&'static str),
    /// Requests are read and never answered.
    Hangs,
    /// Nobody listens.
    Absent,
}

/// A port that is open until it is dropped.
#[derive(Debug)]
pub(super) struct Port {
    at: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    listens: Option<JoinHandle<Connections>>,
}

#[derive(Debug, Default)]
struct Connections {
    programs: Vec<Child>,
    streams: Vec<TcpStream>,
}

impl Port {
    pub(super) fn open(root: &Root, number: u16, how: OnPort) -> Port {
        let at = SocketAddr::from((root.address(), number));
        let (heard, ended): (Arc<Mutex<Vec<String>>>, Arc<AtomicBool>) = Default::default();
        let listens = (!matches!(how, OnPort::Absent)).then(|| {
            let listener = bind(at);
            let (heard, ended, folder) = (heard.clone(), ended.clone(), root.folder().to_owned());
            spawn(move || serve(&listener, how, &folder, &heard, &ended))
        });
        Port { at, heard, ended, listens }
    }
}

/// A program that another thread has just started may hold an earlier listener for a moment.
fn bind(at: SocketAddr) -> TcpListener {
    let bound = RefCell::new(None);
    eventually(&format!("{at} is free"), || {
        *bound.borrow_mut() = TcpListener::bind(at).ok();
        bound.borrow().is_some()
    });
    bound.into_inner().unwrap()
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let Some(listens) = self.listens.take() else { return };
        // It waits for a connection.
        let _ = TcpStream::connect(self.at);
        if let Ok(mut connections) = listens.join() {
            for stream in &connections.streams {
                let _ = stream.shutdown(Shutdown::Both);
            }
            for program in &mut connections.programs {
                let _ = program.kill();
                let _ = program.wait();
            }
        }
    }
}

fn serve(
    listener: &TcpListener,
    how: OnPort,
    folder: &Path,
    heard: &Arc<Mutex<Vec<String>>>,
    ended: &AtomicBool,
) -> Connections {
    let mut connections = Connections::default();
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        if ended.load(Ordering::Relaxed) {
            break;
        }
        connections.programs.retain_mut(|program| program.try_wait().unwrap().is_none());
        match how {
            OnPort::Postern(seams) => connections.programs.push(start(folder, stream, seams)),
            how => {
                connections.streams.push(stream.try_clone().unwrap());
                let heard = heard.clone();
                spawn(move || answer(stream, how, &heard));
            }
        }
    }
    connections
}

/// As root, whose rights it must give up itself.
fn start(folder: &Path, stream: TcpStream, seams: &[&str]) -> Child {
    let output = stream.try_clone().unwrap();
    Command::new("chroot")
        .arg(folder)
        .args(["/usr/libexec/postern/postern-dovecot", "--now=@/rig/clock"])
        .args(seams)
        .arg("policy")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin")
        .stdin(Stdio::from(OwnedFd::from(stream)))
        .stdout(Stdio::from(OwnedFd::from(output)))
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn answer(mut stream: TcpStream, how: OnPort, heard: &Mutex<Vec<String>>) {
    let mut read = Vec::new();
    while let Some(request) = next_request(&mut stream, &mut read) {
        heard.lock().unwrap().push(request);
        match how {
            OnPort::Json(json) => {
                let length = json.len();
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{json}");
            }
            OnPort::Bytes(bytes) => {
                let _ = stream.write_all(bytes.as_bytes());
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            _ => {}
        }
    }
}

/// The next request, byte for byte.
fn next_request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
            let length: usize = length.parse().unwrap();
            if body.len() >= length {
                let whole = head.len() + 4 + length;
                read.drain(..whole);
                return Some(text[..whole].to_owned());
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => read.extend(&buffer[..n]),
            _ => return None,
        }
    }
}

/// Where the keeper answers Dovecot.
pub(super) fn ours(root: &Root) -> SocketAddr {
    SocketAddr::from((root.address(), OURS))
}

impl Scene {
    /// What happens from now on where Dovecot asks Postern.
    pub(crate) fn on_policy_port(&self, how: OnPort) {
        self.open(OURS, how);
    }

    /// What happens from now on where the other policy server is.
    pub(crate) fn on_other_policy_port(&self, how: OnPort) {
        self.open(OTHER, how);
    }

    fn open(&self, number: u16, how: OnPort) {
        let mut ports = self.ports.lock().unwrap();
        // First: two cannot listen there.
        ports.remove(&number);
        ports.insert(number, Port::open(&self.root, number, how));
    }

    /// What a stand-in for Postern heard since the last time.
    pub(crate) fn policy_heard(&self) -> Vec<String> {
        self.heard(OURS)
    }

    /// What the other policy server heard since the last time.
    pub(crate) fn other_policy_heard(&self) -> Vec<String> {
        self.heard(OTHER)
    }

    fn heard(&self, number: u16) -> Vec<String> {
        self.ports
            .lock()
            .unwrap()
            .get(&number)
            .map(|port| std::mem::take(&mut *port.heard.lock().unwrap()))
            .unwrap_or_default()
    }
}

/// Which policy servers Dovecot asks in a scene.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks {
    ours: bool,
    other: bool,
}

/// Writes Dovecot's settings: those of the other policy server, where there is one, and then Postern's snippet.
pub(super) fn configure(root: &Root, ours: bool, other: bool) -> Asks {
    let version = if root.pair().has_dovecot_2_4() { "2.4" } else { "2.3" };
    let mut text = String::new();
    if other {
        text += &super::servers::template(root, &format!("other-policy-{version}.conf"));
        let url = format!("http://{}:{OTHER}/dovecot-auth-policy\n", root.address());
        super::servers::put(root, "/etc/postern/chained-policy-url", &url);
    }
    if ours {
        let kind = if other { "policy-chained" } else { "policy" };
        let snippet = super::root::project().join(format!("hooks/dovecot/{kind}-{version}.conf"));
        text += &fs::read_to_string(snippet).unwrap();
    }
    super::servers::put(root, "/rig/policy.conf", &text);
    Asks { ours, other }
}

impl Asks {
    /// After `postern init`: Dovecot asks on this folder's own address.
    pub(super) fn set_address(self, root: &Root) {
        let file: PathBuf = root.path("/etc/postern/dovecot-policy.conf");
        let ours = ours(root).to_string();
        let standard = SocketAddr::from((Ipv4Addr::LOCALHOST, postern::door::policy::PORT)).to_string();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(&standard), "{text}");
        fs::write(&file, text.replace(&standard, &ours)).unwrap();
    }

    /// The ports as a scene begins. Where the keeper runs it answers on ours.
    pub(super) fn ports(self, root: &Root, keeper: bool) -> BTreeMap<u16, Port> {
        let ours = (self.ours && !keeper).then_some((OURS, OnPort::Postern(&[])));
        let other = self.other.then_some((OTHER, OnPort::Json(r#"{"status":0,"msg":""}"#)));
        let open = |(number, how)| (number, Port::open(root, number, how));
        ours.into_iter().chain(other).map(open).collect()
    }
}
