//! Where Postern's files lie. One root, so that a test or a sandbox can move all of them at once.
//!
//! Who writes and who reads each file stands in README, "Files".

use std::path::{Path, PathBuf};

/// Name of the keeper's socket for Exim's line protocol.
pub const EXIM_SOCKET: &str = "exim";

/// Name of the keeper's socket for Postfix's policy delegation.
pub const POSTFIX_SOCKET: &str = "postfix";

/// Name of the keeper's socket for Postfix's milter protocol.
pub const MILTER_SOCKET: &str = "milter";

/// The root below which all of Postern's files lie: `/` on a server.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Paths::below("/")
    }
}

impl Paths {
    /// Files below this root.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Paths { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `/etc/postern`: keys and commands; root's.
    pub fn etc(&self) -> PathBuf {
        self.root.join("etc/postern")
    }

    /// The key by which Dovecot is known when it asks its policy server.
    pub fn policy_key(&self) -> PathBuf {
        self.etc().join("policy-key")
    }

    /// Where the policy server is that was there before us.
    pub fn chained_policy_url(&self) -> PathBuf {
        self.etc().join("chained-policy-url")
    }

    /// The secret part of Dovecot's configuration, which root alone reads.
    pub fn dovecot_policy_conf(&self) -> PathBuf {
        self.etc().join("dovecot-policy.conf")
    }

    /// Who owns which domains, on a server without a panel; root's.
    pub fn owners(&self) -> PathBuf {
        self.etc().join("owners")
    }

    /// The web server that takes notices, and the secret by which they are signed; root's.
    pub fn webhook(&self) -> PathBuf {
        self.etc().join("webhook.json")
    }

    /// The program that takes notices, with its words; root's.
    pub fn notice_command(&self) -> PathBuf {
        self.etc().join("notice-command")
    }

    /// `/var/lib/postern`: the parent of everything that is kept; root's.
    pub fn lib(&self) -> PathBuf {
        self.root.join("var/lib/postern")
    }

    /// What the administrator chose; root's alone.
    pub fn settings(&self) -> PathBuf {
        self.lib().join("settings.db")
    }

    /// What the rules need of the settings, published for hooks to read.
    pub fn policy(&self) -> PathBuf {
        self.lib().join("policy.db")
    }

    /// What tells recipients of messages apart, for hooks to read.
    pub fn recipients(&self) -> PathBuf {
        self.lib().join("recipients.bin")
    }

    /// Folder of the network data; user `postern`'s.
    pub fn data(&self) -> PathBuf {
        self.lib().join("data")
    }

    /// The compiled network data.
    pub fn networks(&self) -> PathBuf {
        self.data().join("networks.mmdb")
    }

    /// The compiled feeds.
    pub fn feeds(&self) -> PathBuf {
        self.data().join("feeds.bin")
    }

    /// Folder of what is kept of each feed; user `postern`'s alone.
    pub fn feeds_dir(&self) -> PathBuf {
        self.data().join("feeds")
    }

    /// The key that a feed's publisher wants; root's, and readable for user `postern`.
    pub fn feed_key(&self, name: &str) -> PathBuf {
        self.etc().join("feed-keys").join(name)
    }

    /// Folder that all hooks share; user `postern`'s, writable for the mail servers' users.
    pub fn state_dir(&self) -> PathBuf {
        self.lib().join("state")
    }

    /// Counters, blocks, refusals: the file that all hooks share.
    pub fn state(&self) -> PathBuf {
        self.state_dir().join("state.db")
    }

    /// The lock beside the state.
    pub fn state_lock(&self) -> PathBuf {
        self.state_dir().join("state.lock")
    }

    /// Present while somebody wants to replace the state.
    pub fn state_intent(&self) -> PathBuf {
        self.state_dir().join("state.intent")
    }

    /// Folder of the tally.
    pub fn tally_dir(&self) -> PathBuf {
        self.state_dir().join("tally")
    }

    /// `/run/postern`: gone after a reboot.
    pub fn run(&self) -> PathBuf {
        self.root.join("run/postern")
    }

    /// The file by which there is one tick at a time; root's.
    pub fn tick_lock(&self) -> PathBuf {
        self.run().join("tick.lock")
    }

    /// The file by which notices are sent by one at a time; root's.
    pub fn notices_lock(&self) -> PathBuf {
        self.run().join("notices.lock")
    }

    /// Folder of the trouble marks.
    pub fn trouble(&self) -> PathBuf {
        self.run().join("trouble")
    }

    /// Folder of the keeper's sockets: only the mail servers' users may enter it.
    pub fn sockets(&self) -> PathBuf {
        self.run().join("sockets")
    }

    /// The file by which there is one keeper at a time.
    pub fn keeper_lock(&self) -> PathBuf {
        self.sockets().join("keeper.lock")
    }

    /// Today's key by which guesses at passwords are told apart.
    pub fn guess_key(&self) -> PathBuf {
        self.sockets().join("guess-key")
    }

    /// A folder that a setting names by its absolute path.
    pub fn at(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The system's log socket.
    pub fn log_socket(&self) -> PathBuf {
        self.root.join("dev/log")
    }
}
