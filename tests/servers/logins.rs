//! Logins of a table: how far each one comes through the doors of a scene, what its client sees, and what Postern
//! is to say of it afterwards.

use crate::clients::{Reply, Tls, Way};
use crate::doing::OUTSIDE;
use crate::rig::{Doors, DovecotDoor, MailServer, Mailbox, Pair, Scene, at_once, eventually};
use crate::told;
use End::{In, OutByAccount, OutByAddress};
use std::collections::BTreeMap;

/// What becomes of a login with the right password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    In,
    /// Whoever it is: a door that knows the address alone refuses too. With country and reason.
    OutByAddress(&'static str, &'static str),
    /// Somebody else might be let in from there: a door that knows the address alone cannot tell.
    OutByAccount(&'static str, &'static str),
}

/// What it is, from where, who, and what becomes of it.
pub(crate) type Case = (&'static str, &'static str, &'static Mailbox, End);

/// What the administrator says, and who gets in then.
pub(crate) struct Part {
    pub(crate) says: &'static [&'static [&'static str]],
    pub(crate) clock: &'static str,
    pub(crate) cases: &'static [Case],
}

/// One login of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Try {
    pub(crate) case: &'static Case,
    pub(crate) way: Way,
    pub(crate) tls: Tls,
    pub(crate) right: bool,
}

/// Servers and the doors that they ask at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    pub(crate) pair: Pair,
    pub(crate) doors: Doors,
}

/// How far a login comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Postfix's greeting, by the address alone.
    Greeting,
    /// Exim's AUTH, by the address alone.
    Auth,
    /// Dovecot, before the password.
    Dovecot,
    /// The password, which is wrong.
    Password,
    /// Behind the password, and before any mail.
    Postlogin,
    /// The first use of the login to send.
    Mail,
    Through,
}

/// What a client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Welcome,
    /// These words of the server's own.
    Words(&'static str),
    /// Words of the server's own that begin so, and nothing of ours.
    Begins(&'static str),
    /// This code of Postern's, its sentence and a reference.
    Refusal(String),
}

/// Where a service's logins are counted: what the setting is called that says so. README, "Whose word counts".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Gate,
    Policy,
    Exim,
    Postfix,
    Postlogin,
    Nobody,
}

/// What a client is told of this reason.
fn sentence(reason: &str) -> &'static str {
    match reason.starts_with("network_") {
        true => "Logins from this network are not allowed here.",
        false => "Logins from this country are not allowed here.",
    }
}

const GUESSED: &str = "guessed";

impl Guard {
    /// The source to choose for a service where these doors stand.
    fn source(self, smtp: bool) -> Source {
        match self.doors.dovecot {
            Some(DovecotDoor::Policy) => Source::Policy,
            Some(DovecotDoor::Gate | DovecotDoor::Chain) => Source::Gate,
            None if smtp && self.doors.exim => Source::Exim,
            None if smtp && self.doors.postfix.is_some() => Source::Postfix,
            None if !smtp && self.doors.postlogin => Source::Postlogin,
            None => Source::Nobody,
        }
    }

    /// Chooses it.
    pub(crate) fn choose_sources(self, scene: &Scene) {
        for service in ["smtp", "imap", "pop3"] {
            let from = match self.source(service == "smtp") {
                Source::Gate => "gate",
                Source::Policy => "policy",
                Source::Exim => "exim",
                Source::Postfix => "postfix",
                Source::Postlogin => "postlogin",
                Source::Nobody => continue,
            };
            scene.api(&["set_setting", &format!("key={service}_logins_from"), &format!("value={from}")]);
        }
    }

    fn has_exim(self) -> bool {
        self.pair.mail_server() == MailServer::Exim
    }
}

impl Try {
    /// Country and reason, where the login is to be refused.
    fn refused(&self) -> Option<(&'static str, &'static str)> {
        match self.case.3 {
            In => None,
            OutByAddress(country, reason) | OutByAccount(country, reason) => Some((country, reason)),
        }
    }

