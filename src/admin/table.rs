//! Every function once: its name in the API, its words on the command line, its arguments, what it does.

use super::arguments::{Arguments, Kind};
use super::{
    Admin, Outcome, activity, allowances, attacks, backup, bans, blocks, clouds, config, countries, effect,
    explain, feeds, held, init, learn, limits, lists, notices, queue, settings, statistics, status, story,
    undo,
};
use crate::admin::data;
use crate::error::{Error, Result};
use crate::feeds::Format;
use crate::settings::MOST_ACTIVITY_DAYS;
use crate::store::settings::entries::ListName;
use crate::store::state::rollups::COUNTRY_DAYS;
use serde_json::{Value, json};

/// Who may call a function at least: root may call each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Root alone.
    Root,
    /// Resellers too, for what is theirs.
    Reseller,
    /// Owners of an account too, for what is theirs.
    Owner,
}

impl Scope {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Scope::Root => "root",
            Scope::Reseller => "reseller",
            Scope::Owner => "owner",
        }
    }
}

/// An argument of a function.
#[derive(Debug)]
pub struct Argument {
    /// Its name in the API; on the command line `--name`, unless it is positional.
    pub name: &'static str,
    /// What stands in it.
    pub kind: Kind,
    /// Whether it stands without its name on the command line.
    pub positional: bool,
    /// Whether it must be there.
    pub required: bool,
    /// Whether an empty text is a value.
    pub may_be_empty: bool,
    /// What it means.
    pub meaning: &'static str,
}

impl Argument {
    /// Whether it is a switch.
    pub fn is_switch(&self) -> bool {
        matches!(self.kind, Kind::Switch)
    }
}

/// A function of admin mode.
pub struct Function {
    /// Its name in the API.
    pub name: &'static str,
    /// Its words on the command line.
    pub words: &'static [&'static str],
    /// What it does, in a sentence; the first line of its help.
    pub about: &'static str,
    /// What it takes.
    pub arguments: &'static [Argument],
    /// Whether it changes something.
    pub changes: bool,
    /// Who may call it.
    pub scope: Scope,
    /// The function.
    pub run: fn(&Admin, &Arguments) -> Result<Outcome>,
}

impl Function {
    /// Open to resellers, for what is theirs.
    const fn for_resellers(self) -> Function {
        Function { scope: Scope::Reseller, ..self }
    }

    /// Open to owners and resellers, for what is theirs.
    const fn for_owners(self) -> Function {
        Function { scope: Scope::Owner, ..self }
    }

    /// Refuses arguments that the function does not know, missing ones that it needs, and values that are not of
    /// their kind.
    fn check(&self, given: &Arguments) -> Result<()> {
        let known = |name: &str| {
            self.arguments.iter().any(|a| a.name == name) || (self.changes && name == "generation")
        };
        if let Some(unknown) = given.names().find(|name| !known(name)) {
            let names: Vec<_> = self.arguments.iter().map(|a| a.name).collect();
            let takes = if names.is_empty() { "no argument".into() } else { names.join(", ") };
            return Err(Error::bad_value("The argument", unknown, format!("{} takes {takes}", self.name)));
        }
        let lacks = |a: &&Argument| match a.may_be_empty {
            true => !given.names().any(|name| name == a.name),
            false => given.text(a.name).is_empty(),
        };
        if let Some(missing) = self.arguments.iter().find(|a| a.required && lacks(a)) {
            let what = format!("The argument {} of {}", missing.name, self.name);
            return Err(Error::bad_value(what, "", missing.meaning));
        }
        GENERATION.check("generation", given)?;
        self.arguments.iter().try_for_each(|a| a.kind.check(a.name, given))
    }
}

/// What a caller read before: every function that changes something takes it.
pub const GENERATION: Kind = Kind::Number(0, i64::MAX);

/// Calls a function of the table.
pub fn call(admin: &Admin, function: &str, given: &Arguments) -> Result<Outcome> {
    let found = FUNCTIONS.iter().find(|f| f.name == function).ok_or_else(|| {
        Error::bad_value("The function", function, "a name from `postern api list_functions`")
    })?;
    let theirs = admin.theirs.as_deref();
    theirs.map_or(Ok(()), |theirs| theirs.may_call(found))?;
    found.check(given)?;
    theirs.map_or(Ok(()), |theirs| theirs.may_say(found, given))?;
    // A generation is an argument of functions that change something, and of no other.
    admin.must_be_current(given)?;
    (found.run)(admin, given)
}

