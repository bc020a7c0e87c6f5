//! The settings table: key, type, default, what is accepted, meaning. Command line, API, pages and README
//! all read it from here.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether a rule is asked, and whether it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The rule is not asked.
    Off,
    /// The rule records what it would have refused, and never answers.
    Monitor,
    /// The rule answers.
    Enforce,
}

impl Mode {
    /// The word that stands for it in settings and lists.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Monitor => "monitor",
            Mode::Enforce => "enforce",
        }
    }
}

/// What becomes of a local submission over the limit. Exim's `acl_not_smtp` knows no temporary refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverLimit {
    /// The message is kept frozen in the queue until the administrator releases or removes it.
    Hold,
    /// The message is refused for good; the sending program gets an error.
    Refuse,
}

/// What is done with an address that good network data have no country for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownCountry {
    /// The country rule lets it pass.
    Allow,
    /// The country rule refuses it.
    Refuse,
}

/// Whose word counts for the logins of a service, where several doors see them: the source of record. See
/// [`sources`](crate::sources) for what each counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginsFrom {
    /// Dovecot's checkpassword stages (2.3).
    Gate,
    /// Dovecot's policy server.
    Policy,
    /// Dovecot's post-login script.
    Postlogin,
    /// Exim's own doors: for servers where Dovecot is not guarded.
    Exim,
    /// Postfix's own doors: for servers whose SMTP logins do not reach Dovecot.
    Postfix,
    /// The servers' logs that are followed: for services whose logins no door sees to their end.
    Log,
}

/// For how many days Activity can be kept at most.
pub const MOST_ACTIVITY_DAYS: i64 = 3660;

/// How many logs can be followed.
const MOST_FILES: usize = 8;

/// What a setting accepts, for checking and for telling.
#[derive(Clone, Copy, Debug)]
pub enum Accepts {
    /// One of these words.
    Words(&'static [&'static str]),
    /// A whole number from the first to the second.
    Number(i64, i64),
    /// `on` or `off`.
    Switch,
    /// A two-letter country code, or nothing.
    CountryOrNothing,
    /// A mail address or a local user's name, or nothing.
    MailAddressOrNothing,
    /// Names of local users, separated by commas.
    UserNames,
    /// Addresses and networks, separated by commas.
    Networks,
    /// An absolute path of plain names, or nothing.
    FolderOrNothing,
    /// Absolute paths of files, separated by commas.
    Files,
}