    fn stage(&self, Guard { doors, .. }: Guard) -> Stage {
        let (smtp, out) = (self.way.is_smtp(), self.refused().is_some());
        let by_address = matches!(self.case.3, OutByAddress(..));
        match () {
            () if smtp && by_address && doors.before_auth && self.tls != Tls::None => Stage::Greeting,
            () if smtp && by_address && doors.exim => Stage::Auth,
            () if out && doors.dovecot.is_some() => Stage::Dovecot,
            () if !self.right => Stage::Password,
            () if out && !smtp && doors.postlogin => Stage::Postlogin,
            () if out && smtp && doors.has_mail_server() => Stage::Mail,
            () => Stage::Through,
        }
    }

    /// What the client sees of its login.
    fn expected(&self, guard: Guard) -> Seen {
        let stage = self.stage(guard);
        match stage {
            Stage::Through | Stage::Mail => Seen::Welcome,
            Stage::Greeting => {
                Seen::Refusal(format!("554 5.7.1 <unknown[{}]>: Client host rejected:", self.case.1))
            }
            Stage::Auth => Seen::Refusal("535 5.7.8".into()),
            Stage::Postlogin if self.way == Way::Pop3 => Seen::Refusal("-ERR [SYS/PERM]".into()),
            Stage::Postlogin => Seen::Refusal("* BYE [ALERT]".into()),
            Stage::Dovecot if guard.doors.has_policy() => self.refused_by_policy(guard),
            Stage::Dovecot | Stage::Password => self.wrong_password(guard),
        }
    }

    /// Dovecot begins the line that shows the text of its policy server. Exim keeps that text to itself.
    fn refused_by_policy(&self, guard: Guard) -> Seen {
        match self.way {
            way if way.is_smtp() && guard.has_exim() => self.wrong_password(guard),
            way if way.is_smtp() => Seen::Refusal("535 5.7.8 Error: authentication failed:".into()),
            Way::Pop3 => Seen::Refusal("-ERR [AUTH]".into()),
            _ => Seen::Refusal("a NO [ALERT]".into()),
        }
    }

    /// What servers say themselves; the gate's refusals look like that.
    fn wrong_password(&self, guard: Guard) -> Seen {
        match self.way {
            way if way.is_smtp() && guard.has_exim() => Seen::Words("535 Incorrect authentication data"),
            way if way.is_smtp() => Seen::Begins("535 5.7.8 Error: authentication failed: "),
            Way::Pop3 => Seen::Words("-ERR [AUTH] Authentication failed."),
            _ => Seen::Words("a NO [AUTHENTICATIONFAILED] Authentication failed."),
        }
    }

    /// What it sees when it goes on to send.
    fn expected_at_mail(&self, guard: Guard) -> Seen {
        match self.stage(guard) {
            Stage::Mail if guard.has_exim() => Seen::Refusal("550 5.7.1".into()),
            Stage::Mail => {
                Seen::Refusal(format!("550 5.7.1 <{}>: Sender address rejected:", self.case.2.name))
            }
            _ => Seen::Welcome,
        }
    }

    /// Logs in, and begins a message where that is possible.
    fn play(&self, scene: &Scene) -> (Reply, Option<Reply>) {
        let (_, from, who, _) = self.case;
        let password = if self.right { who.password } else { GUESSED };
        if !self.way.is_smtp() {
            return (scene.login_by(self.tls, self.way, from, who.name, password), None);
        }
        let mut smtp = scene.smtp_by(self.tls, from);
        if !smtp.greeting.yes {
            return (smtp.greeting, None);
        }
        let login = match self.way {
            Way::SmtpLogin => smtp.auth_login(who.name, password),
            Way::SmtpCramMd5 => smtp.auth_cram_md5(who.name, password),
            _ => smtp.auth_plain(who.name, password),
        };
        let mail = login.yes.then(|| smtp.begin(who.name, OUTSIDE));
        (login, mail)
    }

