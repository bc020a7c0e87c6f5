use super::*;
use crate::door::testing::Stream;
use crate::verdict::{Reason, Reference};
use proptest::prelude::*;
use std::io::Cursor;

const ID: &str = "90E116CE1C6";

fn answer(verdict: Verdict) -> Answer {
    Answer { verdict, reason: Reason::SendingStopped(0), reference: Some(Reference::from_bits(7)) }
}

type Packets = Vec<(u8, Vec<u8>)>;

/// What was said; what was asked; what was not understood.
fn conversation(text: &[u8], verdict: Verdict) -> (Packets, Vec<Send>, Result<()>) {
    let (mut stream, mut asked) = (Stream::of(text, 7), Vec::new());
    let name_of = |uid| (uid == 2001).then(|| "webuser".to_owned());
    let ended = converse(&mut stream, &name_of, &mut |request: &Request| {
        let Request::Send(send) = request else { panic!("{request:?}") };
        asked.push(send.clone());
        answer(verdict)
    });
    let (mut said, mut packets) = (Cursor::new(stream.to), Vec::new());
    while let Some(packet) = read_packet(&mut said).unwrap() {
        packets.push(packet);
    }
    (packets, asked, ended.unwrap())
}

fn offer(steps: u32) -> Vec<u8> {
    packet(b'O', &[6u32, 0x1ff, steps].map(u32::to_be_bytes).concat())
}

fn macros(command: u8) -> Vec<u8> {
    packet(b'D', &[&[command][..], b"j\0server\0i\0", ID.as_bytes(), b"\0"].concat())
}

fn field(name: &str, value: &str) -> Vec<u8> {
    packet(b'L', format!("{name}\0{value}\0").as_bytes())
}

/// A message of two recipients with these fields, as Postfix 3.7 tells it.
fn message(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut told = vec![macros(b'R'), packet(b'R', b"a@remote.test\0"), packet(b'R', b"b@remote.test\0")];
    told.extend(fields.iter().flat_map(|(name, value)| [macros(b'L'), field(name, value)]));
    told.extend([macros(b'E'), packet(b'E', b"")]);
    told.concat()
}

fn ours(uid: u32) -> (&'static str, String) {
    ("X-Local-Submission", format!("userid {uid} id {ID}"))
}

#[test]
fn a_message_is_its_users_and_the_answer_comes_at_its_end() {
    let (name, value) = ours(2001);
    let text =
        [offer(0x1f_ffff), message(&[(name, &value), ("From", "x@y.test")]), packet(b'Q', b"")].concat();
    let (said, asked, understood) = conversation(&text, Verdict::Allow);
    assert!(understood.is_ok());
    let [send] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(send.account.as_ref().unwrap().name(), "webuser");
    assert_eq!((send.uid, send.recipients, send.local), (Some(2001), 2, true));
    assert_eq!(send.message.as_ref().unwrap().to_string(), ID);
    // Version 6, quarantine alone, and only what is needed is told.
    let negotiated = [6u32, 0x20, 0x8080 | NOT_TOLD].map(u32::to_be_bytes).concat();
    assert_eq!(said, [(b'O', negotiated), (b'c', vec![])]);
}

#[test]
fn an_older_server_is_answered_step_by_step() {
    let (name, value) = ours(2001);
    let steps = [packet(b'C', b"localhost\0L"), packet(b'H', b"localhost\0"), packet(b'M', b"x\0")].concat();
    let text = [offer(0x7f), steps, message(&[(name, &value)])].concat();
    let (said, asked, _) = conversation(&text, Verdict::Allow);
    let commands: Vec<u8> = said.iter().map(|(command, _)| *command).collect();
    assert_eq!((commands.as_slice(), asked.len()), (&b"Occccccc"[..], 1), "C, H, M, two R, one L, E");
}

#[test]
fn over_the_limit_a_message_is_held_or_refused() {
    let (name, value) = ours(2001);
    let text = [offer(0x1f_ffff), message(&[(name, &value)])].concat();
    let (held, ..) = conversation(&text, Verdict::Hold);
    let reason = String::from_utf8(held[1].1.clone()).unwrap();
    assert!(reason.starts_with("postern: Sending from this account is stopped") && reason.ends_with(".\0"));
    assert_eq!((held[1].0, held[2].0, held.len()), (b'q', b'c', 3));
    let (refused, ..) = conversation(&text, Verdict::Refuse);
    let reply = String::from_utf8(refused[1].1.clone()).unwrap();
    assert!(reply.starts_with("550 5.7.1 Sending from this account is stopped"), "{reply}");
    assert_eq!((refused[1].0, refused.len()), (b'y', 2));
}

#[test]
fn a_user_without_a_name_is_known_by_the_number() {
    let (name, value) = ours(77);
    let (_, asked, _) = conversation(&message(&[(name, &value)]), Verdict::Allow);
    assert_eq!(asked[0].account.as_ref().unwrap().name(), "uid-77");
}

#[test]
fn nobody_can_claim_to_be_another_user() {
    let (name, value) = ours(2001);
    let forged = [
        "userid 0 id ",
        "userid 0 id 90E116CE1C7",
        "userid 0 id 90E116CE1C6x",
        "userid 0  id 90E116CE1C6",
        "userid -1 id 90E116CE1C6",
        "userid 4294967296 id 90E116CE1C6",
        "0 90E116CE1C6",
        "",
    ];
    for lie in forged {
        let (said, asked, understood) = conversation(&message(&[(name, lie)]), Verdict::Refuse);
        assert!(understood.is_err() && asked.is_empty(), "{lie}");
        assert_eq!(said.last().unwrap().0, b'c', "{lie}: it goes on");
        let (_, asked, _) = conversation(&message(&[(name, lie), (name, &value)]), Verdict::Allow);
        assert_eq!(asked[0].uid, Some(2001), "{lie}");
    }
    // Even who knew the name comes after the true one.
    let zero = ours(0).1;
    let (_, asked, _) = conversation(&message(&[(name, &value), (name, &zero)]), Verdict::Allow);
    assert_eq!(asked[0].uid, Some(2001));
}

#[test]
fn the_next_message_of_a_connection_is_another_message() {
    let (name, value) = ours(2001);
    let text =
        [message(&[(name, &value)]), message(&[]), packet(b'A', b""), message(&[(name, &value)])].concat();
    let (_, asked, understood) = conversation(&text, Verdict::Allow);
    assert_eq!((asked.len(), understood.is_err()), (2, true), "nobody is proven in the second");
    assert!(asked.iter().all(|send| send.recipients == 2));
}

#[test]
fn a_field_of_any_length_hides_nobody() {
    let (name, value) = ours(2001);
    let long = "x".repeat(KEPT * 3);
    let text = message(&[(name, &value), ("Subject", &long), (&long, "x")]);
    let (_, asked, understood) = conversation(&text, Verdict::Allow);
    assert_eq!((asked.len(), understood.is_ok()), (1, true));
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (said, ..) = conversation(&bytes, Verdict::Allow);
            prop_assert!(said.len() <= bytes.len());
    }

    #[test]
    fn any_commands_are_answered_by_whole_packets(
        commands in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..20)
    ) {
        let text: Vec<u8> = commands.iter().flat_map(|(command, data)| packet(*command, data)).collect();
        let (said, ..) = conversation(&text, Verdict::Allow);
        prop_assert!(said.len() <= commands.len());
    }
}
