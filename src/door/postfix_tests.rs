use super::*;
use crate::door::testing::Stream;
use crate::verdict::{Reason, Reference};
use proptest::prelude::*;

fn answer(verdict: Verdict, reason: Reason) -> Answer {
    Answer { verdict, reason, reference: None }
}

fn allowed() -> Answer {
    answer(Verdict::Allow, Reason::NothingAgainst)
}

fn refused() -> Answer {
    let reference = Some(Reference::from_bits(7));
    Answer { reference, ..answer(Verdict::Refuse, Reason::UnknownCountryRefused) }
}

/// What was said, asked and not understood.
fn conversation(text: &[u8], answers: impl Fn(usize) -> Answer) -> (String, Vec<Request>, Result<()>) {
    let (mut stream, mut asked) = (Stream::of(text, 1), Vec::new());
    let ended = converse(&mut stream, &mut |request: &Request| {
        asked.push(request.clone());
        answers(asked.len())
    });
    (String::from_utf8(stream.to).unwrap(), asked, ended.unwrap())
}

/// A question as Postfix 3.7 asks it, with these attributes in place of its own.
fn question(state: &str, others: &[(&str, &str)]) -> String {
    let mut lines = vec![
        ("request", "smtpd_access_policy"),
        ("protocol_state", state),
        ("protocol_name", "ESMTP"),
        ("client_address", "192.0.2.7"),
        ("client_name", "unknown"),
        ("client_port", "47555"),
        ("sender", "alice@example.test"),
        ("recipient_count", "2"),
        ("queue_id", "90E116CE1C6"),
        ("instance", "6b0c.6b063797.bea0f.0"),
        ("size", "47"),
        ("sasl_method", "PLAIN"),
        ("sasl_username", "alice@example.test"),
        ("policy_context", "postern"),
    ];
    lines.extend(others);
    let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    format!("{}\n", lines.concat())
}

fn asked(text: &str) -> Vec<Request> {
    let (said, asked, understood) = conversation(text.as_bytes(), |_| allowed());
    assert!(understood.is_ok() && said.lines().all(|line| ["action=DUNNO", ""].contains(&line)), "{said}");
    asked
}

#[test]
fn each_stage_asks_its_own_question() {
    let nobody = ("sasl_username", "");
    let before = [nobody, ("policy_context", "postern-auth")];
    let [Request::Login(login)] = &asked(&question("CONNECT", &before))[..] else { panic!() };
    assert_eq!((login.account.as_ref(), login.door), (None, Door::PostfixAuth));
    for state in ["MAIL", "RCPT"] {
        let [Request::Use(login)] = &asked(&question(state, &[]))[..] else { panic!() };
        assert_eq!((login.address, login.door), ("192.0.2.7".parse().ok(), Door::PostfixMail));
    }
    for state in ["DATA", "BDAT", "END-OF-MESSAGE"] {
        let [Request::Send(send)] = &asked(&question(state, &[]))[..] else { panic!() };
        assert_eq!((send.recipients, send.local, send.door), (2, false, Door::PostfixData));
        assert_eq!(send.message.as_ref().unwrap().to_string(), "90E116CE1C6");
    }
}

#[test]
fn nothing_is_asked_for_mail_that_comes_in_nor_where_nothing_can_be_decided() {
    for state in ["CONNECT", "EHLO", "HELO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE", "VRFY", "ETRN", ""] {
        assert_eq!(asked(&question(state, &[("sasl_username", "")])), [], "{state}");
    }
    for state in ["CONNECT", "EHLO", "VRFY", "ETRN", "NEW"] {
        assert_eq!(asked(&question(state, &[])), [], "{state}");
    }
}

