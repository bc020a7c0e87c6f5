//! Lines as the servers print them, with what clients choose in them: whatever that is, no other address and no other
//! account is named.

use super::*;
use crate::account::Account;
use proptest::prelude::*;

/// 2026-11-30 19:33:53 UTC.
const AT: Seconds = 1_796_067_233;

/// The client's own address; every other one in a line is a trick or the server's.
const CLIENT: &str = "192.0.2.7";

fn reader() -> Reader {
    Reader { stamps: Stamps::in_utc(AT), ..Reader::new(AT) }
}

fn read(line: &str) -> Line<'_> {
    reader().read(line.as_bytes())
}

/// What happened, the service, the client and who; with how often where it is more than once.
fn event(line: &str) -> Option<(What, Service, String, String, u32)> {
    match read(line) {
        Line::Event(e) => {
            assert_eq!(e.at, AT, "{line}");
            let account = String::from_utf8_lossy(e.account).into_owned();
            Some((e.what, e.service, e.address.to_string(), account, e.times))
        }
        _ => None,
    }
}

fn is(
    what: What,
    service: Service,
    address: &str,
    account: &str,
) -> Option<(What, Service, String, String, u32)> {
    Some((what, service, address.into(), account.into(), 1))
}

#[test]
fn exims_lines_are_understood() {
    use What::{Failure, Inbound, Success};
    let alice = "alice@example.test";
    let id = "1xW1Xt-0000gl-1R";
    for (line, expected) in [
        (
            format!(
                "{id} <= {alice} H=(c.test) [192.0.2.7]:44125 P=esmtpa A=dovecot_plain:{alice} S=333 for bob@example.test"
            ),
            is(Success, Service::Smtp, CLIENT, alice),
        ),
        (
            format!(
                "1xW1Xt-000000000gl-1R0x <= {alice} H=mail.c.test (c.test) [192.0.2.7] I=[203.0.113.1]:465 P=esmtpsa X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no SNI=\"server.example.test\" A=login:{alice} S=1 id=x@y"
            ),
            is(Success, Service::Smtp, CLIENT, alice),
        ),
        (
            format!(
                "[77] {id} <= news@other.test H=mx.other.test [2001:db8::7]:25 P=esmtps X=TLS1.2:x:256 CV=yes S=12 T=\"A=b H=c\" for {alice}"
            ),
            is(Inbound, Service::Smtp, "2001:db8::7", ""),
        ),
        (
            format!("{id} <= <> R=1xW1Xt-0000gk-0A H=([192.0.2.7]) [192.0.2.7] P=smtp S=12"),
            is(Inbound, Service::Smtp, CLIENT, ""),
        ),
        (
            format!(
                "dovecot_plain authenticator failed for (c.test) [192.0.2.7]:44125: 535 Incorrect authentication data (set_id={alice})"
            ),
            is(Failure, Service::Smtp, CLIENT, alice),
        ),
        (
            format!(
                "login authenticator failed for mail.c.test ([198.51.100.9]) [192.0.2.7] I=[203.0.113.1]:25 U=mail: 535 Incorrect authentication data (set_id={alice})"
            ),
            is(Failure, Service::Smtp, CLIENT, alice),
        ),
        (
            "plain authenticator failed for [192.0.2.7]: 535 Incorrect authentication data".into(),
            is(Failure, Service::Smtp, CLIENT, ""),
        ),
    ] {
        assert_eq!(event(&format!("2026-11-30 19:33:53 {line}")), expected, "{line}");
        assert_eq!(event(&format!("2026-11-30 20:33:53.123 +0100 {line}")), expected, "{line}");
        assert_eq!(event(&format!("Nov 30 19:33:53 server exim[7]: {line}")), expected, "{line}");
        assert_eq!(
            event(&format!("Nov 30 19:33:53 server exim[7]: 2026-11-30 19:33:53 {line}")),
            expected,
            "{line}"
        );
    }
    for line in [
        "Start queue run: pid=77",
        "exim 4.96 daemon started: pid=77, no queue runs, listening for SMTP on port 25",
        "1xW1Xt-0000gl-1R <= www-data@server.test U=www-data P=local S=333",
        "1xW1Xt-0000gl-1R => alice <alice@example.test> R=mailbox T=mailbox",
        "1xW1Xt-0000gl-1R Completed",
        "plain authenticator failed for [192.0.2.7]: 435 Unable to authenticate at present: back end",
        "H=(c.test) [192.0.2.7]:44125 rejected AUTH PLAIN: POSTERN auth refused",
    ] {
        assert_eq!(read(&format!("2026-11-30 19:33:53 {line}")), Line::Other(AT), "{line}");
    }
}

