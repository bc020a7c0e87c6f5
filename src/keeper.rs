//! The keeper: a standing process, user `postern`, that makes the rest fast and tidy. Nothing depends on it.
//!
//! It holds policy, data and state open and answers the same doors as the hooks, by the same code, on sockets of
//! its own: Exim's line protocol and Postfix's policy delegation in `/run/postern/sockets`, Dovecot's policy
//! requests on a loopback port. Each connection has a thread while it is served, out of one crew for each socket;
//! those that Postfix keeps wait for their next question in one event loop, which decides together what comes
//! together. The keeper folds the tally, prunes and writes the WAL back. A dead keeper refuses connections at
//! once, since nobody else holds its sockets, and mail servers fall back to the hooks.
//!
//! Local users may be hostile: only the mail servers' users may enter the folder of the sockets, and who
//! connects is known by his number (SO_PEERCRED, unix(7)). Root is answered and never counted.

mod crew;
mod engines;
mod event_loop;
mod owed;

use crate::admin::Admin;
use crate::authority::become_user;
use crate::call::Call;
use crate::clock::Clock;
use crate::decide::Fact;
use crate::door::patient::{Patience, Patient};
use crate::door::{line, milter, policy};
use crate::error::{Error, Result};
use crate::folders;
use crate::gather;
use crate::kept::LOOK;
use crate::local_user;
use crate::log::{Line, Severity};
use crate::on_state::stored_user;
use crate::paths::{EXIM_SOCKET, MILTER_SOCKET, POSTFIX_SOCKET, Paths};
use crate::request::Request;
use crate::store::settings::SettingsStore;
use crate::tick;
use crate::trouble::{self, Trouble};
use crew::{Crew, Listener};
use engines::Engines;
use event_loop::EventLoop;
use fs2::FileExt;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind as sockaddr_bind, getsockopt,
    listen as listen_on, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;
use owed::{Owed, Watched};
use std::fs::{File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Exim asks one question at once, and waits no longer than that itself.
const OF_EXIM: Patience = Patience {
    first: Duration::from_secs(1),
    silence: Duration::from_secs(1),
    question: Duration::from_secs(1),
};

/// Dovecot keeps an idle connection for ten seconds, and sends a request at once. Every local user can connect, and
/// whoever stays silent must not keep Dovecot out.
const OF_DOVECOT: Patience = Patience {
    first: Duration::from_secs(1),
    silence: Duration::from_secs(60),
    question: Duration::from_secs(1),
};

/// How long the first request of a connection may take while many others are served.
const IN_A_CROWD: Duration = Duration::from_millis(200);

/// Postfix keeps a connection for as long as its process has use for it (smtpd_policy_service_max_idle, 300 s).
const OF_POSTFIX: Patience = Patience {
    first: Duration::from_secs(330),
    silence: Duration::from_secs(330),
    question: Duration::from_secs(1),
};

/// A message of a local program comes piece by piece, and one of many fields takes its time
/// (milter_content_timeout, 300 s).
const OF_MILTER: Patience = Patience {
    first: Duration::from_secs(330),
    silence: Duration::from_secs(330),
    question: Duration::from_secs(30),
};

/// Connections that are served at the same time, for each socket.
const MOST: usize = 600;

/// How often it tidies up.
const TIDY: Duration = Duration::from_secs(60);

/// How long a new keeper waits for an old one to end.
const SUCCEED: Duration = Duration::from_secs(10);

/// How long questions that were begun may take at the end: more than a decision that waits for everything.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How long whoever has connected may take to ask at the end.
const LAST_QUESTION: Duration = Duration::from_millis(200);

/// What `postern keeper` was told.
#[derive(Debug)]
pub struct Options {
    /// Where the files lie.
    pub paths: Paths,
    /// Where the time comes from.
    pub clock: Clock,
    /// Requests of this account have a fault, or tidying up (`tidying`), in tests.
    pub fault: Option<String>,
    /// Where Dovecot's policy requests are answered; nowhere in some tests.
    pub policy_at: Option<SocketAddr>,
}

/// Where Dovecot asks on a server.
pub const POLICY_AT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), policy::PORT);