/// Groups of the command line, with what they are about.
pub const GROUPS: &[(&str, &str)] = &[
    ("settings", "Settings: show and change"),
    ("countries", "Country Authentication Restrictions: allowed countries of server, domain, mailbox"),
    ("exemptions", "Exemptions from login checks: IP Authentication and User Authentication"),
    ("exemptions ip", "IP Authentication: addresses and networks that are never checked"),
    ("exemptions user", "User Authentication: mailboxes and domains that are never checked"),
    ("whitelist", "Per-User Rate Limiter Whitelist: who may send without limit"),
    ("limits", "Limits of sending beside the Outbound Rate Limiter, and other numbers for some"),
    ("allowances", "Temporary allowances: one more country or network for a mailbox, until a date"),
    ("blocks", "Blocked accounts and addresses: list, add, release"),
    ("clouds", "Cloud networks of your own, and what is none: beside the list that Postern brings"),
    (
        "cloud-mail-clients",
        "Cloud mail clients of your own, and what is none: beside the list that Postern brings",
    ),
    ("config", "All that was chosen as one document: export, diff, apply"),
    ("bans", "Bans of an address by other products on this server (fail2ban, CSF, cPHulk): find, lift"),
    ("attack-networks", "Networks that were seen attacking: list, remove; pin, never mark"),
    (
        "feeds",
        "Feeds, lists of attacking networks that others publish: list, switch on and off, define, fetch",
    ),
    ("held", "Messages of local programs that are held: list, release, remove"),
    ("queue", "What an account has in the mail server's queue: list, freeze, thaw, remove"),
    ("notices", "Notices to the administrator: what waits and what fails, a test of every way"),
    ("trouble", "Trouble of Postern's own: forget what is mended (`postern status` shows it)"),
    ("data", "Network data: countries and networks of addresses"),
];

const fn needed(name: &'static str, kind: Kind, meaning: &'static str) -> Argument {
    Argument { name, kind, positional: true, required: true, may_be_empty: false, meaning }
}

const fn option(name: &'static str, kind: Kind, meaning: &'static str) -> Argument {
    Argument { name, kind, positional: false, required: false, may_be_empty: false, meaning }
}

const fn switch(name: &'static str, meaning: &'static str) -> Argument {
    option(name, Kind::Switch, meaning)
}

const NOTE: Argument = option("note", Kind::Note, "why, for whoever reads the list later");
const UNTIL: Argument = option(
    "until",
    Kind::Until,
    "when it ends: 2026-12-01, \"2026-12-01 18:00\" (UTC), 6h, 7d; without it, never",
);
const FOR: Argument = option("for", Kind::Subject, "a mailbox or domain; without it, the server");
const CONFIRM: Argument = switch("confirm", "do it although it may lock people out");
const COUNTRIES: Argument =
    needed("countries", Kind::Countries, "codes or names, separated by commas: DE,Austria");
const DAYS: Argument = option("days", Kind::Number(1, COUNTRY_DAYS), "how many days back; 30 if not given");
const LIMIT: Argument = option("limit", Kind::Number(1, 10_000), "how many rows at most; 100 if not given");

const FORMAT: Argument = option("format", Kind::Word(&["csv"]), "csv: for a spreadsheet");

const FILE: Argument =
    Argument { positional: true, ..option("file", Kind::File, "the file; - is standard input") };
const ENTRIES: Argument = option("entries", Kind::Entries, "the same as text, or in JSON as a list");
const ON_BAD: Argument = option(
    "on_bad",
    Kind::Word(&["refuse", "keep"]),
    "refuse (nothing is taken where a line is bad; so if not given) or keep (the good ones are taken)",
);
const DRY_RUN: Argument = switch("dry_run", "say what would be done, and do nothing");
const MANY: &[Argument] = &[FILE, ENTRIES, ON_BAD, DRY_RUN, CONFIRM];
const DOCUMENT: Argument = option("entries", Kind::Text, "the document itself, in the place of a file");

const fn reads(
    name: &'static str,
    words: &'static [&'static str],
    about: &'static str,
    arguments: &'static [Argument],
    run: fn(&Admin, &Arguments) -> Result<Outcome>,
) -> Function {
    Function { name, words, about, arguments, changes: false, scope: Scope::Root, run }
}

const fn changes(
    name: &'static str,
    words: &'static [&'static str],
    about: &'static str,
    arguments: &'static [Argument],
    run: fn(&Admin, &Arguments) -> Result<Outcome>,
) -> Function {
    Function { changes: true, ..reads(name, words, about, arguments, run) }
}

const IP_VALUE: Argument =
    needed("value", Kind::Network, "an address or a network: 192.0.2.7, 192.0.2.0/24, 2001:db8::/48");
const USER_VALUE: Argument =
    needed("value", Kind::Subject, "a mailbox or a domain: alice@example.org, example.org");
const BLOCK_VALUE: Argument = needed(
    "value",
    Kind::SubjectOrNetwork,
    "a mailbox, a domain, a local user (user:NAME where it has a dot), an address or a network",
);

const CLOUD_VALUE: Argument = needed(
    "value",
    Kind::SystemOrNetwork,
    "a system, an address or a network: AS64500, 192.0.2.0/24; not:AS64500 takes it out",
);
const CLIENT_VALUE: Argument = needed(
    "value",
    Kind::SystemOrNetwork,
    "an address or a network of the mail service: 192.0.2.0/24; not:192.0.2.0/24 takes it out",
);
const LIMIT_NAME: Argument = needed("name", Kind::Text, "its name: small letters, digits and dashes");
const LIMIT_FOR: Argument = needed("for", Kind::Subject, "a mailbox, a domain or a local user");
const OF_LIMIT: Argument =
    option("limit", Kind::Text, "the limit's name; the Outbound Rate Limiter if not given");