#[test]
fn dovecots_lines_are_understood() {
    use What::{Failure, Success};
    let tail = "method=PLAIN, rip=192.0.2.7, lip=203.0.113.1, mpid=77, TLS, session=<Gx1+/w==>";
    let failed =
        |n: u32| Some((Failure, Service::Imap, CLIENT.to_string(), "bob@example.test".to_string(), n));
    for (text, expected) in [
        (
            format!("imap-login: Login: user=<alice@example.test>, {tail}"),
            is(Success, Service::Imap, CLIENT, "alice@example.test"),
        ),
        (
            format!("pop3-login: Logged in: user=<alice@example.test>, {tail}"),
            is(Success, Service::Pop3, CLIENT, "alice@example.test"),
        ),
        (format!("imap-login: Disconnected (auth failed, 1 attempts in 2 secs): user=<bob@example.test>, {tail}"), failed(1)),
        (format!("imap-login: Disconnected: Connection closed (auth failed, 3 attempts in 9 secs): user=<bob@example.test>, {tail}"), failed(3)),
        (format!("imap-login: Login aborted: Logged out (auth failed, 1 attempts in 0 secs) (auth_failed): user=<bob@example.test>, {tail}"), failed(1)),
        (
            "managesieve-login: Aborted login (auth failed, 1 attempts in 2 secs): user=<>, method=PLAIN, rip=2001:db8::7, lip=::1, session=<a>".into(),
            is(Failure, Service::Sieve, "2001:db8::7", ""),
        ),
    ] {
        let (process, rest) = text.split_once(": ").unwrap();
        for line in [
            format!("Nov 30 19:33:53 server dovecot: {text}"),
            format!("2026-11-30T19:33:53.5+00:00 server dovecot[7]: {text}"),
            format!("<22>1 2026-11-30T19:33:53Z server dovecot 7 - - {text}"),
            format!("Nov 30 19:33:53 {process}: Info: {rest}"),
            format!("2026-11-30 19:33:53 {process}: Info: {rest}"),
        ] {
            assert_eq!(event(&line), expected, "{line}");
        }
    }
    for text in [
        format!("imap-login: Disconnected (no auth attempts in 0 secs): user=<>, {tail}"),
        format!("imap-login: Login: user=<>, {tail}"),
        "imap(alice@example.test)<77><Gx1>: Logged out in=7 out=9".into(),
        "auth: passwd-file(bob@example.test,192.0.2.7,<Gx1>): Password mismatch".into(),
    ] {
        assert_eq!(read(&format!("Nov 30 19:33:53 server dovecot: {text}")), Line::Other(AT), "{text}");
    }
    let master = format!("imap-login: Login: user=<alice>, master=<root>, {tail}");
    assert_eq!(read(&format!("Nov 30 19:33:53 server dovecot: {master}")), Line::Ambiguous(AT));
}