/// Root's part, before the keeper itself begins: the folders of `/run`, and a policy where none is published. Fails
/// where it could not listen then; tells what else could not be made, without which it answers all the same.
pub fn prepare(admin: &Admin) -> Result<Vec<String>> {
    let store = SettingsStore::open(&admin.call.paths)?;
    let host = store.host()?;
    folders::make_run(&admin.call.paths, &host)?;
    let postfix = store.settings()?.postfix_folder;
    let entered = || folders::entered(&admin.call.paths.at(&postfix), &host);
    let for_postfix = if postfix.is_empty() { Ok(()) } else { entered() };
    // On a full disk the policy from before holds on, or hooks would do without as well; the tick tries again.
    let policy = tick::publish_where_needed(&admin.call).map(|_| ());
    let failed: Vec<Error> = [for_postfix, policy].into_iter().filter_map(Result::err).collect();
    let told = |error: &Error| {
        trouble::mark(&admin.call, Trouble::Keeper, &error.to_string());
        format!("{error} The keeper begins all the same.")
    };
    Ok(failed.iter().map(told).collect())
}

/// Runs until a signal ends it (SIGTERM, SIGINT). Started as root it becomes user `postern` for good first.
pub fn run(options: Options) -> Result<()> {
    let signals = wait_for_signals_only()?;
    // While there may be rights for it: the port is one of the system's.
    let policy_port = options.policy_at.map(bind_port);
    if nix::unistd::geteuid().is_root() {
        let (user, group) = stored_user(&options.paths)?;
        become_user(user, group)?;
    }
    raise_descriptors();
    let alone = only_one(&options.paths)?;
    let engines = Arc::new(Engines::new(options.paths, options.clock, options.fault));
    if engines.is_anothers_work() {
        return Err(Error::NotAllowed(
            "The state belongs to another user than the keeper's, so nothing could be counted: run the keeper as the user of `postern init --user`."
                .into(),
        ));
    }
    tell_panics(&engines);
    let mut sockets = Sockets::default();
    sockets.listen_for_dovecot(policy_port, &engines)?;
    sockets.listen_for_postfix(&engines)?;
    // Last: whom this one answers can rely on the others.
    sockets.listen_for_exim(&engines)?;
    say(&engines.call(), "began");
    let housekeeping = engines.clone();
    let kept = thread::Builder::new().name("tidies-up".into()).spawn(move || keep_house(&housekeeping));
    kept.map_err(Error::system("begin the thread that tidies up"))?;
    let ended_by = watch(&engines, &signals);
    sockets.end();
    // The next one need not wait for our last words.
    drop(alone);
    sockets.owed.pay(LAST_WORDS, LAST_QUESTION);
    engines.end();
    say(&engines.call(), &format!("ended by {ended_by}"));
    Ok(())
}

fn say(call: &Call, what: &str) {
    Line::new(Severity::Notice, "keeper").field("did", what).send(&call.paths, call.program);
}

/// Blocked in every thread, so that they wait for whoever asks for them.
fn wait_for_signals_only() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().for_each(|s| signals.add(s));
    signals.thread_block().map_err(|e| Error::system("block signals")(e.into()))?;
    Ok(signals)
}

/// Until a signal comes, or Postern has another user: then hooks can count, and this process cannot.
fn watch(engines: &Engines, signals: &SigSet) -> String {
    loop {
        engines.tend_state();
        match next_signal(signals, LOOK) {
            Some(Signal::SIGHUP) | None => {}
            Some(signal) => return signal.to_string(),
        }
        if engines.is_anothers_work() {
            return "a change of Postern's user".into();
        }
    }
}

fn next_signal(signals: &SigSet, limit: Duration) -> Option<Signal> {
    let limit = TimeSpec::from_duration(limit);
    // SAFETY: a set and a time of ours; no details of the signal are wanted.
    let signal = unsafe {
        nix::libc::sigtimedwait(signals.as_ref(), std::ptr::null_mut(), std::ptr::from_ref(limit.as_ref()))
    };
    Signal::try_from(signal).ok()
}

/// Every panic is told, in whatever thread; whoever started the work says what it costs.
fn tell_panics(engines: &Arc<Engines>) {
    let engines = engines.clone();
    let tell = move |panic: &PanicHookInfo| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        let words = panic.payload_as_str().unwrap_or("a fault without words");
        trouble::mark(&engines.call(), Trouble::Panic, &format!("{words} ({place})"));
    };
    std::panic::set_hook(Box::new(tell));
}