impl Accepts {
    /// In words, as the second half of an error.
    pub fn words(&self) -> String {
        match self {
            Accepts::Words(words) => format!("one of {}", words.join(", ")),
            Accepts::Number(low, high) => format!("a whole number from {low} to {high}"),
            Accepts::Switch => "on or off".into(),
            Accepts::CountryOrNothing => "a two-letter country code as DE, or nothing".into(),
            Accepts::MailAddressOrNothing => "a mail address, or the name of a local user, or nothing".into(),
            Accepts::UserNames => "names of local users, separated by commas".into(),
            Accepts::FolderOrNothing => {
                "an absolute path of plain names as /var/spool/postfix/postern, or nothing".into()
            }
            Accepts::Networks => "addresses and networks, separated by commas".into(),
            Accepts::Files => format!("at most {MOST_FILES} absolute paths of files, separated by commas"),
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Setting {
    /// Stable key.
    pub key: &'static str,
    /// The name that administrators know it by.
    pub title: &'static str,
    /// What it accepts.
    pub accepts: Accepts,
    /// What it means, with its unit.
    pub meaning: &'static str,
}

/// A type that a setting's text can be read into and written from.
trait Value: Sized {
    fn read(text: &str, accepts: &Accepts) -> Option<Self>;
    fn write(&self) -> String;
}

macro_rules! settings {
    ($($key:ident: $type:ty = $default:expr, $accepts:expr, $title:literal, $meaning:literal;)*) => {
        /// The value of each setting.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Settings { $(#[doc = $meaning] pub $key: $type,)* }

        impl Default for Settings {
            fn default() -> Self { Settings { $($key: $default,)* } }
        }

        /// Every setting, in the order in which pages show them.
        pub const TABLE: &[Setting] = &[
            $(Setting { key: stringify!($key), title: $title, accepts: $accepts, meaning: $meaning },)*
        ];

        impl Settings {
            /// Sets one value from text. Refuses unknown keys and values that are not accepted.
            pub fn set(&mut self, key: &str, text: &str) -> Result<()> {
                match key {
                    $(stringify!($key) => {
                        self.$key = Value::read(text.trim(), &$accepts)
                            .ok_or_else(|| Error::bad_value(format!("The setting {key}"), text, $accepts.words()))?;
                    })*
                    _ => return Err(unknown_key(key)),
                }
                Ok(())
            }

            /// Each key with its value as text.
            pub fn pairs(&self) -> BTreeMap<&'static str, String> {
                BTreeMap::from([$((stringify!($key), self.$key.write()),)*])
            }
        }
    };
}

settings! {
    country_rule: Mode = Mode::Off, Accepts::Words(&["off", "monitor", "enforce"]),
        "Country Authentication Restrictions",
        "Logins only from the allowed countries: off, monitor (record what would be refused) or enforce.";
    unknown_countries: UnknownCountry = UnknownCountry::Allow, Accepts::Words(&["allow", "refuse"]),
        "Unknown countries",
        "What the country rule does with an address that the network data have no country for.";
    cloud_mail_clients: bool = true, Accepts::Switch,
        "Cloud mail clients",
        "Whether mail services that log in for their users (Outlook, Gmail) skip the rules by country and kind of network.";
    source_rule: Mode = Mode::Monitor, Accepts::Words(&["off", "monitor", "enforce"]),
        "Source Based Authentication Restrictions",
        "No logins from cloud networks and the like, as the next four switches say: off, monitor (record what would be refused) or enforce.";
    source_cloud_networks: bool = true, Accepts::Switch,
        "Cloud networks",
        "Whether that holds for cloud and hosting networks, where machines are rented; most VPN services rent their exits there.";
    source_vpn: bool = false, Accepts::Switch,
        "VPN services",
        "Whether that holds for networks of VPN services' own.";
    source_tor: bool = true, Accepts::Switch,
        "Tor",
        "Whether that holds for exits of the Tor network.";
    source_relay: bool = false, Accepts::Switch,
        "Private relays",
        "Whether that holds for private relays, which people use without knowing (iCloud Private Relay, WARP).";
    default_server_geoip: String = String::new(), Accepts::CountryOrNothing,
        "Default Server GeoIP",
        "The server's own country, where it cannot be found from the server's public address.";
    allow_server_country: bool = true, Accepts::Switch,
        "Allow the server's own country",
        "Whether the server's own country is always among the server's allowed countries.";
    own_addresses: String = String::new(), Accepts::Networks,
        "Own addresses and trusted proxies",
        "Addresses that count as the server itself, besides loopback: rules by address and country skip them.";
    smtp_logins_from: LoginsFrom = LoginsFrom::Gate, Accepts::Words(&["gate", "policy", "exim", "postfix", "log"]),
        "SMTP logins counted by",
        "Whose word counts for SMTP logins: Dovecot's gate or policy server, else Exim's or Postfix's own doors, or the logs that are followed.";
    imap_logins_from: LoginsFrom = LoginsFrom::Gate, Accepts::Words(&["gate", "policy", "postlogin", "log"]),
        "IMAP logins counted by",
        "Whose word counts for IMAP logins, and for ManageSieve: Dovecot's gate, policy server or post-login script, or the logs that are followed.";
    pop3_logins_from: LoginsFrom = LoginsFrom::Gate, Accepts::Words(&["gate", "policy", "postlogin", "log"]),
        "POP3 logins counted by",
        "Whose word counts for POP3 logins: Dovecot's gate, policy server or post-login script, or the logs that are followed.";
    follow_logs: String = String::new(), Accepts::Files,
        "Logs that are followed",
        "Logs of Exim, Dovecot and Postfix that are read each minute: for messages that come in, and for logins where the source is log.";
    mailbox_guard: Mode = Mode::Monitor, Accepts::Words(&["off", "monitor", "enforce"]),
        "Mailbox guard",
        "While a mailbox is under attack from many networks, logins only from networks that it was used well from before: off, monitor or enforce. A mailbox of which no such network is known is let be.";
    guard_networks: i64 = 10, Accepts::Number(3, 60),
        "Networks that attack one mailbox",
        "The guard fires when logins to one mailbox failed from so many networks within an hour, or from three times as many within a day.";
    guard_duration: i64 = 3600, Accepts::Number(300, 86_400),
        "Guard duration",
        "How long a mailbox is guarded after the last failure that fired, in seconds.";
    attack_networks: Mode = Mode::Monitor, Accepts::Words(&["off", "monitor", "enforce"]),
        "Networks previously detected performing authentication attacks",
        "Refuses logins from networks that were seen attacking, here or by the publisher of a feed that is switched on: off, monitor or enforce. A mailbox's own known networks pass.";
    attack_failures: i64 = 30, Accepts::Number(10, 60),
        "Failures that make an attack",
        "A network is marked when one of its addresses, or all of them together, fail with so many different passwords or mailboxes within a day. Where somebody is known to log in well from the network, the address alone is marked.";
    attack_addresses: i64 = 3, Accepts::Number(2, 50),
        "Attacking addresses that make an attack network",
        "A network is marked when so many of its addresses attacked within a day, and nobody is known to log in well from it.";
    attack_mailboxes: i64 = 5, Accepts::Number(3, 50),
        "Mailboxes that make a slow attack",
        "An address is marked when logins from it failed for so many different mailboxes within a week, and nobody is known to log in well from its network.";
    attack_days: i64 = 7, Accepts::Number(1, 90),
        "Days of an attack network",
        "How many days a network stays marked after the last failure that fired; an address in a network from which somebody is known to log in well stays marked for one.";
    burst_rule: Mode = Mode::Enforce, Accepts::Words(&["off", "monitor", "enforce"]),
        "Bursts of failures",
        "Refuses an address for a while after many failed logins: off, monitor or enforce. A mailbox's own known networks pass.";
    burst_failures: i64 = 10, Accepts::Number(3, 60),
        "Failures that make a burst",
        "Fires when logins from one address failed with so many different passwords or mailboxes within an hour; the same password tried again counts once.";
    burst_duration: i64 = 3600, Accepts::Number(60, 86_400),
        "Burst duration",
        "How long the address is refused after the last failure that fired, in seconds.";
    rate_limiter: Mode = Mode::Enforce, Accepts::Words(&["off", "monitor", "enforce"]),
        "Outbound Rate Limiter",
        "Stops an account that sends more than the limit: off, monitor (tell only) or enforce.";
    rate_limit_messages: i64 = 150, Accepts::Number(1, 100_000),
        "Messages allowed",
        "How many messages an account may send within the window; the next one stops it.";
    rate_limit_window: i64 = 300, Accepts::Number(60, 3600),
        "Window",
        "Length of the sliding window in seconds.";
    rate_limit_block: i64 = 21_600, Accepts::Number(60, 2_592_000),
        "Block duration",
        "How long an account that went over the limit may not send, in seconds.";
    watch_after_release: i64 = 86_400, Accepts::Number(0, 2_592_000),
        "Watch after a release",
        "How long an account that was released is watched, in seconds: stopped again meanwhile, it is stopped for twice as long, the next time four times, up to 7 days. 0: not at all.";
    release_needs_password_change: bool = false, Accepts::Switch,
        "Release after a new password",
        "Whether a mailbox that the limiter stopped is released only when its password was changed since, as far as the panel's files tell (cPanel).";
    local_over_limit: OverLimit = OverLimit::Hold, Accepts::Words(&["hold", "refuse"]),
        "Local messages over the limit",
        "Whether messages of local programs over the limit are held in the queue or refused for good.";
    held_ceiling: i64 = 500, Accepts::Number(0, 100_000),
        "Held messages per account",
        "How many messages of one account are held at most; further ones are refused.";
    shared_users: String = "apache,cpanel,lighttpd,mailman,mailnull,news,nginx,nobody,psaadm,root,www,www-data".into(),
        Accepts::UserNames,
        "Shared users",
        "Local users that send for many: over the limit they are told about, never stopped.";
    postfix_folder: String = String::new(), Accepts::FolderOrNothing,
        "Folder for Postfix",
        "Folder in which the keeper listens for Postfix, too (sockets `postfix` and `milter`): where Postfix runs in its own root folder, as /var/spool/postfix/postern.";
    keep_activity_days: i64 = 400, Accepts::Number(1, MOST_ACTIVITY_DAYS),
        "Keep Activity",
        "For how many days refusals are listed in Activity (the latest 50,000 at most).";
    keep_login_days: i64 = 35, Accepts::Number(7, 90),
        "Keep logins by day",
        "For how many days figures of each account, and where it logged in, are kept by day.";
    keep_login_months: i64 = 13, Accepts::Number(1, 36),
        "Keep logins by month",
        "For how many months, this one among them, figures of each account are kept by month.";
    keep_traffic_days: i64 = 400, Accepts::Number(7, 1100),
        "Keep figures by hour",
        "For how many days figures of all accounts together are kept by the hour.";
    keep_trail_days: i64 = 1100, Accepts::Number(1, 36_600),
        "Keep the trail of changes",
        "For how many days the trail of changes is kept, and can be undone; the latest 1,000 changes are kept however old they are.";
    keep_ended_days: i64 = 90, Accepts::Number(1, 3660),
        "Keep what has ended",
        "For how many days exemptions, whitelist entries, blocks and allowances stay on their lists after their end.";
    owner_allowances: bool = false, Accepts::Switch,
        "Owners' allowances",
        "Whether owners of accounts may give their own mailboxes temporary allowances; the administrator is told of each.";
    owner_allowance_days: i64 = 14, Accepts::Number(1, 365),
        "Longest allowance by an owner",
        "How many days an owner's allowance lasts at most.";
    owner_release: bool = false, Accepts::Switch,
        "Owners' release",
        "Whether owners of accounts may release their own accounts when the limiter stopped them; the administrator is told.";
    administration_email_address: String = "root".into(), Accepts::MailAddressOrNothing,
        "Administration Email Address",
        "Who is told when an account is stopped: a mailbox that somebody reads. Empty: nobody, which `postern status` shows as trouble.";
    notices_an_hour: i64 = 10, Accepts::Number(1, 100),
        "Notices an hour",
        "How many notices go out one by one within an hour, by each way; what is beyond is told in one digest when the hour ends.";
    notify_owners: bool = false, Accepts::Switch,
        "Notices to owners",
        "Whether owners of accounts get a short notice when mail of theirs is held back, once an hour at most, where the panel's records have an address of theirs elsewhere.";
}

fn unknown_key(key: &str) -> Error {
    let known: Vec<_> = TABLE.iter().map(|s| s.key).collect();
    Error::bad_value("The name of the setting", key, format!("one of {}", known.join(", ")))
}

impl Settings {
    /// The settings that these stored pairs give. A pair that this program does not know or cannot read
    /// (another version wrote it) leaves the default.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Settings {
        let mut settings = Settings::default();
        for (key, text) in pairs {
            let _ = settings.set(key, text);
        }
        settings
    }

    /// The shared users' names.
    pub fn is_shared_user(&self, name: &str) -> bool {
        self.shared_users.split(',').any(|shared| shared.trim() == name)
    }
}

macro_rules! word_value {
    ($($type:ident { $($word:literal => $variant:ident),* })*) => {$(
        impl Value for $type {
            fn read(text: &str, accepts: &Accepts) -> Option<Self> {
                if let Accepts::Words(words) = accepts && !words.contains(&text) {
                    return None;
                }
                match text { $($word => Some($type::$variant),)* _ => None }
            }
            fn write(&self) -> String {
                match self { $($type::$variant => $word.into(),)* }
            }
        }
    )*};
}

word_value! {
    Mode { "off" => Off, "monitor" => Monitor, "enforce" => Enforce }
    OverLimit { "hold" => Hold, "refuse" => Refuse }
    UnknownCountry { "allow" => Allow, "refuse" => Refuse }
    LoginsFrom {
        "gate" => Gate, "policy" => Policy, "postlogin" => Postlogin, "exim" => Exim, "postfix" => Postfix, "log" => Log
    }
}

impl Value for bool {
    fn read(text: &str, _: &Accepts) -> Option<Self> {
        match text {
            "on" | "1" | "yes" | "true" => Some(true),
            "off" | "0" | "no" | "false" => Some(false),
            _ => None,
        }
    }
    fn write(&self) -> String {
        if *self { "on".into() } else { "off".into() }
    }
}

impl Value for i64 {
    fn read(text: &str, accepts: &Accepts) -> Option<Self> {
        let number = text.parse().ok()?;
        match accepts {
            Accepts::Number(low, high) => (*low..=*high).contains(&number).then_some(number),
            _ => Some(number),
        }
    }
    fn write(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    fn read(text: &str, accepts: &Accepts) -> Option<Self> {
        match accepts {
            Accepts::CountryOrNothing if text.is_empty() => Some(String::new()),
            Accepts::CountryOrNothing => text.parse::<crate::country::Country>().ok().map(|c| c.to_string()),
            Accepts::MailAddressOrNothing if text.is_empty() => Some(String::new()),
            Accepts::MailAddressOrNothing => mail_address(text),
            Accepts::FolderOrNothing if text.is_empty() => Some(String::new()),
            Accepts::FolderOrNothing => is_plain_path(text).then(|| text.to_string()),
            Accepts::Files => files(text),
            Accepts::UserNames => list(text, |name| is_user_name(name).then(|| name.to_string())),
            Accepts::Networks => {
                list(text, |net| net.parse::<crate::address::Network>().ok().map(|n| n.to_string()))
            }
            _ => Some(text.into()),
        }
    }
    fn write(&self) -> String {
        self.clone()
    }
}

fn list(text: &str, read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let items: Option<Vec<String>> =
        text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(read).collect();
    items.map(|items| items.join(","))
}

/// Root opens them, and follows no link in the last part of a path.
fn files(text: &str) -> Option<String> {
    let one = |path: &str| {
        let is_plain =
            |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(char::is_control);
        let good =
            path.len() <= 255 && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain));
        good.then(|| path.to_string())
    };
    list(text, one).filter(|files| files.split(',').count() <= MOST_FILES)
}