const BANNED: Argument = needed("address", Kind::Address, "the client's address");
const PRODUCTS: Argument = option(
    "products",
    Kind::Text,
    "fail2ban, csf, cphulk, separated by commas; all that are installed if not given",
);
const QUEUE_OF: Argument = needed("account", Kind::Account, "the mailbox or local user");
const QUEUED: Argument = option("message", Kind::Text, "only this message, as the mail server names it");
const QUEUE_REASON: Argument = option("reason", Kind::Note, "why, for the trail of changes");
const BROUGHT: Argument = switch("all", "what Postern brings as well");

const FEED: Argument = needed("feed", Kind::Text, "the feed's name as `postern feeds list` shows it");

/// The functions, in the order in which help lists them.
pub const FUNCTIONS: &[Function] = &[
    reads(
        "status",
        &["status"],
        "What is in place, what is not covered, what is in trouble",
        &[option(
            "format",
            Kind::Word(&["text", "json", "nagios", "prometheus"]),
            "text, json, nagios (one line; exit status 0 to 3) or prometheus; text if not given",
        )],
        status::status,
    ),
    reads(
        "explain",
        &["explain"],
        "What would happen to a login, and why, rule by rule",
        &[
            needed("account", Kind::Account, "the mailbox: alice@example.org"),
            needed("address", Kind::Address, "the client's address"),
            option("service", Kind::Word(&["smtp", "imap", "pop3"]), "smtp, imap or pop3; imap if not given"),
        ],
        explain::explain,
    )
    .for_owners(),
    reads(
        "list_activity",
        &["activity"],
        "What was refused, held, or would have been, newest first",
        &[
            option("account", Kind::Account, "only this account"),
            option("address", Kind::Address, "only this address"),
            option("reference", Kind::Reference, "only this reference, as a client was told it"),
            option("country", Kind::Countries, "only this country"),
            option("reason", Kind::Text, "only this reason's key, as country_not_allowed"),
            Argument { kind: Kind::Number(1, MOST_ACTIVITY_DAYS), ..DAYS },
            LIMIT,
            FORMAT,
        ],
        activity::list_activity,
    )
    .for_owners(),
    reads(
        "list_known_networks",
        &["known-networks"],
        "Networks from which logins of a mailbox succeeded within 180 days, the latest first",
        &[needed("account", Kind::Account, "the mailbox: alice@example.org")],
        activity::list_known_networks,
    )
    .for_owners(),
    reads(
        "country_statistics",
        &["statistics"],
        "Country Statistics: logins tried, refused, succeeded, failed, and messages sent and received, by country",
        &[
            DAYS,
            option(
                "direction",
                Kind::Word(&["all", "logins", "outbound", "inbound"]),
                "logins, outbound (messages sent) or inbound; all if not given",
            ),
            option(
                "service",
                Kind::Word(&["smtp", "imap", "pop3", "sieve", "local", "other"]),
                "only this service: smtp, imap, pop3, sieve, local, other",
            ),
            option("country", Kind::Countries, "who logged in well from this country"),
            option("by", Kind::Word(&["account", "network"]), "with a country: by account, or by network"),
            LIMIT,
            FORMAT,
        ],
        statistics::country_statistics,
    )
    .for_owners(),
    reads(
        "account_statistics",
        &["account-statistics"],
        "One account's own figures, and the countries from which it logged in",
        &[needed("account", Kind::Account, "the mailbox: alice@example.org"), DAYS, FORMAT],
        statistics::account_statistics,
    )
    .for_owners(),
    reads(
        "suggest_countries",
        &["countries", "suggest"],
        "The fewest countries that cover nearly all successful logins, and whom they would lock out",
        &[
            option("percent", Kind::Text, "how many of a hundred logins they must cover; 99.5 if not given"),
            DAYS,
            LIMIT,
            FORMAT,
        ],
        statistics::suggest_countries,
    ),
    reads(
        "dry_run",
        &["dry-run"],
        "Whom a list of countries, or a mode of a rule, would have refused",
        &[
            Argument { required: false, positional: false, ..COUNTRIES },
            FOR,
            option(
                "rule",
                Kind::Word(effect::RULE_NAMES),
                "country_rule (if not given), source_rule or rate_limiter",
            ),
            option(
                "mode",
                Kind::Word(&["off", "monitor", "enforce"]),
                "the mode to try; enforce if not given",
            ),
            DAYS,
            LIMIT,
            FORMAT,
        ],
        effect::dry_run,
    )
    .for_owners(),
    reads(
        "tell_story",
        &["story"],
        "One refusal by its reference: why it came, what would be answered now, and what changed since",
        &[needed("reference", Kind::Reference, "as a client was told it: 7K3M-92QX")],
        story::tell_story,
    )
    .for_owners(),
    reads("list_blocks", &["blocks", "list"], "Every block that is in force", &[], blocks::list_blocks)
        .for_owners(),
    changes(
        "add_block",
        &["blocks", "add"],
        "Block an account, an address or a network",
        &[BLOCK_VALUE, UNTIL, NOTE, CONFIRM],
        blocks::add_block,
    )
    .for_resellers(),
    changes(
        "release_block",
        &["blocks", "release"],
        "Lift every block of an account, an address or a network, at once",
        &[
            BLOCK_VALUE,
            option("reason", Kind::Note, "why, for the trail of changes: \"password changed\""),
            switch("lift", "lift what other products ban of the address, too"),
            switch("anyway", "although it is not known that the password was changed, where release_needs_password_change is on"),
        ],
        blocks::release,
    )
    .for_owners(),
    reads(
        "list_watched",
        &["blocks", "watched"],
        "Accounts that were released lately and are watched: stopped again, they are stopped for longer",
        &[],
        blocks::list_watched,
    )
    .for_owners(),
    changes(
        "import_blocks",
        &["blocks", "import"],
        "Block many accounts, addresses and networks: one a line, CSV or JSON",
        MANY,
        lists::import_blocks,
    )
    .for_resellers(),
    reads("export_blocks", &["blocks", "export"], "The administrator's blocks as CSV", &[], |a, _| {
        lists::export(a, &[ListName::AccountBlock, ListName::AddressBlock])
    })
    .for_resellers(),
    reads(
        "find_bans",
        &["bans", "find"],
        "What other products on this server ban of an address",
        &[BANNED, PRODUCTS],
        bans::find_bans,
    ),
    changes(
        "lift_bans",
        &["bans", "lift"],
        "Lift what other products ban of an address, but for what somebody forbade by hand",
        &[BANNED, PRODUCTS, option("reason", Kind::Note, "why, for the trail of changes")],
        bans::lift_bans,
    ),
    reads(
        "was_refused",
        &["was-refused"],
        "Whether a failed login in a log was a refusal of ours, by the exit status (0 yes, 1 no); for fail2ban and CSF",
        &[
            BANNED,
            option("at", Kind::Text, "the time of the line, in seconds since 1970; now if not given"),
            option(
                "within",
                Kind::Number(1, 3600),
                "so many seconds before it the refusal may have been; 15 if not given",
            ),
        ],
        bans::was_refused,
    ),
    reads(
        "list_held",
        &["held", "list"],
        "Messages that are held",
        &[option("account", Kind::Account, "only of this account")],
        held::list_held,
    )
    .for_owners(),
    reads(
        "list_attack_networks",
        &["attack-networks", "list"],
        "Networks that were seen attacking, and addresses that are refused for a burst of failures, the last seen first",
        &[LIMIT],
        attacks::list_attack_networks,
    ),
    changes(
        "remove_attack_network",
        &["attack-networks", "remove"],
        "Take the mark off a network or an address, and forget what failed from there",
        &[
            needed("value", Kind::Network, "the network or address as the list has it"),
            option("reason", Kind::Note, "why, for the trail"),
        ],
        attacks::remove_attack_network,
    ),
    reads(
        "list_attack_pins",
        &["attack-networks", "pins"],
        "Networks that are pinned as attacking, and those that are never marked",
        &[],
        attacks::list_pins,
    ),
    changes(
        "pin_attack_network",
        &["attack-networks", "pin"],
        "Count a network as attacking until it is unpinned; a mailbox's own known networks pass",
        &[IP_VALUE, UNTIL, NOTE, CONFIRM],
        attacks::pin,
    ),
    changes(
        "never_attack_network",
        &["attack-networks", "never"],
        "Never mark a network as attacking, and learn nothing from logins that fail there",
        &[IP_VALUE, UNTIL, NOTE, CONFIRM],
        attacks::never,
    ),
    changes(
        "unpin_attack_network",
        &["attack-networks", "unpin"],
        "Take a network off the pinned ones, or off those that are never marked",
        &[IP_VALUE],
        attacks::unpin,
    ),
    changes(
        "import_attack_pins",
        &["attack-networks", "import"],
        "Pin many networks: one a line, CSV or JSON; with not: before it, never mark it",
        MANY,
        attacks::import_pins,
    ),
    reads(
        "export_attack_pins",
        &["attack-networks", "export"],
        "Pinned networks and those that are never marked as CSV",
        &[],
        |a, _| lists::export(a, &attacks::PINS),
    ),
    reads(
        "list_feeds",
        &["feeds", "list"],
        "Every feed that is offered or defined: whether it is on, how it stands, under which terms it may be used",
        &[],
        feeds::list_feeds,
    ),
    changes(
        "enable_feed",
        &["feeds", "enable"],
        "Switch a feed on, and fetch it",
        &[FEED, NOTE],
        feeds::enable,
    ),
    changes(
        "disable_feed",
        &["feeds", "disable"],
        "Switch a feed off: it refuses nobody from the next login on",
        &[FEED],
        feeds::disable,
    ),
    changes(
        "add_feed",
        &["feeds", "add"],
        "Define a feed of your own, or define it anew",
        &[
            needed("feed", Kind::Text, "its name: small letters, digits and -"),
            Argument {
                required: true,
                ..option("url", Kind::Text, "its address: https://…; {key} stands for the key")
            },
            option(
                "format",
                Kind::Word(Format::WORDS),
                "plain (an address or network a line; if not given), drop-json (Spamhaus DROP) or counted (address, count)",
            ),
            option("every", Kind::Text, "how often it is fetched: 12h; 6h if not given"),
            option("minimum", Kind::Text, "how often it may be asked for at most: 2h; 1h if not given"),
            option("age", Kind::Text, "at which age it refuses nobody any more: 2d; 7d if not given"),
            option(
                "least",
                Kind::Number(1, 1_000_000),
                "with the format counted: the least count that counts",
            ),
            option("key_header", Kind::Text, "the header in which its publisher wants a key"),
            NOTE,
        ],
        feeds::add_feed,
    ),
    changes("remove_feed", &["feeds", "remove"], "Forget a feed of your own", &[FEED], feeds::remove_feed),
    changes(
        "update_feeds",
        &["feeds", "update"],
        "Fetch feeds now: one, or all that are on",
        &[
            Argument { required: false, ..FEED },
            switch("accept_growth", "take a list although it has grown more than threefold"),
        ],
        feeds::update_feeds,
    ),
    changes(
        "release_held",
        &["held", "release"],
        "Let a held message leave",
        &[needed("message", Kind::Text, "Exim's name for it")],
        held::release_held,
    )
    .for_resellers(),
    changes(
        "remove_held",
        &["held", "remove"],
        "Delete a held message",
        &[needed("message", Kind::Text, "Exim's name for it")],
        held::remove_held,
    )
    .for_resellers(),
    reads(
        "list_queue",
        &["queue", "list"],
        "What an account has in Exim's or Postfix's queue, by its login or local user, else by the sender",
        &[QUEUE_OF],
        queue::list_queue,
    ),
    changes(
        "freeze_queue",
        &["queue", "freeze"],
        "Keep what an account has in the queue from being delivered",
        &[QUEUE_OF, QUEUED, QUEUE_REASON],
        queue::freeze_queue,
    ),
    changes(
        "thaw_queue",
        &["queue", "thaw"],
        "Let what an account has frozen in the queue be delivered; not what Postern holds",
        &[QUEUE_OF, QUEUED, QUEUE_REASON],
        queue::thaw_queue,
    ),
    changes(
        "remove_from_queue",
        &["queue", "remove"],
        "Delete what an account has in the queue, for good",
        &[
            QUEUE_OF,
            QUEUED,
            QUEUE_REASON,
            switch("confirm", "do it; without this, only say how many messages it would be"),
        ],
        queue::remove_from_queue,
    ),
    reads(
        "list_countries",
        &["countries", "list"],
        "The allowed countries, and the server's own",
        &[],
        countries::list_countries,
    )
    .for_owners(),
    reads(
        "known_countries",
        &["countries", "known"],
        "Every country with code and name",
        &[],
        countries::known_countries,
    )
    .for_owners(),
    changes(
        "allow_countries",
        &["countries", "allow"],
        "Add countries to a list",
        &[COUNTRIES, FOR],
        countries::allow_countries,
    )
    .for_resellers(),
    changes(
        "disallow_countries",
        &["countries", "disallow"],
        "Take countries off a list",
        &[COUNTRIES, FOR, CONFIRM],
        countries::disallow_countries,
    )
    .for_resellers(),
    changes(
        "set_countries",
        &["countries", "set"],
        "Set a whole list; an empty one allows no country",
        &[Argument { required: false, ..COUNTRIES }, FOR, CONFIRM],
        countries::set_countries,
    )
    .for_resellers(),
    changes(
        "unset_countries",
        &["countries", "unset"],
        "Remove the list of a mailbox or domain, so that the next level's holds",
        &[Argument { positional: true, required: true, ..FOR }],
        countries::unset_countries,
    )
    .for_resellers(),
    reads("list_ip_exemptions", &["exemptions", "ip", "list"], "The list IP Authentication", &[], |a, _| {
        lists::list(a, ListName::IpExemption)
    }),
    changes(
        "add_ip_exemption",
        &["exemptions", "ip", "add"],
        "Never check logins from an address or network",
        &[
            IP_VALUE,
            UNTIL,
            NOTE,
            switch("sending", "its messages do not count towards the limit either"),
            CONFIRM,
        ],
        |a, g| lists::add(a, g, ListName::IpExemption),
    ),
    changes(
        "remove_ip_exemption",
        &["exemptions", "ip", "remove"],
        "Check logins from an address or network again",
        &[IP_VALUE],
        |a, g| lists::remove(a, g, ListName::IpExemption),
    ),
    changes(
        "import_ip_exemptions",
        &["exemptions", "ip", "import"],
        "Add many addresses and networks: one a line, CSV or JSON",
        MANY,
        |a, g| lists::import(a, g, ListName::IpExemption),
    ),
    reads(
        "export_ip_exemptions",
        &["exemptions", "ip", "export"],
        "The list IP Authentication as CSV",
        &[],
        |a, _| lists::export(a, &[ListName::IpExemption]),
    ),
    reads(
        "list_user_exemptions",
        &["exemptions", "user", "list"],
        "The list User Authentication",
        &[],
        |a, _| lists::list(a, ListName::UserExemption),
    )
    .for_owners(),
    changes(
        "add_user_exemption",
        &["exemptions", "user", "add"],
        "Never check logins of a mailbox or domain",
        &[USER_VALUE, UNTIL, NOTE],
        |a, g| lists::add(a, g, ListName::UserExemption),
    )
    .for_resellers(),
    changes(
        "remove_user_exemption",
        &["exemptions", "user", "remove"],
        "Check logins of a mailbox or domain again",
        &[USER_VALUE],
        |a, g| lists::remove(a, g, ListName::UserExemption),
    )
    .for_resellers(),
    changes(
        "import_user_exemptions",
        &["exemptions", "user", "import"],
        "Add many mailboxes and domains: one a line, CSV or JSON",
        MANY,
        |a, g| lists::import(a, g, ListName::UserExemption),
    )
    .for_resellers(),
    reads(
        "export_user_exemptions",
        &["exemptions", "user", "export"],
        "The list User Authentication as CSV",
        &[],
        |a, _| lists::export(a, &[ListName::UserExemption]),
    )
    .for_resellers(),
    reads("list_whitelist", &["whitelist", "list"], "The Per-User Rate Limiter Whitelist", &[], |a, _| {
        lists::list(a, ListName::Whitelist)
    }),
    changes(
        "add_whitelist",
        &["whitelist", "add"],
        "Let a mailbox or domain send without limit",
        &[USER_VALUE, UNTIL, NOTE],
        |a, g| lists::add(a, g, ListName::Whitelist),
    ),
    changes(
        "remove_whitelist",
        &["whitelist", "remove"],
        "Count the messages of a mailbox or domain again",
        &[USER_VALUE],
        |a, g| lists::remove(a, g, ListName::Whitelist),
    ),
    changes(
        "import_whitelist",
        &["whitelist", "import"],
        "Add many mailboxes and domains: one a line, CSV or JSON",
        MANY,
        |a, g| lists::import(a, g, ListName::Whitelist),
    ),
    reads("export_whitelist", &["whitelist", "export"], "The whitelist as CSV", &[], |a, _| {
        lists::export(a, &[ListName::Whitelist])
    }),
    reads(
        "list_limits",
        &["limits", "list"],
        "All limits of sending, and for whom other numbers hold",
        &[],
        limits::list_limits,
    ),
    changes(
        "set_limit",
        &["limits", "set"],
        "Make a limit of sending, or change what is given of one",
        &[
            LIMIT_NAME,
            option("counts", Kind::Word(limits::COUNTS), "what is counted; recipients if not given"),
            option("of", Kind::Word(limits::OF), "who is counted together; each account if not given"),
            option("most", Kind::Number(0, crate::limit::MOST), "how much passes within the window"),
            option("window", Kind::Span, "how long the window is: 5m, 1h, 1d, 30d"),
            option(
                "action",
                Kind::Word(limits::ACTIONS),
                "what happens beyond: stop (for a time), slow (to a quota an hour, for a time), wait (until there is room) or notify; notify if not given",
            ),
            option("duration", Kind::Span, "for how long stop and slow hold; 6h if not given"),
            option(
                "quota",
                Kind::Number(1, 100_000),
                "messages an hour that leave when slowed; 20 if not given",
            ),
            option("mode", Kind::Word(&["off", "monitor", "enforce"]), "enforce if not given"),
            NOTE,
            CONFIRM,
        ],
        limits::set_limit,
    ),
    changes(
        "remove_limit",
        &["limits", "remove"],
        "Remove a limit of sending",
        &[LIMIT_NAME],
        limits::remove_limit,
    ),
    changes(
        "set_limit_for",
        &["limits", "for"],
        "Set another number of a limit for a mailbox, each mailbox of a domain, or a local user",
        &[
            LIMIT_FOR,
            needed("most", Kind::Text, "how much passes within the limit's window, or unlimited"),
            OF_LIMIT,
            option("from", Kind::Until, "when it begins; without it, at once"),
            UNTIL,
            NOTE,
            CONFIRM,
        ],
        limits::set_limit_for,
    ),
    changes(
        "unset_limit_for",
        &["limits", "not-for"],
        "Let a limit hold for somebody as for everybody again",
        &[LIMIT_FOR, OF_LIMIT],
        limits::unset_limit_for,
    ),
    changes(
        "use_limit_preset",
        &["limits", "preset"],
        "Set the numbers of the limits for a kind of server",
        &[needed("preset", Kind::Word(limits::PRESETS), "quiet, default or busy-shop")],
        limits::use_preset,
    ),
    reads(
        "list_cloud_networks",
        &["clouds", "list"],
        "Your own cloud networks, and what is none",
        &[BROUGHT],
        clouds::list_networks,
    ),
    changes(
        "add_cloud_network",
        &["clouds", "add"],
        "Count a system or network as a cloud network, or with not: as none of the restricted ones",
        &[CLOUD_VALUE, UNTIL, NOTE, CONFIRM],
        |a, g| lists::add(a, g, clouds::list_for(&clouds::NETWORKS, g.text("value"))),
    ),
    changes(
        "remove_cloud_network",
        &["clouds", "remove"],
        "Take an entry off: what Postern brings holds again",
        &[CLOUD_VALUE],
        |a, g| lists::remove(a, g, clouds::list_for(&clouds::NETWORKS, g.text("value"))),
    ),
    changes(
        "import_cloud_networks",
        &["clouds", "import"],
        "Add many systems and networks: one a line, CSV or JSON",
        MANY,
        |a, g| clouds::import(a, g, &clouds::NETWORKS),
    ),
    reads("export_cloud_networks", &["clouds", "export"], "Your own cloud networks as CSV", &[], |a, _| {
        lists::export(a, &clouds::NETWORKS)
    }),
    reads(
        "list_cloud_mail_clients",
        &["cloud-mail-clients", "list"],
        "Your own cloud mail clients, and what is none",
        &[BROUGHT],
        clouds::list_clients,
    ),
    changes(
        "add_cloud_mail_client",
        &["cloud-mail-clients", "add"],
        "Let a mail service that logs in for its users skip the rules by country and kind of network",
        &[CLIENT_VALUE, UNTIL, NOTE, CONFIRM],
        |a, g| lists::add(a, g, clouds::list_for(&clouds::CLIENTS, g.text("value"))),
    ),
    changes(
        "remove_cloud_mail_client",
        &["cloud-mail-clients", "remove"],
        "Take an entry off: what Postern brings holds again",
        &[CLIENT_VALUE],
        |a, g| lists::remove(a, g, clouds::list_for(&clouds::CLIENTS, g.text("value"))),
    ),
    changes(
        "import_cloud_mail_clients",
        &["cloud-mail-clients", "import"],
        "Add many networks: one a line, CSV or JSON",
        MANY,
        |a, g| clouds::import(a, g, &clouds::CLIENTS),
    ),
    reads(
        "export_cloud_mail_clients",
        &["cloud-mail-clients", "export"],
        "Your own cloud mail clients as CSV",
        &[],
        |a, _| lists::export(a, &clouds::CLIENTS),
    ),
    reads(
        "list_allowances",
        &["allowances", "list"],
        "Temporary allowances",
        &[],
        allowances::list_allowances,
    )
    .for_owners(),
    changes(
        "add_allowance",
        &["allowances", "add"],
        "Let a mailbox or domain log in from one more country or network until a date",
        &[
            needed("for", Kind::Subject, "a mailbox or domain"),
            needed("from", Kind::Text, "a country, an address or a network"),
            Argument { required: true, ..UNTIL },
            NOTE,
        ],
        allowances::add_allowance,
    )
    .for_owners(),
    changes(
        "remove_allowance",
        &["allowances", "remove"],
        "End an allowance at once",
        &[needed("id", Kind::Number(1, i64::MAX), "its number")],
        allowances::remove_allowance,
    )
    .for_owners(),
    changes(
        "import_allowances",
        &["allowances", "import"],
        "Add many allowances: CSV with the fields for,from,until,note, or JSON",
        MANY,
        allowances::import_allowances,
    )
    .for_resellers(),
    reads(
        "export_allowances",
        &["allowances", "export"],
        "The running allowances as CSV",
        &[],
        allowances::export_allowances,
    )
    .for_resellers(),
    reads(
        "get_settings",
        &["settings", "list"],
        "Every setting with value, default and meaning",
        &[],
        settings::get_settings,
    ),
    changes(
        "set_setting",
        &["settings", "set"],
        "Change a setting",
        &[
            needed("key", Kind::Text, "the setting's key"),
            Argument { may_be_empty: true, ..needed("value", Kind::Text, "its new value; \"\" empties it") },
            CONFIRM,
        ],
        settings::set_setting,
    ),
    reads("list_audit", &["audit"], "Who changed what, newest first", &[LIMIT], activity::list_audit),
    changes(
        "undo",
        &["undo"],
        "Take a change back: the latest, or the one that is named",
        &[Argument {
            positional: true,
            ..option("change", Kind::Number(1, i64::MAX), "its generation, as `postern audit` lists it")
        }],
        undo::undo,
    ),
    reads(
        "export_config",
        &["config", "export"],
        "All settings, lists and countries as one JSON document",
        &[],
        config::export_config,
    ),
    reads(
        "diff_config",
        &["config", "diff"],
        "What applying a document would change",
        &[FILE, DOCUMENT],
        config::diff_config,
    ),
    changes(
        "apply_config",
        &["config", "apply"],
        "Make everything as a document says; what it leaves out stays as it is",
        &[FILE, DOCUMENT, DRY_RUN, CONFIRM],
        config::apply_config,
    ),
    reads(
        "lookup_address",
        &["data", "lookup"],
        "What the network data say of an address",
        &[needed("address", Kind::Address, "the address")],
        |a, g| data::look_up(&a.call.paths, g.text("address").parse()?).map(Outcome::from),
    )
    .for_owners(),
    reads(
        "report_data",
        &["data", "report"],
        "How good the marks are: share of providers' published networks, access networks that are hit",
        &[option(
            "provider",
            Kind::Text,
            "NAME=FILE with the prefixes that a provider publishes, one a line or as a geofeed; as often as you like",
        )],
        data::report,
    ),
    changes(
        "build_data",
        &["data", "build"],
        "Compile the network data from a country MMDB and ASN tables",
        &[
            Argument { required: true, ..option("country", Kind::File, "the country MMDB file") },
            option("asn", Kind::Text, "ASN tables (CSV or MMDB), separated by commas"),
            switch("allow_small", "take sources that look too small; for tests"),
        ],
        build_data,
    ),
    changes(
        "init",
        &["init"],
        "Make folders, owners and access lists, or put them right; safe to run again",
        &[
            option("user", Kind::Text, "the user that owns the state; the one from before, else postern"),
            option(
                "mail_users",
                Kind::Text,
                "further users as which the mail servers run hooks, separated by commas: Debian-exim,dovecot",
            ),
            option("without_mail_users", Kind::Text, "users that are not to be among them any more"),
        ],
        init::init,
    ),
    changes(
        "backup",
        &["backup"],
        "Copy settings and state into a new file, while everything goes on",
        &[
            needed("file", Kind::File, "the file; it must not be there yet"),
            switch("settings_only", "leave the state out: counters, stops, activity, figures"),
        ],
        backup::backup,
    ),
    changes(
        "restore",
        &["restore"],
        "Put the settings of a backup in the place of those that are there",
        &[
            needed("file", Kind::File, "a file that `postern backup` wrote"),
            switch("state", "the state too: counters, stops, activity, figures"),
            switch("confirm", "do it; without this, only look whether the backup is good"),
        ],
        backup::restore,
    ),
    changes("publish", &["publish"], "Publish the policy for the hooks anew", &[], |a, _| {
        let generation = a.publish()?;
        Ok(Outcome::said(format!("The policy was published (generation {generation}).")))
    }),
    changes(
        "learn_logs",
        &["learn"],
        "Learn from logs of Exim, Dovecot and Postfix: known networks, figures of the past, messages that came in",
        &[
            needed("files", Kind::Files, "the logs, old ones and those compressed by gzip too"),
            option("since", Kind::Text, "nothing before this: 2026-11-01, or 30d for the last 30 days"),
            DRY_RUN,
        ],
        learn::learn_logs,
    ),
    changes(
        "tick",
        &["tick"],
        "The minute's work: fold the tally, send notices, prune; run it each minute",
        &[switch("verbose", "say what was done and what failed; else only log and exit status tell")],
        tick,
    ),
    reads(
        "list_notices",
        &["notices", "list"],
        "Notices that wait, and how each way stands by which they go",
        &[LIMIT],
        notices::list_notices,
    ),
    changes(
        "send_test_notice",
        &["notices", "test"],
        "Send a test by mail, webhook and command, and say what became of it",
        &[],
        notices::send_test_notice,
    ),
    changes(
        "clear_trouble",
        &["trouble", "clear"],
        "Forget the trouble that was marked so far",
        &[],
        status::clear_trouble,
    ),
    reads(
        "list_functions",
        &["functions"],
        "Every function of the API with its arguments",
        &[],
        list_functions,
    )
    .for_owners(),
];