/// The minute's work, by and by. A panic costs a turn.
fn keep_house(engines: &Engines) {
    let mut next = Instant::now();
    loop {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            engines.have_fault_of("tidying");
            tick::in_keeper(&engines.call())
        }));
        next += TIDY;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// A connection is a descriptor; the usual soft limit is less than what may be served at once.
fn raise_descriptors() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Where that is refused, fewer connections are served at once.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192).max(soft), hard);
    }
}

/// One keeper at a time. One that is being replaced ends soon.
fn only_one(paths: &Paths) -> Result<File> {
    let path = paths.keeper_lock();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(nix::libc::O_NOFOLLOW).open(&path).map_err(Error::file("open", &path))?;
    let begun = Instant::now();
    while file.try_lock_exclusive().is_err() {
        if begun.elapsed() > SUCCEED {
            return Err(Error::State(format!("Another keeper is at work (it holds {}).", path.display())));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(file)
}

/// What the keeper listens on.
#[derive(Default)]
struct Sockets {
    /// Names of sockets, to be taken away at the end, so that nobody new comes.
    names: Vec<PathBuf>,
    /// Ends each crew.
    crews: Vec<Box<dyn Fn()>>,
    /// To whoever is connected, on all of them.
    owed: Arc<Owed>,
}

impl Sockets {
    fn add<L: Listener>(
        &mut self,
        listener: L,
        serve: impl Fn(Watched<L::Stream>, bool) + Send + Sync + 'static,
    ) -> Result<()> {
        let crew = Crew::begin(listener, MOST, &self.owed, Box::new(serve))
            .map_err(Error::system("begin a thread"))?;
        self.crews.push(Box::new(move || crew.end()));
        Ok(())
    }

    fn listen(
        &mut self,
        path: PathBuf,
        serve: impl Fn(Watched<UnixStream>) + Send + Sync + 'static,
    ) -> Result<()> {
        let listener = bind(&path)?;
        self.names.push(path);
        self.add(listener, move |stream, _| serve(stream))
    }

    fn listen_for_exim(&mut self, engines: &Arc<Engines>) -> Result<()> {
        let (path, engines) = (engines.paths.sockets().join(EXIM_SOCKET), engines.clone());
        self.listen(path, move |stream| serve_exim(&engines, stream))
    }

    /// In the folder of all sockets, and where a setting says so in one within Postfix's own root.
    fn listen_for_postfix(&mut self, engines: &Arc<Engines>) -> Result<()> {
        let call = engines.call();
        let own = gather::settings(&call);
        let mut folders = vec![engines.paths.sockets()];
        if let Fact::Known(settings) = own
            && !settings.postfix_folder.is_empty()
        {
            folders.push(engines.paths.at(&settings.postfix_folder));
        }
        let kept = EventLoop::begin(engines, OF_POSTFIX, MOST)?;
        for (number, folder) in folders.iter().enumerate() {
            let listened = self.listen_for_postfix_in(folder, engines, &kept);
            match listened {
                // One that nobody else depends on: the rest goes on without it.
                Err(error) if number > 0 => trouble::mark(&call, Trouble::Keeper, &error.to_string()),
                other => other?,
            }
        }
        Ok(())
    }

    fn listen_for_postfix_in(
        &mut self,
        folder: &Path,
        engines: &Arc<Engines>,
        kept: &Arc<EventLoop>,
    ) -> Result<()> {
        let (for_policy, kept) = (engines.clone(), kept.clone());
        self.listen(folder.join(POSTFIX_SOCKET), move |stream| serve_postfix(&for_policy, &kept, stream))?;
        let engines = engines.clone();
        self.listen(folder.join(MILTER_SOCKET), move |stream| serve_milter(&engines, stream))
    }

    /// Where another answers there already (hooks/systemd/postern-policy.socket), it goes on doing so.
    fn listen_for_dovecot(&mut self, port: Option<Result<OwnedFd>>, engines: &Arc<Engines>) -> Result<()> {
        match port.map(|bound| bound.and_then(listening)) {
            None => Ok(()),
            Some(Ok(listener)) => {
                let engines = engines.clone();
                self.add(listener, move |stream, crowded| serve_dovecot(&engines, stream, crowded))
            }
            Some(Err(Error::System { doing, source })) if source.kind() == ErrorKind::AddrInUse => {
                say(&engines.call(), &format!("could not {doing}: another answers there"));
                Ok(())
            }
            Some(Err(error)) => {
                trouble::mark(&engines.call(), Trouble::Keeper, &error.to_string());
                Ok(())
            }
        }
    }

    fn end(&self) {
        for name in &self.names {
            let _ = std::fs::remove_file(name);
        }
        self.crews.iter().for_each(|end| end());
    }
}

/// Binds a socket in a folder that is ours alone to write. What an earlier keeper left there is dead.
fn bind(path: &Path) -> Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(Error::file("listen on", path))?;
    // The folder keeps strangers away.
    std::fs::set_permissions(path, Permissions::from_mode(0o666))
        .map_err(Error::file("set the mode of", path))?;
    Ok(listener)
}

/// Binds the port beside an earlier keeper that is about to end (`SO_REUSEPORT`, socket(7): only for the same user).
/// It does not listen yet: the kernel would give it a part of the connections, and nobody would take them before
/// the other has ended.
fn bind_port(at: SocketAddr) -> Result<OwnedFd> {
    let bound = || -> nix::Result<OwnedFd> {
        let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        setsockopt(&socket, sockopt::ReusePort, &true)?;
        sockaddr_bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
        Ok(socket)
    };
    bound().map_err(|e| Error::system(format!("listen on {at}"))(e.into()))
}

fn listening(bound: OwnedFd) -> Result<TcpListener> {
    listen_on(&bound, Backlog::MAXCONN)
        .map_err(|e| Error::system("listen for Dovecot's policy requests")(e.into()))?;
    Ok(TcpListener::from(bound))
}

/// Who is connected.
fn peer(stream: &Watched<UnixStream>) -> Option<u32> {
    getsockopt(stream, sockopt::PeerCredentials).ok().map(|peer| peer.uid())
}

/// Whether this user may ask; who may not is told about.
fn admits(engines: &Engines, uid: u32, socket: &str) -> bool {
    let admitted = engines.admits(uid);
    if !admitted {
        trouble::mark(&engines.call(), Trouble::NotAdmitted, &format!("user {uid} on the socket {socket}"));
    }
    admitted
}

/// Marks what a door did not understand. A connection that broke is its client's own affair.
fn end(engines: &Engines, outcome: std::io::Result<Result<()>>) {
    if let Ok(Err(error)) = outcome {
        trouble::mark(&engines.call(), Trouble::Call, &error.to_string());
    }
}

fn serve_exim(engines: &Engines, stream: Watched<UnixStream>) {
    let Some(uid) = peer(&stream) else { return };
    let Ok(mut stream) = Patient::new(stream, OF_EXIM) else { return };
    if admits(engines, uid, EXIM_SOCKET) {
        end(engines, line::converse(&mut stream, uid, &mut |request| engines.answer_to(uid, true, request)));
    } else {
        let _ = line::turn_away(&mut stream);
    }
}

/// Dovecot is known by the key, which each request shows.
fn serve_dovecot(engines: &Engines, stream: Watched<TcpStream>, crowded: bool) {
    let first = if crowded { IN_A_CROWD } else { OF_DOVECOT.first };
    let Ok(mut stream) = Patient::new(stream, Patience { first, ..OF_DOVECOT }) else { return };
    let tell = |trouble, error: &Error| trouble::mark(&engines.call(), trouble, &error.to_string());
    let options = policy::Options::read(&engines.paths, &tell);
    // A connection that broke is Dovecot's own affair.
    let _ = policy::converse(&mut stream, &options, &mut |request| engines.answer(request, true));
}

fn serve_postfix(engines: &Engines, kept: &EventLoop, stream: Watched<UnixStream>) {
    let Some(uid) = peer(&stream) else { return };
    let admitted = admits(engines, uid, POSTFIX_SOCKET);
    kept.serve(stream, uid, admitted);
}

fn serve_milter(engines: &Engines, stream: Watched<UnixStream>) {
    let Some(uid) = peer(&stream) else { return };
    let admitted = admits(engines, uid, MILTER_SOCKET);
    let Ok(mut stream) = Patient::new(stream, OF_MILTER) else { return };
    let name_of = |uid| local_user::name_of(&engines.paths, uid);
    let ask = &mut |request: &Request| engines.answer_to(uid, admitted, request);
    end(engines, milter::converse(&mut stream, &name_of, ask));
}