#[test]
fn postfixs_lines_are_understood() {
    use What::{Failure, Inbound, Success};
    let alice = "alice@example.test";
    for (program, text, expected) in [
        (
            "postfix/smtps/smtpd",
            format!("90E116CE1C6: client=unknown[192.0.2.7], sasl_method=PLAIN, sasl_username={alice}"),
            is(Success, Service::Smtp, CLIENT, alice),
        ),
        (
            "postfix/submission/smtpd",
            format!(
                "4Wjk0X2bQzz1f9: client=c.test[2001:db8::7]:44125, sasl_method=LOGIN, sasl_username={alice}, sasl_sender=x@y"
            ),
            is(Success, Service::Smtp, "2001:db8::7", alice),
        ),
        (
            "postfix/smtpd",
            "90E116CE1C6: client=mx.other.test[192.0.2.7]".into(),
            is(Inbound, Service::Smtp, CLIENT, ""),
        ),
        (
            "postfix/smtpd",
            format!(
                "warning: unknown[192.0.2.7]: SASL LOGIN authentication failed: (reason unavailable), sasl_username={alice}"
            ),
            is(Failure, Service::Smtp, CLIENT, alice),
        ),
        (
            "postfix-out/smtpd",
            "warning: c.test[192.0.2.7]: SASL PLAIN authentication failed: UGFzc3dvcmQ6".into(),
            is(Failure, Service::Smtp, CLIENT, ""),
        ),
    ] {
        for line in [
            format!("Nov 30 19:33:53 server {program}[7]: {text}"),
            format!("2026-11-30T19:33:53.5Z server {program}[7]: {text}"),
        ] {
            assert_eq!(event(&line), expected, "{line}");
        }
    }
    for text in [
        "connect from unknown[192.0.2.7]",
        "NOQUEUE: client=unknown[192.0.2.7]",
        "warning: unknown[192.0.2.7]: SASL PLAIN authentication failed: Connection lost to authentication server",
        "90E116CE1C6: client=localhost[127.0.0.1], orig_client=unknown[192.0.2.7]",
        "warning: hostname x does not resolve to address 192.0.2.7",
    ] {
        assert_eq!(
            read(&format!("Nov 30 19:33:53 server postfix/smtpd[7]: {text}")),
            Line::Other(AT),
            "{text}"
        );
    }
    let cleanup = "Nov 30 19:33:53 server postfix/cleanup[7]: 90E116CE1C6: client=unknown[192.0.2.7]";
    assert_eq!(read(cleanup), Line::Other(AT));
}

#[test]
fn a_quote_in_what_tls_says_names_nobody_else_in_exims_log() {
    let line = |tls: &str| {
        format!(
            "2026-11-30 19:33:53 1xW1Xt-0000gl-1R <= a@x.test H=(c.test) [192.0.2.7]:25 P=esmtpsa X=x CV=no {tls} A=plain:alice S=7"
        )
    };
    for tls in ["DN=\"CN=alice\"", "SNI=\"server.test\"", "DN=\"CN=alice,O=x\" SNI=\"server.test\""] {
        assert_eq!(event(&line(tls)), is(What::Success, Service::Smtp, CLIENT, "alice"), "{tls}");
    }
    for tls in [
        "SNI=\"x\" A=plain:victim S=1\"",
        "DN=\"x\" A=plain:victim S=1\"",
        "DN=\"x\" A=plain:victim S=\" SNI=\"y\"",
        "SNI=\"x\" CV=yes\"",
    ] {
        assert_eq!(read(&line(tls)), Line::Ambiguous(AT), "{tls}");
    }
}

#[test]
fn other_programs_and_other_files_are_none_of_ours() {
    assert_eq!(read("Nov 30 19:33:53 server spamd[7]: imap-login: Login: user=<a>"), Line::Foreign(AT));
    for line in [
        "",
        "2026-11-30 19:33:53 status installed postfix:amd64 3.7.11",
        "192.0.2.7 - - [30/Nov/2026:19:33:53 +0000] \"GET / HTTP/1.1\" 200 7",
        "plain authenticator failed for [192.0.2.7]: 535 Incorrect authentication data (set_id=a)",
    ] {
        assert_eq!(read(line), Line::Unknown, "{line}");
    }
}