fn build_data(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let asn: Vec<std::path::PathBuf> =
        given.text("asn").split(',').map(str::trim).filter(|f| !f.is_empty()).map(Into::into).collect();
    let (country, small) = (given.text("country"), given.is_on("allow_small")?);
    let call = &admin.call;
    crate::on_state::in_child(|| data::build(&call.paths, country.as_ref(), &asn, small, call.now)).map(
        |report| Outcome { data: report, ..Outcome::said("The network data were built and are in use.") },
    )
}

/// Quiet, since timers mail what is said: the same failure each minute would be 1440 mails a day.
fn tick(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let done = crate::tick::tick(&admin.call);
    let quiet = !given.is_on("verbose")?;
    Ok(Outcome { messages: done.told, failures: done.failed, quiet, ..Outcome::default() })
}

fn list_functions(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let argument = |a: &Argument| json!({ "name": a.name, "required": a.required, "meaning": a.meaning });
    let row = |f: &Function| {
        json!({
            "function": f.name,
            "command": format!("postern {}", f.words.join(" ")),
            "changes": f.changes,
            "scope": f.scope.word(),
            "about": f.about,
            "arguments": f.arguments.iter().map(argument).collect::<Vec<Value>>(),
        })
    };
    Ok(json!(callable(admin.scope()).map(row).collect::<Vec<_>>()).into())
}

