//! Sources of record: whose word counts for the logins of a service.
//!
//! Several doors can see the same login. For each service one setting (`smtp_logins_from` and so on) names the
//! source; what the others see of it is not counted, so that nothing counts twice. Three things are told
//! apart: that somebody tried, that he succeeded, that he failed. A refusal of ours is none of the last two.
//!
//! | setting | tried | succeeded | failed |
//! |---|---|---|---|
//! | `gate` | gate, chain | post-login script; for SMTP the login's use, or its outcome where it is not used | failed stage |
//! | `policy` | policy server asked | policy server told | policy server told |
//! | `postlogin` | post-login script | the same | nobody knows |
//! | `exim` | AUTH, MAIL | the login's use, or its outcome where it is not used | outcome |
//! | `postfix` | the login's use | the same | nobody knows |
//! | `log` | what succeeded or failed | the logs that are followed | the same |

use crate::request::{Door, Service};
use crate::settings::{LoginsFrom, Settings};

/// What is told of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Somebody tried to log in.
    Tried,
    /// The password was right.
    Succeeded,
    /// The password was wrong.
    Failed,
}

/// The setting that holds for this service; none for services whose logins are not counted.
pub fn setting(settings: &Settings, service: Service) -> Option<LoginsFrom> {
    match service {
        Service::Smtp => Some(settings.smtp_logins_from),
        Service::Imap | Service::Sieve | Service::Other => Some(settings.imap_logins_from),
        Service::Pop3 => Some(settings.pop3_logins_from),
        Service::Local | Service::Doveadm => None,
    }
}

/// The name of that setting.
pub fn setting_key(service: Service) -> &'static str {
    match service {
        Service::Smtp => "smtp_logins_from",
        Service::Pop3 => "pop3_logins_from",
        _ => "imap_logins_from",
    }
}

/// Whether the door meets logins at all, and not messages.
pub fn sees_logins(door: Door) -> bool {
    !matches!(door, Door::EximData | Door::EximLocal | Door::PostfixData | Door::PostfixLocal | Door::Explain)
}

/// Whether this door's word counts for this service.
pub fn is_of_record(settings: &Settings, service: Service, door: Door, told: Told) -> bool {
    setting(settings, service).is_some_and(|from| doors(from, service, told).contains(&door))
}

/// Whether this door is asked after the one that counts tries, so that what it refuses was counted as a try.
pub fn is_behind_source(settings: &Settings, service: Service, door: Door) -> bool {
    match setting(settings, service) {
        Some(LoginsFrom::Exim) => {
            matches!(door, Door::DovecotPolicy | Door::DovecotGate | Door::DovecotChain)
        }
        Some(LoginsFrom::Policy) => {
            matches!(door, Door::DovecotGate | Door::DovecotChain | Door::DovecotPostlogin)
        }
        Some(LoginsFrom::Gate) => door == Door::DovecotPostlogin,
        // Dovecot logs a refusal of these doors as a login that failed, and one of the script as one that succeeded.
        Some(LoginsFrom::Log) => matches!(
            door,
            Door::DovecotPolicy | Door::DovecotGate | Door::DovecotChain | Door::DovecotPostlogin
        ),
        Some(LoginsFrom::Postlogin | LoginsFrom::Postfix) | None => false,
    }
}

/// The doors whose word counts for this service.
pub fn doors(from: LoginsFrom, service: Service, told: Told) -> &'static [Door] {
    match (from, told) {
        (LoginsFrom::Gate, Told::Tried) => &[Door::DovecotGate, Door::DovecotChain],
        (LoginsFrom::Gate, Told::Succeeded) if service != Service::Smtp => &[Door::DovecotPostlogin],
        (LoginsFrom::Gate, Told::Succeeded) => &[Door::EximMail, Door::EximOutcome, Door::PostfixMail],
        (LoginsFrom::Gate, Told::Failed) => &[Door::DovecotFailed],
        (LoginsFrom::Policy, _) => &[Door::DovecotPolicy],
        (LoginsFrom::Postlogin, Told::Tried | Told::Succeeded) => &[Door::DovecotPostlogin],
        (LoginsFrom::Postlogin | LoginsFrom::Postfix, Told::Failed) | (LoginsFrom::Log, _) => &[],
        (LoginsFrom::Exim, Told::Tried) => &[Door::EximAuth, Door::EximMail],
        (LoginsFrom::Exim, Told::Succeeded) => &[Door::EximMail, Door::EximOutcome],
        (LoginsFrom::Exim, Told::Failed) => &[Door::EximOutcome],
        (LoginsFrom::Postfix, Told::Tried | Told::Succeeded) => &[Door::PostfixMail],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [LoginsFrom; 5] =
        [LoginsFrom::Gate, LoginsFrom::Policy, LoginsFrom::Postlogin, LoginsFrom::Exim, LoginsFrom::Postfix];

    #[test]
    fn every_source_counts_tries_and_successes() {
        for from in ALL {
            for told in [Told::Tried, Told::Succeeded] {
                assert!(!doors(from, Service::Smtp, told).is_empty(), "{from:?} {told:?}");
            }
        }
    }

    #[test]
    fn where_logs_tell_no_door_does() {
        let log = LoginsFrom::Log;
        let settings = Settings { smtp_logins_from: log, imap_logins_from: log, ..Settings::default() };
        for door in Door::ALL {
            for (service, told) in [(Service::Smtp, Told::Tried), (Service::Imap, Told::Failed)] {
                assert!(!is_of_record(&settings, service, door, told), "{door:?}");
            }
        }
        assert!(is_behind_source(&settings, Service::Imap, Door::DovecotGate), "the log has it as failed");
        assert!(!is_behind_source(&settings, Service::Smtp, Door::EximAuth), "Exim has it as rejected");
    }

    #[test]
    fn what_the_policy_server_tells_is_told_by_nobody_else() {
        let settings = Settings { smtp_logins_from: LoginsFrom::Policy, ..Settings::default() };
        for door in Door::ALL.into_iter().filter(|d| *d != Door::DovecotPolicy) {
            for told in [Told::Tried, Told::Succeeded, Told::Failed] {
                assert!(!is_of_record(&settings, Service::Smtp, door, told), "{door:?} {told:?}");
            }
        }
        assert!(
            !is_of_record(&settings, Service::Imap, Door::DovecotPolicy, Told::Failed),
            "the gate is IMAP's"
        );
    }

    #[test]
    fn what_counts_tries_is_never_behind_itself() {
        for from in ALL {
            let settings = Settings { smtp_logins_from: from, imap_logins_from: from, ..Settings::default() };
            for service in [Service::Smtp, Service::Imap] {
                for door in doors(from, service, Told::Tried) {
                    assert!(!is_behind_source(&settings, service, *door), "{from:?} {door:?}");
                }
            }
        }
    }

    #[test]
    fn the_servers_own_tools_log_in_uncounted() {
        for door in Door::ALL {
            assert!(!is_of_record(&Settings::default(), Service::Doveadm, door, Told::Tried));
        }
    }
}
