//! The server that is played on: files as on a real one, and the rules asked as the keeper asks them.

use crate::Try;
use crate::sandbox::{NOON, POSTERN, Sandbox};
use nix::unistd::{Gid, Uid, setegid, seteuid};
use postern::account::Account;
use postern::address::{Address, Network};
use postern::call::Call;
use postern::flow;
use postern::kept::{Kept, KeptState};
use postern::paths::Paths;
use postern::request::{Door, Ended, Login, Outcome, Request, Service};
use postern::settings::Settings;
use postern::store::state::rollups::{self, Retention};
use postern::store::state::{State, sightings};
use postern::tally;
use postern::verdict::Verdict;
use std::sync::Arc;

/// Networks, their countries and whose they are: the home and mobile networks of the customers, their neighbours',
/// networks abroad, and two where machines are rented.
const PLACES: [(&str, &str, u32); 9] = [
    ("80.0.0.0/8", "DE", 3320),
    ("84.0.0.0/8", "DE", 6805),
    ("91.0.0.0/8", "AT", 8447),
    ("2003::/19", "DE", 3320),
    ("2a02:3000::/23", "DE", 6805),
    ("36.0.0.0/8", "CN", 4134),
    ("177.0.0.0/8", "BR", 28573),
    ("5.9.0.0/16", "DE", 24940),
    ("52.96.0.0/14", "US", 8075),
];

/// A server with those places in its network data.
fn with_places() -> Sandbox {
    let sandbox = Sandbox::without_data();
    let asn = sandbox.path("asn.csv");
    let range = |(network, _, number): &(&str, &str, u32)| {
        let network: ipnet::IpNet = network.parse().unwrap();
        format!("{},{},{number},AS{number}\n", network.network(), network.broadcast())
    };
    std::fs::write(&asn, PLACES.iter().map(range).collect::<String>()).unwrap();
    let countries = PLACES.map(|(network, code, _)| (network, code));
    sandbox.build_data_of(&countries, &[format!("--asn={}", asn.display())]);
    sandbox
}

/// What the server says to a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Refused,
    /// The password was right, or wrong.
    Asked,
}

pub(crate) struct Server {
    paths: Paths,
    kept: Kept,
    now: i64,
    folded: i64,
    _sandbox: Sandbox,
}

impl Server {
    pub(crate) fn new(_mailboxes: usize) -> Server {
        let sandbox = with_places().setting("default_server_geoip", "DE").countries("DE,AT");
        for (key, value) in [
            ("source_rule", "enforce"),
            ("mailbox_guard", "enforce"),
            ("attack_networks", "enforce"),
            ("burst_rule", "enforce"),
            ("imap_logins_from", "policy"),
        ] {
            sandbox.api(&["set_setting", &format!("key={key}"), &format!("value={value}")]);
        }
        sandbox.postern(&["tick"]).succeeded();
        let paths = Paths::below(sandbox.root());
        // The state is never opened with root's rights.
        setegid(Gid::from_raw(POSTERN)).unwrap();
        seteuid(Uid::from_raw(POSTERN)).unwrap();
        let kept = Kept::new(Arc::new(KeptState::for_long()));
        Server { paths, kept, now: NOON, folded: NOON, _sandbox: sandbox }
    }

    pub(crate) fn today(&self) -> i64 {
        self.now / 86_400
    }

    /// Tries to log in, and tells the server's word for how it ended.
    pub(crate) fn login(&mut self, t: &Try) -> Answer {
        self.now = NOON + t.at;
        if self.now - self.folded >= 3600 {
            self.fold();
        }
        let (account, address) = (account(t.mailbox), t.address.parse().unwrap());
        let login = Login {
            account: Some(account.clone()),
            address: Some(address),
            service: Service::Imap,
            door: Door::DovecotPolicy,
        };
        if flow::answer(&self.call(), &Request::Login(login), &|_| {}).verdict == Verdict::Refuse {
            return Answer::Refused;
        }
        let ended = if t.guess.is_some() { Ended::Failed } else { Ended::Succeeded };
        // What Dovecot tells of a password is a hash of mailbox and password.
        let guess = t.guess.map(|guess| {
            let mixed = (guess ^ (t.mailbox as u64) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (mixed >> 48) as u16
        });
        let outcome = Outcome {
            account: Some(account),
            address: Some(address),
            service: Service::Imap,
            door: Door::DovecotPolicy,
            ended,
            guess,
        };
        let _ = flow::answer(&self.call(), &Request::Outcome(outcome), &|_| {});
        Answer::Asked
    }

    /// The reason that is told an administrator.
    pub(crate) fn why(&self, t: &Try) -> String {
        let login = Login {
            account: Some(account(t.mailbox)),
            address: Some(t.address.parse().unwrap()),
            service: Service::Imap,
            door: Door::Explain,
        };
        flow::explain(&self.call(), &login).1.reason.for_admin()
    }

    fn call(&self) -> Call<'_> {
        Call { kept: Some(&self.kept), ..Call::new(self.paths.clone(), self.now, "traces") }
    }

    /// The minute's work, each hour.
    fn fold(&mut self) {
        self.folded = self.now;
        if !tally::close_current(&self.paths, self.now).unwrap() {
            return;
        }
        // What is kept open is looked at every fifth of a real second, which is hours here.
        self.kept = Kept::new(Arc::new(KeptState::for_long()));
        let retention = Retention::from(&Settings::default());
        let mut state = State::open(&self.paths).unwrap();
        for entry in std::fs::read_dir(self.paths.tally_dir()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("fold-") {
                let text = std::fs::read_to_string(&path).unwrap();
                state.write(|t| rollups::fold(t, &name, &text, self.now, &retention)).unwrap();
                std::fs::remove_file(&path).unwrap();
            }
        }
        state.write(|t| sightings::prune(t, self.now)).unwrap();
        let marks = std::fs::read_dir(self.paths.trouble()).unwrap().map(|mark| mark.unwrap().file_name());
        assert_eq!(marks.collect::<Vec<_>>(), Vec::<std::ffi::OsString>::new(), "no trouble of our own");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The folder is root's to remove.
        let _ = seteuid(Uid::from_raw(0)).and_then(|()| setegid(Gid::from_raw(0)));
    }
}

fn account(mailbox: usize) -> Account {
    format!("user{mailbox}@customer{}.test", mailbox / 5).parse().unwrap()
}

/// The network around an address, as its owner's networks are counted.
pub(crate) fn network_of(address: &str) -> String {
    Network::around(address.parse::<Address>().unwrap()).to_string()
}