    /// Whether the source knows that somebody tried; it may be asked before the password or behind it.
    fn tried_is_told(&self, guard: Guard) -> bool {
        match guard.source(self.way.is_smtp()) {
            Source::Nobody => false,
            Source::Gate | Source::Policy | Source::Exim => true,
            Source::Postfix | Source::Postlogin => self.stage(guard) != Stage::Password,
        }
    }

    /// Whether somebody tells the source of a password that was right.
    fn success_is_told(&self, guard: Guard) -> bool {
        match guard.source(self.way.is_smtp()) {
            Source::Nobody => false,
            Source::Gate if self.way.is_smtp() => guard.doors.has_mail_server(),
            Source::Gate => guard.doors.postlogin,
            Source::Policy | Source::Exim | Source::Postfix | Source::Postlogin => true,
        }
    }

    /// Whether somebody tells the source of a password that was wrong. Dovecot's failed stage never hears of
    /// CRAM-MD5's.
    fn failure_is_told(&self, guard: Guard) -> bool {
        match guard.source(self.way.is_smtp()) {
            Source::Policy | Source::Exim => true,
            Source::Gate => guard.doors.failed && ![Way::SmtpCramMd5, Way::ImapCramMd5].contains(&self.way),
            Source::Nobody | Source::Postfix | Source::Postlogin => false,
        }
    }
}

/// What Postern is to say at the end: Activity and statistics, as `told` reads them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    activity: BTreeMap<String, i64>,
    statistics: BTreeMap<String, i64>,
}

impl Account {
    fn count(&mut self, country: &str, column: &str) {
        *self.statistics.entry(format!("{country} {column}")).or_default() += 1;
    }

    fn refused(&mut self, event: String) {
        *self.activity.entry(event).or_default() += 1;
    }

    pub(crate) fn login(&mut self, login: &Try, guard: Guard) {
        let (_, from, who, _) = *login.case;
        let (country, stage) = (country_of(from), login.stage(guard));
        let account = match stage {
            Stage::Through | Stage::Password => {
                let told = [
                    (login.tried_is_told(guard), "tried"),
                    (login.right && login.success_is_told(guard), "succeeded"),
                    (!login.right && login.failure_is_told(guard), "failed"),
                ];
                told.iter().filter(|(told, _)| *told).for_each(|(_, column)| self.count(country, column));
                return;
            }
            Stage::Greeting | Stage::Auth => "-",
            Stage::Dovecot | Stage::Postlogin | Stage::Mail => who.name,
        };
        self.count(country, "tried");
        self.count(country, "refused");
        let Some((country, reason)) = login.refused() else { unreachable!() };
        let address: postern::address::Address = from.parse().unwrap();
        let service = match login.way {
            Way::Imap | Way::ImapCramMd5 => "imap",
            Way::Pop3 => "pop3",
            _ => "smtp",
        };
        self.refused(format!("{account} {address} {country} {service} refuse {reason}"));
    }

    /// A message of a login, and whether it was stopped.
    pub(crate) fn message(&mut self, who: &Mailbox, from: &str, stopped: Option<&str>) {
        let country = country_of(from);
        let column = if stopped.is_some() { "messages_refused" } else { "messages_sent" };
        self.count(country, column);
        if let Some(reason) = stopped {
            self.refused(format!("{} {from} {country} smtp refuse {reason}", who.name));
        }
    }

    /// Lines of the tally; a refusal has one line for both.
    fn lines(&self) -> usize {
        let lines = self.statistics.iter().filter(|(what, _)| !what.ends_with(" refused")).map(|(_, n)| *n);
        usize::try_from(lines.sum::<i64>()).unwrap()
    }

    /// Waits until it is told: servers tell how a login ended after they have answered the client. A keeper folds
    /// the tally itself.
    pub(crate) fn is_told(&self, scene: &Scene, guard: Guard) {
        eventually("every login was told of", || match guard.doors.keeper {
            true => told::statistics(scene) == self.statistics,
            false => told::tally_lines(scene) >= self.lines(),
        });
    }