/// Root makes the last folder of it, so nothing in it may lead elsewhere; a socket's address is short.
fn is_plain_path(text: &str) -> bool {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    text.len() <= 80
        && text.strip_prefix('/').is_some_and(|rest| rest.contains('/') && rest.split('/').all(plain))
}

fn is_user_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// An address that can stand in a `To:` line and on sendmail's command line without quoting.
pub(crate) fn mail_address(text: &str) -> Option<String> {
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-=".contains(&b))
    };
    let good = match text.rsplit_once('@') {
        Some((local, domain)) => plain(local) && plain(domain),
        None => is_user_name(text),
    };
    (good && text.len() <= 254 && !text.starts_with('-')).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_that_administrators_know() {
        let s = Settings::default();
        assert_eq!((s.rate_limit_messages, s.rate_limit_window, s.rate_limit_block), (150, 300, 6 * 3600));
        assert_eq!((s.rate_limiter, s.country_rule), (Mode::Enforce, Mode::Off));
        assert_eq!((s.source_rule, s.source_cloud_networks), (Mode::Monitor, true));
    }

    #[test]
    fn every_setting_reads_back_what_it_writes() {
        let written = Settings::default().pairs();
        let pairs = written.iter().map(|(k, v)| (*k, v.as_str()));
        assert_eq!(Settings::from_pairs(pairs), Settings::default());
        assert_eq!(written.len(), TABLE.len());
        let mut s = Settings::default();
        for (key, text) in &written {
            s.set(key, text).unwrap();
        }
    }

    /// The table of README, made from this one.
    fn readme_rows() -> String {
        let defaults = Settings::default().pairs();
        let row = |s: &Setting| {
            let default = defaults[s.key].replace(',', ", ");
            format!("| `{}` | {} | {} | {} |", s.key, default, s.accepts.words(), s.meaning)
        };
        TABLE.iter().map(row).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn readme_shows_this_table() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
        assert!(readme.contains(&readme_rows()), "README's settings must be:\n{}", readme_rows());
    }

    #[test]
    fn bad_values_are_refused_with_value_and_what_is_accepted() {
        for (key, bad) in [
            ("rate_limit_messages", "0"),
            ("rate_limit_messages", "many"),
            ("rate_limit_window", "59"),
            ("rate_limit_block", "999999999"),
            ("country_rule", "on"),
            ("default_server_geoip", "Germany!"),
            ("administration_email_address", "-oQ/tmp/x@example.test"),
            ("administration_email_address", "a b@example.test"),
            ("administration_email_address", "a\n@example.test"),
            ("shared_users", "nobody,-x"),
            ("own_addresses", "192.0.2.1,mail"),
            ("postfix_folder", "/var/spool/../etc"),
            ("postfix_folder", "/etc"),
            ("follow_logs", "mail.log"),
            ("follow_logs", "/var/log/../../etc/shadow"),
            ("follow_logs", "/1,/2,/3,/4,/5,/6,/7,/8,/9"),
            ("postfix_folder", "var/spool/postfix"),
        ] {
            let mut settings = Settings::default();
            let error = settings.set(key, bad).unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("accepted"), "{error}");
            assert_eq!(settings, Settings::default());
        }
        assert!(Settings::default().set("no_such", "1").is_err());
    }
}
