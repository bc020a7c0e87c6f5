//! Programs that limit senders, as Debian 12 brings them, each with the limit that Postern comes with: 150
//! messages of a login in 5 minutes. They run in a Debian folder of their own, on sockets in it or on its
//! loopback address.

use crate::load::{Asks, Manner, Policy, Rspamd};
use crate::rig::Scene;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How somebody is reached.
pub(crate) enum Way {
    Policy(PathBuf, Manner),
    Rspamd(SocketAddr),
}

impl Way {
    pub(crate) fn connect(&self) -> Box<dyn Asks> {
        match self {
            Way::Policy(socket, manner) => Box::new(Policy::connect(socket, *manner)),
            Way::Rspamd(address) => Box::new(Rspamd { address: *address }),
        }
    }

    fn answers(&self) -> bool {
        match self {
            Way::Policy(socket, _) => UnixStream::connect(socket).is_ok(),
            Way::Rspamd(address) => TcpStream::connect(address).is_ok(),
        }
    }
}

/// A program that runs. Dropped: it has been told to end; what is left of it ends with its folder's scene.
pub(crate) struct Peer {
    pub(crate) way: Way,
    /// The processes that began it; each may have children.
    pub(crate) pids: Vec<i32>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        for pid in &self.pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGTERM);
        }
    }
}

/// Debian's policyd-rate-limit: Python, a row for each message in SQLite.
pub(crate) fn policyd_rate_limit(scene: &Scene) -> Peer {
    folder(scene, "policyd-rate-limit", "policyd-rate-limit");
    // It shuts the folder of its database to others.
    folder(scene, "policyd-rate-limit/own", "policyd-rate-limit");
    put(scene, "/rig/peers/policyd.yaml", include_str!("policyd-rate-limit.yaml"));
    let pid = start(scene, "root", &["policyd-rate-limit", "--file", "/rig/peers/policyd.yaml"]);
    let socket = scene.path("/rig/peers/policyd-rate-limit/socket");
    let manner =
        Manner { protocol_state: "RCPT", yes: "action=dunno\n\n", no: "action=defer_if_permit over" };
    await_answer(Way::Policy(socket, manner), vec![pid])
}

/// Debian's postfwd: Perl, several processes, counts in memory.
pub(crate) fn postfwd(scene: &Scene) -> Peer {
    folder(scene, "postfwd", "postfw");
    put(scene, "/rig/peers/postfwd.cf", include_str!("postfwd.cf"));
    let words = "postfwd2 -f /rig/peers/postfwd.cf --proto unix -p /rig/peers/postfwd/socket --server_umask 0000 \
                 --cache_umask 0000 --cache_proto unix --cache_port /rig/peers/postfwd/cache -u postfw -g postfw \
                 --pidfile /rig/peers/postfwd/pid --nodns --norulelog";
    scene.run_as("root", &words.split_whitespace().collect::<Vec<_>>(), "").succeeded();
    let socket = scene.path("/rig/peers/postfwd/socket");
    let manner = Manner { protocol_state: "RCPT", yes: "action=DUNNO\n\n", no: "action=450 4.7.1 over" };
    // It goes into the background; its file names the process that leads.
    let pid =
        eventually(|| fs::read_to_string(scene.path("/rig/peers/postfwd/pid")).ok()?.trim().parse().ok());
    await_answer(Way::Policy(socket, manner), vec![pid])
}

/// Debian's rspamd with nothing but its ratelimit module asked, counts in a redis of its own.
pub(crate) fn rspamd(scene: &Scene) -> Peer {
    folder(scene, "redis", "redis");
    let address = SocketAddr::from((scene.address(), 11_333));
    for (file, text) in [
        ("local.d/ratelimit", RATELIMIT.into()),
        ("local.d/redis", "servers = \"/rig/peers/redis/socket\";".into()),
        ("local.d/worker-normal", format!("bind_socket = \"{address}\";")),
        ("local.d/worker-controller", "count = -1;".into()),
        ("local.d/worker-proxy", "count = -1;".into()),
        ("local.d/logging", "type = \"console\"; level = \"error\";".into()),
        // Without a network the fuzzy check's servers are not found, and it does not start.
        ("override.d/options", "filters = \"chartable,dkim,regexp\";".into()),
    ] {
        let ending = if file.ends_with("ratelimit") || file.ends_with("redis") { "conf" } else { "inc" };
        put(scene, &format!("/etc/rspamd/{file}.{ending}"), &text);
    }
    let redis = "redis-server --port 0 --unixsocket /rig/peers/redis/socket --unixsocketperm 777 \
                 --dir /rig/peers/redis --daemonize no";
    let redis = start(scene, "redis:redis", &redis.split_whitespace().collect::<Vec<_>>());
    let rspamd = start(scene, "root", &["rspamd", "-f", "-u", "_rspamd", "-g", "_rspamd"]);
    await_answer(Way::Rspamd(address), vec![rspamd, redis])
}

const RATELIMIT: &str =
    r#"rates { sender { selector = "user"; bucket { burst = 150; rate = "150 / 5min"; } } }"#;

fn put(scene: &Scene, inside: &str, text: &str) {
    let path = scene.path(inside);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Makes its folder.
fn folder(scene: &Scene, name: &str, user: &str) {
    fs::create_dir_all(scene.path("/rig/peers")).unwrap();
    let folder = format!("/rig/peers/{name}");
    scene.run_as("root", &["install", "-d", "-o", user, &folder], "").succeeded();
}

/// Starts a program that stays in the foreground.
fn start(scene: &Scene, user: &str, words: &[&str]) -> i32 {
    let log = File::create(scene.path(&format!("/rig/peers/{}.log", words[0]))).unwrap();
    let mut command = Command::new("chroot");
    command.arg(format!("--userspec={user}")).arg(scene.path("/")).args(words).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap().id().cast_signed()
}

fn await_answer(way: Way, pids: Vec<i32>) -> Peer {
    eventually(|| way.answers().then_some(()));
    Peer { way, pids }
}

/// rspamd compiles its rules when it starts for the first time: that takes a while.
fn eventually<T>(found: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "a peer did not start: see rig/peers in its folder"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