    /// Compares with all that Postern says, and looks through its log.
    #[track_caller]
    pub(crate) fn is_all(&self, scene: &Scene, guard: Guard) {
        let told = Account { activity: told::activity(scene), statistics: told::statistics(scene) };
        assert_eq!(told, *self, "{guard:?}");
        assert_eq!(told::troubles(scene), BTreeMap::new(), "{guard:?}");
        let log = scene.syslog();
        let lines = log.iter().filter(|line| line.contains("event=refuse")).count();
        let refusals = usize::try_from(told.activity.values().sum::<i64>()).unwrap();
        // One line each. Nobody waits for a logger, whose queue has room for ten: of dozens at once one may be lost.
        let nearly_all = refusals - refusals / 10;
        assert!((nearly_all..=refusals).contains(&lines), "{guard:?}: {lines} lines, {refusals} refusals");
        let log = log.concat();
        assert!(!log.contains("secret-of") && !log.contains(GUESSED), "{guard:?}: a password in the log");
        assert_eq!(scene.exim_panic_log() + &scene.postfix_faults(), "", "{guard:?}");
    }
}

pub(crate) const GERMAN: &str = "79.192.0.1";
pub(crate) const GERMAN_V6: &str = "2003::1";
pub(crate) const AMERICAN: &str = "73.0.0.1";
pub(crate) const JAPANESE: &str = "133.11.0.1";
/// The try-out data have no country for this network, which is set aside for documentation.
pub(crate) const NOWHERE: &str = "192.0.2.1";

fn country_of(address: &str) -> &'static str {
    match address {
        GERMAN | GERMAN_V6 | "::ffff:79.192.0.1" | "::ffff:5.9.0.2" => "DE",
        AMERICAN => "US",
        JAPANESE => "JP",
        NOWHERE | "10.1.2.3" | "127.0.0.1" | "::1" => "-",
        cloud if cloud.starts_with("52.") || cloud.starts_with("3.") => "US",
        cloud if ["5.9.", "79.192.", "185.220."].iter().any(|net| cloud.starts_with(net)) => "DE",
        _ => "BR",
    }
}

/// The administrator says what the part has him say; then all these logins, many at once, each as it is to be.
pub(crate) fn part_holds(scene: &Scene, guard: Guard, part: &Part, tries: &[Try], account: &mut Account) {
    part.says.iter().for_each(|words| drop(scene.api(words)));
    scene.clock(part.clock);
    for some in tries.chunks(66) {
        for (login, (reply, mail)) in some.iter().zip(at_once(some, |login| login.play(scene))) {
            shows(scene, &reply, &login.expected(guard), login, guard);
            let after = login.expected_at_mail(guard);
            mail.iter().for_each(|reply| shows(scene, reply, &after, login, guard));
            account.login(login, guard);
        }
    }
}

/// Compares; a reference leads to the refusal in Activity.
#[track_caller]
fn shows(scene: &Scene, reply: &Reply, expected: &Seen, login: &Try, guard: Guard) {
    let case = format!("{guard:?} {login:?}");
    match expected {
        Seen::Welcome => assert!(reply.yes, "{case}: {reply}"),
        Seen::Words(words) => assert_eq!(reply.text, *words, "{case}"),
        Seen::Begins(words) => {
            assert!(reply.text.starts_with(words) && !reply.says("Logins from this "), "{case}: {reply}");
        }
        Seen::Refusal(code) => {
            let whole = if guard.has_exim() && login.way.is_smtp() {
                told::one_line(reply)
            } else {
                reply.text.lines().next().unwrap_or_default().to_owned()
            };
            let reference = told::reference(&whole).unwrap_or_else(|| panic!("{case}: {reply}"));
            let reason = login.refused().unwrap().1;
            assert_eq!(whole, format!("{code} {} Reference {reference}.", sentence(reason)), "{case}");
            let event = told::under_reference(scene, reference);
            assert_eq!(event["reason"], reason, "{case}: {event}");
        }
    }
}