/// Pieces by which a name can look like a part of a line.
const TRICKS: [&str; 33] = [
    "x\" A=plain:victim@example.test S=1",
    "\" SNI=\"",
    "\" CV=yes",
    "x",
    "victim@example.test",
    " ",
    ")",
    "(",
    "[198.51.100.9]",
    " [198.51.100.9]:25",
    "]",
    ">",
    "<",
    "\"",
    "\\",
    ",",
    "=",
    ": ",
    ">, method=PLAIN, rip=198.51.100.9, lip=203.0.113.1, session=<a>",
    ">, rip=198.51.100.9",
    ", rip=198.51.100.9",
    ", lip=203.0.113.1",
    "user=<victim@example.test>",
    ": user=<victim@example.test",
    ", sasl_username=victim@example.test",
    ", sasl_sender=",
    " authenticator failed for ",
    ") [198.51.100.9]: 535 Incorrect authentication data (set_id=victim@example.test",
    ": 535 Incorrect authentication data",
    " H=(y) [198.51.100.9] P=esmtpa A=plain:victim@example.test S=1",
    " P=esmtpa A=plain:victim@example.test",
    " U=y",
    "SASL PLAIN authentication failed: ",
];

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![4 => prop::sample::select(&TRICKS[..]).prop_map(String::from), 1 => "[ -~]{0,6}"];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// As Dovecot writes a name: without control characters.
fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Whatever stood in the line, nobody else is named: neither another client, nor another mailbox than what was tried.
fn names_nobody_else(line: &str, tried: &[&str]) -> std::result::Result<(), TestCaseError> {
    if let Line::Event(event) = read(line) {
        prop_assert_eq!(event.address.to_string(), CLIENT, "{}", line);
        let account = String::from_utf8_lossy(event.account).into_owned();
        let is_tried = account.is_empty() || tried.contains(&account.as_str());
        prop_assert!(is_tried, "{} of {:?} in {}", account, tried, line);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_name_or_helo_accuses_another_in_exims_log(name in hostile(), helo in hostile(), ident in hostile(), parts in 0u8..8) {
        let helo = if parts & 1 > 0 { format!("({helo}) ") } else { String::new() };
        let port = if parts & 2 > 0 { ":44125 I=[203.0.113.1]:25" } else { "" };
        let ident = if parts & 4 > 0 { format!(" U={ident}") } else { String::new() };
        let line = format!(
            "2026-11-30 19:33:53 dovecot_plain authenticator failed for {helo}[{CLIENT}]{port}{ident}: 535 Incorrect authentication data (set_id={name})"
        );
        names_nobody_else(&line, &[&name])?;
        // With a HELO as Exim takes it, what was tried counts, unless it looks like a part of the line.
        let line = format!(
            "2026-11-30 19:33:53 plain authenticator failed for (c.test) [{CLIENT}]:1: 535 Incorrect authentication data (set_id={name})"
        );
        match read(&line) {
            Line::Event(event) => prop_assert_eq!(event.account, name.as_bytes()),
            other => prop_assert!(name.contains(": 535 Incorrect") && other == Line::Ambiguous(AT), "{:?} {}", other, line),
        }
    }

    #[test]
    fn no_helo_sender_or_subject_makes_a_login_in_exims_log(
        sender in hostile(), helo in hostile(), ident in hostile(), subject in hostile(), parts in 0u8..8
    ) {
        // A sender with blanks is one in quotes.
        let quoted = format!("\"{}\"@x.test", sender.replace(['"', '\\'], "\\\""));
        let sender = if sender.contains([' ', '"', '\\', '(', ')', '[', ']', '<', '>', ',', ':']) { quoted } else { sender };
        let helo = if parts & 1 > 0 { format!("({helo}) ") } else { String::new() };
        let ident = if parts & 4 > 0 { format!(" U={ident}") } else { String::new() };
        let line = format!(
            "2026-11-30 19:33:53 1xW1Xt-0000gl-1R <= {sender} H={helo}[{CLIENT}]:25{ident} P=esmtps X=TLS1.3:x:256 CV=no S=7 id=a@b T=\"{subject}\" for alice@example.test"
        );
        names_nobody_else(&line, &[])?;
        let is_login = matches!(read(&line), Line::Event(Event { what: What::Success, .. }));
        prop_assert!(!is_login, "{}", line);
        let local = format!("2026-11-30 19:33:53 1xW1Xt-0000gl-1R <= {sender} U=web P=local S=7 T=\"{subject}\"");
        prop_assert!(!matches!(read(&local), Line::Event(_)), "{}", local);
    }

    #[test]
    fn no_name_of_a_certificate_or_server_makes_another_login_in_exims_log(
        dn in hostile(), sni in hostile(), subject in hostile(), parts in 0u8..4
    ) {
        let dn = if parts & 1 > 0 { format!(" DN=\"{dn}\"") } else { String::new() };
        let sni = if parts & 2 > 0 { format!(" SNI=\"{sni}\"") } else { String::new() };
        let line = format!(
            "2026-11-30 19:33:53 1xW1Xt-0000gl-1R <= a@x.test H=(c.test) [{CLIENT}]:25 P=esmtpsa X=TLS1.3:x:256 CV=no{dn}{sni} A=plain:alice S=7 T=\"{subject}\""
        );
        names_nobody_else(&line, &["alice"])?;
        if parts == 0 && !subject.contains(" P=") {
            prop_assert!(matches!(read(&line), Line::Event(_)), "{}", line);
        }
    }

    #[test]
    fn no_name_accuses_another_in_dovecots_log(name in hostile(), failed in any::<bool>(), parts in 0u8..4) {
        let name = sanitized(&name);
        let head = if failed { "Disconnected (auth failed, 1 attempts in 2 secs)" } else { "Login" };
        let mpid = if parts & 1 > 0 { ", mpid=77" } else { "" };
        let tls = if parts & 2 > 0 { ", TLS: Connection closed" } else { "" };
        let tail = format!("method=PLAIN, rip={CLIENT}, lip=203.0.113.1{mpid}{tls}, session=<Gx1+/w==>");
        for line in [
            format!("Nov 30 19:33:53 server dovecot: imap-login: {head}: user=<{name}>, {tail}"),
            format!("Nov 30 19:33:53 imap-login: Info: {head}: user=<{name}>, {tail}"),
        ] {
            names_nobody_else(&line, &[&name])?;
            match read(&line) {
                Line::Event(event) => prop_assert_eq!(event.account, name.as_bytes()),
                other => prop_assert!((name.is_empty() || name.contains(">, ")) && !failed, "{:?} {}", other, line),
            }
        }
    }

    #[test]
    fn no_name_accuses_another_in_postfixs_log(name in hostile(), sender in hostile()) {
        let failed = format!(
            "Nov 30 19:33:53 server postfix/smtpd[7]: warning: unknown[{CLIENT}]: SASL PLAIN authentication failed: (reason unavailable), sasl_username={name}"
        );
        names_nobody_else(&failed, &[&name])?;
        let used = format!(
            "Nov 30 19:33:53 server postfix/smtpd[7]: 90E116CE1C6: client=unknown[{CLIENT}], sasl_method=PLAIN, sasl_username=alice, sasl_sender={sender}"
        );
        names_nobody_else(&used, &["alice"])?;
    }

    #[test]
    fn any_bytes_are_a_line_of_some_kind(line in prop::collection::vec(any::<u8>(), 0..200), name in hostile()) {
        reader().read(&line);
        for begin in ["2026-11-30 19:33:53 ", "Nov 30 19:33:53 server dovecot: ", "Nov 30 19:33:53 server postfix/smtpd[7]: "] {
            reader().read(format!("{begin}{name}").as_bytes());
            if let Some(account) = Account::from_server(&name) {
                prop_assert!(!account.name().is_empty());
            }
        }
    }
}