#[test]
fn many_recipients_and_messages_of_a_session_are_one_use() {
    let rcpt = |port, instance, user| {
        question("RCPT", &[("client_port", port), ("instance", instance), ("sasl_username", user)])
    };
    let text = [
        rcpt("4001", "1.2.3.0", "alice@example.test"),
        rcpt("4001", "1.2.3.0", "alice@example.test"),
        rcpt("4001", "1.2.9.1", "alice@example.test"),
        // Another session, though by the same port.
        rcpt("4001", "1.4.5.0", "alice@example.test"),
        rcpt("4002", "1.4.5.1", "alice@example.test"),
        rcpt("4002", "1.4.6.2", "bob@example.test"),
        rcpt("4002", "1.4.6.f", "bob@example.test"),
        // Names of another form.
        rcpt("4002", "x", "bob@example.test"),
        rcpt("4002", "x", "bob@example.test"),
        rcpt("4002", "y.", "bob@example.test"),
        rcpt("4002", "", "bob@example.test"),
        rcpt("4002", "", "bob@example.test"),
    ];
    let users: Vec<_> = asked(&text.concat())
        .into_iter()
        .map(|request| match request {
            Request::Use(login) => login.account.unwrap().name()[..1].to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(users.concat(), "aaabbbbb");
}

#[test]
fn a_refused_use_is_asked_about_anew_with_the_next_message() {
    let rcpt = |instance| question("RCPT", &[("instance", instance)]);
    let text = [rcpt("1.2.3.0"), rcpt("1.2.3.0"), rcpt("1.2.3.1")].concat();
    let (said, asked, _) = conversation(text.as_bytes(), |n| if n == 1 { refused() } else { allowed() });
    assert_eq!(asked.len(), 2);
    let actions: Vec<&str> = said.split("\n\n").collect();
    assert!(actions[0].starts_with("action=550 5.7.1 ") && actions[0] == actions[1], "{said}");
    assert_eq!(actions[2..], ["action=DUNNO", ""]);
}

#[test]
fn a_message_that_is_asked_about_at_data_and_at_its_end_counts_once() {
    let text = [question("DATA", &[]), question("END-OF-MESSAGE", &[])].concat();
    assert_eq!(asked(&text).len(), 1);
    let nameless = [question("DATA", &[("instance", "")]), question("DATA", &[("instance", "")])].concat();
    assert_eq!(asked(&nameless).len(), 2, "nothing shows that they are the same");
}

#[test]
fn the_last_of_two_lines_counts_and_unknown_lines_do_not() {
    let others = [("sasl_username", "bob@example.test"), ("frob", "x=y"), ("stress", "")];
    let text = question("RCPT", &others).replace("size=47\n", "size\n=\n==\n");
    let [Request::Use(login)] = &asked(&text)[..] else { panic!() };
    assert_eq!(login.account.as_ref().unwrap().name(), "bob@example.test");
}

#[test]
fn what_is_not_understood_goes_on_and_so_does_the_conversation() {
    let bad = [
        question("RCPT", &[("request", "tlsproxy")]),
        question("RCPT", &[("client_address", "elsewhere")]),
        "\n".into(),
        "hello\n\n".into(),
    ];
    for text in bad {
        let both = format!("{text}{}", question("MAIL", &[]));
        let (said, asked, understood) = conversation(both.as_bytes(), |_| refused());
        assert!(understood.is_err(), "{text}");
        assert!(said.starts_with("action=DUNNO\n\naction=550 "), "{text}: {said}");
        assert_eq!(asked.len(), 1);
    }
    for client in ["", "unknown"] {
        let [Request::Use(login)] = &asked(&question("MAIL", &[("client_address", client)]))[..] else {
            panic!()
        };
        assert_eq!(login.address, None);
    }
}

#[test]
fn a_question_that_is_too_long_is_answered_and_ends_the_conversation() {
    let line = format!("sender={}\n", "x".repeat(LONGEST_LINE));
    let lines = format!("sender={}\n", "x".repeat(1000)).repeat(LONGEST / 1000 + 1);
    for long in [line, "x".repeat(LONGEST_LINE * 2), lines] {
        let text = format!("{long}{}", question("MAIL", &[]));
        let (said, asked, understood) = conversation(text.as_bytes(), |_| refused());
        assert_eq!((said.as_bytes(), asked.len(), understood.is_err()), (GO_ON, 0, true));
    }
}

#[test]
fn a_connection_that_ends_within_a_question_is_owed_no_answer() {
    let text = question("MAIL", &[]);
    for cut in [0, 1, 20, text.len() - 1] {
        let (said, asked, understood) = conversation(&text.as_bytes()[..cut], |_| refused());
        assert_eq!((said.as_str(), asked.len(), understood.is_ok()), ("", 0, true), "{cut}");
    }
}

#[test]
fn postfix_is_told_in_words_that_it_knows() {
    let login = Login { account: None, address: None, service: Service::Smtp, door: Door::PostfixAuth };
    let stopped = answer(Verdict::Refuse, Reason::SendingStopped(1_700_000_000));
    let said = |request: &Request, answer: &Answer| String::from_utf8(spoken(request, answer)).unwrap();
    let (before, used) = (Request::Login(login.clone()), Request::Use(login));
    assert_eq!(
        said(&before, &refused()),
        "action=554 5.7.1 Logins from this country are not allowed here. Reference 7000-0000.\n\n"
    );
    assert!(said(&used, &refused()).starts_with("action=550 5.7.1 "));
    assert!(
        said(&used, &stopped).starts_with("action=451 4.7.1 Sending from this account is stopped until ")
    );
    let undecided = answer(Verdict::Undecided, Reason::AccountUnknown("x"));
    assert_eq!(
        (said(&before, &undecided), said(&used, &allowed())),
        ("action=DUNNO\n\n".into(), "action=DUNNO\n\n".into())
    );
    assert!(said(&used, &answer(Verdict::Hold, Reason::RuleOff)).starts_with("action=HOLD "));
}

/// A stream that does not wait: between two pieces nothing has come yet.
struct Halting {
    pieces: std::collections::VecDeque<Vec<u8>>,
    halted: bool,
}

impl Read for Halting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.halted = !self.halted;
        if self.halted {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let piece = self.pieces.pop_front().unwrap_or_default();
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

proptest! {
    #[test]
    fn in_whatever_pieces_it_comes_the_same_is_answered(
        values in proptest::collection::vec(("[a-z_]{0,20}", "\\PC{0,40}"), 0..20),
        length in 1usize..200,
    ) {
        let others: Vec<_> = values.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let text = question("MAIL", &others) + &question("VRFY", &[]) + &question("END-OF-MESSAGE", &others);
        let (said, asked, _) = conversation(text.as_bytes(), |_| refused());
        let pieces = text.as_bytes().chunks(length).map(<[u8]>::to_vec).collect();
        let mut stream = Halting { pieces, halted: false };
        let (mut talk, mut said_in_pieces, mut asked_in_pieces) = (Talk::default(), Vec::new(), Vec::new());
        loop {
            match talk.hear(&mut stream) {
                Ok(Heard::Asks(asked)) => {
                    asked_in_pieces.push(asked.request.clone());
                    said_in_pieces.extend(talk.action(*asked, &refused()));
                }
                Ok(Heard::Knows(action)) => said_in_pieces.extend(action),
                Ok(Heard::End) => break,
                Err(e) => prop_assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
        prop_assert!(talk.is_between_questions());
        prop_assert_eq!(String::from_utf8(said_in_pieces).unwrap(), said);
        prop_assert_eq!(asked_in_pieces, asked);
    }

    #[test]
    fn any_bytes_are_answered_by_whole_actions(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let (said, ..) = conversation(&bytes, |_| allowed());
        prop_assert!(said.split("\n\n").all(|action| ["action=DUNNO", ""].contains(&action)), "{}", said);
    }

    #[test]
    fn any_values_are_answered_in_order(
        values in proptest::collection::vec(("[a-z_]{0,20}", "\\PC{0,40}"), 0..20),
        refuse: bool,
    ) {
        let others: Vec<_> = values.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let text = question("MAIL", &others) + &question("END-OF-MESSAGE", &[]);
        let (said, ..) = conversation(text.as_bytes(), |_| if refuse { refused() } else { allowed() });
        prop_assert_eq!(said.matches("action=").count(), 2);
        prop_assert_eq!(said.matches("\n\n").count(), 2);
        prop_assert_eq!(said.matches('\n').count(), 4);
    }
}