/// What somebody of this scope may call.
fn callable(scope: Scope) -> impl Iterator<Item = &'static Function> {
    FUNCTIONS.iter().filter(move |f| f.scope >= scope)
}

/// The functions that somebody of this scope may call, as a table for people: what need not be given stands in
/// brackets.
pub fn overview(scope: Scope) -> Value {
    let word = |a: &Argument| if a.required { a.name.to_string() } else { format!("[{}]", a.name) };
    let words = |f: &Function| f.arguments.iter().map(word).collect::<Vec<_>>().join(" ");
    let row = |f: &Function| json!({ "function": f.name, "arguments": words(f), "about": f.about });
    json!(callable(scope).map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_function_has_a_name_and_words_of_its_own_and_a_group_that_explains() {
        let names: HashSet<_> = FUNCTIONS.iter().map(|f| f.name).collect();
        let words: HashSet<_> = FUNCTIONS.iter().map(|f| f.words).collect();
        assert_eq!((names.len(), words.len()), (FUNCTIONS.len(), FUNCTIONS.len()));
        for function in FUNCTIONS {
            for n in 1..function.words.len() {
                let group = function.words[..n].join(" ");
                assert!(GROUPS.iter().any(|(name, _)| *name == group), "{group}");
            }
        }
    }
}
