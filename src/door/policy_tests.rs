use super::*;
use crate::door::testing::Stream;
use crate::request::Service;
use crate::verdict::Reason;
use proptest::prelude::*;
use std::cell::RefCell;

const KEY: &str = "0123456789abcdef";
const BODY: &str = r#"{"device_id":"","login":"alice@example.test","protocol":"imap","pwhash":"05d2","remote":"192.0.2.1","session_id":"x","tls":false}"#;
const CHAINED_BODY: &str = r#"{"attrs":{"x":"1"},"postern":{"login":"alice@example.test","protocol":"imap","remote":"192.0.2.1"},"remote_host":"::1","username":"Alice","success":false,"policy_reject":false,"tls":false}"#;

/// What was said, asked, and told of trouble.
#[derive(Debug)]
struct Played {
    said: String,
    asked: Vec<Request>,
    troubles: Vec<Trouble>,
    /// Bytes that nobody read.
    left: usize,
}

impl Played {
    fn statuses(&self) -> Vec<&str> {
        self.said.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
    }
}

fn play_with(verdict: Verdict, bytes: &[u8], at_once: usize) -> Played {
    let troubles = RefCell::new(Vec::new());
    let tell = |trouble, error: &Error| {
        assert!(!error.to_string().contains(KEY), "{error}");
        troubles.borrow_mut().push(trouble);
    };
    let options = Options { key: Ok(Key(KEY.into())), chained: None, tell: &tell };
    let mut stream = Stream::of(bytes, at_once);
    let mut asked = Vec::new();
    converse(&mut stream, &options, &mut |request: &Request| {
        asked.push(request.clone());
        Answer { verdict, reason: Reason::NothingAgainst, reference: None }
    })
    .unwrap();
    let left = stream.from.get_ref().len() - usize::try_from(stream.from.position()).unwrap();
    Played { said: String::from_utf8(stream.to).unwrap(), asked, troubles: troubles.into_inner(), left }
}

fn play(bytes: &[u8]) -> Played {
    play_with(Verdict::Allow, bytes, 7)
}

fn post(target: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: 127.0.0.1:301\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

fn with_key(target: &str, body: &str) -> String {
    post(target, &format!("x-postern-key:  {KEY}\r\n"), body)
}

fn allow() -> String {
    with_key("/?command=allow", BODY)
}

const YES: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{\"status\":0,\"msg\":\"\"}";

#[test]
fn a_login_is_asked_about_and_answered_in_dovecots_words() {
    let played = play(allow().as_bytes());
    let [Request::Login(login)] = &played.asked[..] else { panic!("{played:?}") };
    assert_eq!((login.service, login.door), (Service::Imap, crate::request::Door::DovecotPolicy));
    assert_eq!(login.account.as_ref().unwrap().name(), "alice@example.test");
    assert_eq!(login.address, "192.0.2.1".parse().ok());
    assert_eq!((played.said.as_str(), &played.troubles[..]), (YES, &[][..]));
    let refused = play_with(Verdict::Refuse, allow().as_bytes(), 4096).said;
    assert!(refused.contains("\r\n\r\n{\"status\":-1,\"msg\":\""), "{refused}");
    assert_eq!(play_with(Verdict::Undecided, allow().as_bytes(), 4096).said, YES);
}

#[test]
fn how_a_login_ended_is_heard_and_a_refusal_is_no_failure() {
    for (end, ended) in [
        (r#""success":true,"policy_reject":false"#, Ended::Succeeded),
        (r#""success":false,"policy_reject":false"#, Ended::Failed),
        (r#""success":false,"policy_reject":true"#, Ended::Refused),
        (r#""fail_type":"credentials","success":false,"policy_reject":false"#, Ended::Failed),
        (r#""fail_type":"account","success":false,"policy_reject":false"#, Ended::Failed),
        (r#""fail_type":"policy","success":false,"policy_reject":false"#, Ended::Refused),
        (r#""fail_type":"internal","success":false,"policy_reject":false"#, Ended::Refused),
        (r#""fail_type":"expired","success":false,"policy_reject":false"#, Ended::Refused),
        (r#""fail_type":"disabled","success":false,"policy_reject":false"#, Ended::Refused),
        (r#""fail_type":"","success":true,"policy_reject":false"#, Ended::Succeeded),
    ] {
        let body = BODY.replace(r#""tls":false"#, end);
        let played = play(with_key("/?command=report", &body).as_bytes());
        let [Request::Outcome(outcome)] = &played.asked[..] else { panic!("{end}: {played:?}") };
        assert_eq!(outcome.ended, ended, "{end}");
        assert_eq!((played.said.as_str(), played.troubles.len()), (YES, 0), "{end}");
    }
}

#[test]
fn a_connection_carries_many_requests_also_such_as_did_not_wait_for_their_answers() {
    let two = [allow(), with_key("/?command=report", CHAINED_BODY), allow()].concat();
    for at_once in [1, 100, 1000] {
        let played = play_with(Verdict::Allow, two.as_bytes(), at_once);
        assert_eq!((played.asked.len(), played.said.as_str()), (3, YES.repeat(3).as_str()));
    }
    for closing in [
        allow().replacen("\r\n", "\r\nConnection: x , Close\r\n", 1),
        allow().replacen("HTTP/1.1", "HTTP/1.0", 1),
    ] {
        let played = play((closing + &allow()).as_bytes());
        assert_eq!(played.asked.len(), 1);
        assert!(played.said.contains("Connection: close"));
    }
}

#[test]
fn who_does_not_show_the_key_is_told_nothing_and_asked_nothing() {
    for request in [
        post("/?command=allow", "", BODY),
        post("/?command=allow", "X-Postern-Key: 0123456789abcdeg\r\n", BODY),
        post("/?command=allow", "X-Postern-Key: 0123456789abcde\r\n", BODY),
        post("/?command=allow", "X-Postern-Key:\r\n", BODY),
        post("/?command=allow", &format!("X-Postern-Key: {}\r\nX-Postern-Key: {KEY}\r\n", "x"), BODY),
        post(&format!("/{KEY}/?command=allow"), "", BODY),
        post(&format!("/?command=allow&key={KEY}"), "", BODY),
        post("/?command=nothing", "", "no json"),
        "GET / HTTP/1.1\r\n\r\n".into(),
    ] {
        let played = play((request.clone() + &allow()).as_bytes());
        assert_eq!((played.statuses(), played.asked.len()), (vec!["403"], 0), "{request}");
        assert_eq!(played.troubles, [Trouble::PolicyKey], "{request}");
    }
    let by_path = post(&format!("/some/{KEY}?command=allow"), "X-API-Key: other\r\n", BODY);
    assert_eq!(play(by_path.as_bytes()).said, YES);
}

#[test]
fn who_proves_that_somebody_answers_shows_the_key_and_asks_nothing() {
    let played = play_with(Verdict::Refuse, with_key("/?command=prove", "").as_bytes(), 100);
    assert_eq!((played.said.as_str(), played.asked.len(), played.troubles.len()), (YES, 0, 0));
    assert_eq!(play(post("/?command=prove", "", "").as_bytes()).statuses(), ["403"]);
}

#[test]
fn without_a_key_of_our_own_nobody_is_admitted() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::below(dir.path());
    std::fs::create_dir_all(paths.etc()).unwrap();
    for text in [None, Some(""), Some("\n")] {
        if let Some(text) = text {
            std::fs::write(paths.policy_key(), text).unwrap();
        }
        let troubles = RefCell::new(Vec::new());
        let tell = |trouble, _: &Error| troubles.borrow_mut().push(trouble);
        let options = Options::read(&paths, &tell);
        for request in
            [post("/?command=allow", "X-Postern-Key:\r\n", BODY), post("/?command=allow", "", BODY)]
        {
            let mut stream = Stream::of(request, 100);
            converse(&mut stream, &options, &mut |_: &Request| panic!("asked")).unwrap();
            assert!(stream.to.starts_with(b"HTTP/1.1 403"));
        }
        assert_eq!(*troubles.borrow(), [Trouble::PolicyKey; 2]);
    }
}

#[test]
fn what_is_no_request_of_dovecots_gets_an_error_and_ends_the_connection() {
    let key = format!("X-Postern-Key: {KEY}\r\n");
    let head = |start: &str, fields: &str| format!("{start}\r\n{key}{fields}\r\n");
    let ask = "POST /?command=allow HTTP/1.1";
    for (request, status) in [
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03".to_owned(), "400"),
        ("allow alice\r\n\r\n".into(), "400"),
        (head("POST /?command=allow HTTP/2.0", ""), "505"),
        (head(ask, ""), "411"),
        (head(ask, "Transfer-Encoding: chunked\r\n"), "411"),
        (head(ask, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), "411"),
        (head(ask, "Content-Length: 5\r\nContent-Length: 6\r\n"), "400"),
        (head(ask, "Content-Length: -5\r\n"), "400"),
        (head(ask, "Content-Length: +5\r\n"), "400"),
        (head(ask, "Content-Length: 5, 5\r\n"), "400"),
        (head(ask, "Content-Length:\r\n"), "400"),
        (head(ask, "Content-Length: 10485760\r\n"), "413"),
        (head(ask, "Content-Length: 99999999999999999999999999\r\n"), "413"),
        (head(ask, "Content-Length: 16385\r\n"), "413"),
        (head(ask, "Expect: the-impossible\r\nContent-Length: 5\r\n"), "417"),
        (head(ask, &format!("X: {}\r\n", "x".repeat(http::LONGEST_HEAD))), "431"),
        (format!("{ask}\r\n{}", "X: y\r\n".repeat(3000)), "431"),
        (format!("POST /{}", "x".repeat(100_000)), "431"),
        ("\r\n".repeat(50_000), "431"),
        (head(ask, &"X: y\r\n".repeat(http::MOST_FIELDS)), "431"),
        (head("GET /?command=allow HTTP/1.1", ""), "405"),
        (head("PUT /?command=allow HTTP/1.1", "Content-Length: 0\r\n"), "405"),
        (head("POST / HTTP/1.1", "Content-Length: 0\r\n"), "404"),
        (head("POST /?command= HTTP/1.1", "Content-Length: 0\r\n"), "404"),
        (head("POST /?command=allowed HTTP/1.1", "Content-Length: 0\r\n"), "404"),
    ] {
        let shown: String = request.chars().take(300).collect();
        let played = play_with(Verdict::Allow, (request + &allow()).as_bytes(), 4096);
        assert_eq!((played.statuses(), played.asked.len()), (vec![status], 0), "{shown}");
        assert_eq!(played.troubles, [Trouble::Call], "{shown}");
    }
}

#[test]
fn no_more_is_read_than_may_come() {
    let endless = [b"POST / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1_000_000]].concat();
    let big = format!("POST / HTTP/1.1\r\nContent-Length: 10485760\r\n\r\n{}", "x".repeat(1_000_000));
    for bytes in [endless, big.into_bytes()] {
        let played = play_with(Verdict::Allow, &bytes, 4096);
        assert!(bytes.len() - played.left < 20_000, "{} bytes were left", played.left);
    }
}

#[test]
fn a_client_that_waits_before_its_body_is_told_to_go_on() {
    let request = allow().replacen("\r\n", "\r\nExpect: 100-continue\r\n", 1);
    let played = play(request.as_bytes());
    assert_eq!(played.said, format!("HTTP/1.1 100 Continue\r\n\r\n{YES}"));
    assert_eq!(play_with(Verdict::Allow, request.as_bytes(), 4096).said, YES, "it was there already");
}

#[test]
fn a_connection_that_ends_within_a_request_is_nobodys_login() {
    let request = allow();
    for cut in [0, 1, 20, request.len() - BODY.len() - 1, request.len() - BODY.len(), request.len() - 1] {
        let played = play(&request.as_bytes()[..cut]);
        assert_eq!((played.said.as_str(), played.asked.len(), played.troubles.len()), ("", 0, 0), "{cut}");
    }
}

#[test]
fn an_odd_body_lets_the_login_go_on_and_is_told() {
    for body in [
        "",
        "null",
        "[]",
        "{",
        "{}",
        "not json",
        r#"{"login":"a","protocol":"imap"}"#,
        r#"{"login":"a","remote":"192.0.2.1"}"#,
        r#"{"protocol":"imap","remote":"192.0.2.1"}"#,
        r#"{"login":1,"protocol":"imap","remote":"192.0.2.1"}"#,
        r#"{"login":null,"protocol":"imap","remote":"192.0.2.1"}"#,
        r#"{"login":"a","protocol":"imap","remote":"192.0.2"}"#,
        r#"{"login":"a","protocol":"imap","remote":"192.0.2.1"} x"#,
        r#"{"postern":"x","login":"a","protocol":"imap","remote":"192.0.2.1"}"#,
        r#"{"postern":{},"login":"a","protocol":"imap","remote":"192.0.2.1"}"#,
        &format!("{}{}", "[".repeat(8000), "]".repeat(8000)),
        &format!(r#"{{"login":{}1{}}}"#, "[".repeat(8000), "]".repeat(8000)),
    ] {
        let shown: String = body.chars().take(100).collect();
        let played = play_with(Verdict::Refuse, with_key("/?command=allow", body).as_bytes(), 4096);
        assert_eq!((played.said.as_str(), played.asked.len()), (YES, 0), "{shown}");
        assert_eq!(played.troubles, [Trouble::Call], "{shown}");
        let played = play(with_key("/?command=report", body).as_bytes());
        assert_eq!((played.said.as_str(), played.asked.len()), (YES, 0), "{shown}");
    }
    let no_end = play(with_key("/?command=report", BODY).as_bytes());
    assert_eq!((no_end.asked.len(), &no_end.troubles[..]), (0, &[Trouble::Call][..]), "how did it end?");
}

#[test]
fn dovecots_own_tools_have_no_address_and_a_name_may_hold_anything() {
    let body = r#"{"login":"al\"ice\\ü\u0000","protocol":"doveadm","remote":""}"#;
    let played = play(with_key("/?command=allow", body).as_bytes());
    let [Request::Login(login)] = &played.asked[..] else { panic!("{played:?}") };
    assert_eq!((login.address, login.service), (None, Service::Doveadm));
    assert_eq!(login.account.as_ref().unwrap().name(), "al\"ice\\ü?");
}

#[test]
fn our_own_attributes_come_before_those_of_a_chained_server() {
    let played = play(with_key("/?command=report", CHAINED_BODY).as_bytes());
    let [Request::Outcome(outcome)] = &played.asked[..] else { panic!("{played:?}") };
    assert_eq!(outcome.account.as_ref().unwrap().name(), "alice@example.test");
    assert_eq!(outcome.address, "192.0.2.1".parse().ok());
    let with_type = CHAINED_BODY.replace(r#""remote_host""#, r#""fail_type":"internal","remote_host""#);
    let played = play(with_key("/?command=report", &with_type).as_bytes());
    let [Request::Outcome(outcome)] = &played.asked[..] else { panic!("{played:?}") };
    assert_eq!(outcome.ended, Ended::Refused, "2.4 says why among all attributes");
}

#[test]
fn taken_out_our_attributes_leave_what_dovecot_would_have_sent() {
    let ours = r#""postern":{"login":"a}\",{","protocol":"imap","remote":"::1"}"#;
    for (with, without) in [
        (format!(r#"{{"a":"1",{ours},"z":"2","tls":false}}"#), r#"{"a":"1","z":"2","tls":false}"#),
        (format!(r#"{{{ours},"tls":false}}"#), r#"{"tls":false}"#),
        (format!(r#"{{"a":"1",{ours}}}"#), r#"{"a":"1"}"#),
        (format!(r#"{{{ours}}}"#), "{}"),
        (r#"{"a":"\"postern\":{}","tls":false}"#.into(), r#"{"a":"\"postern\":{}","tls":false}"#),
        (r#"{"a":{"postern":{"x":"y"}},"tls":false}"#.into(), r#"{"a":{"postern":{"x":"y"}},"tls":false}"#),
        ("not json".into(), "not json"),
        (String::new(), ""),
    ] {
        assert_eq!(body::without_ours(with.as_bytes()), without.as_bytes(), "{with}");
    }
    let broken = b"{\"postern\":{},\"a\":\"\xff\"}";
    assert_eq!(body::without_ours(broken), &broken[..]);
}

#[test]
fn the_stricter_answer_holds_and_a_long_wait_is_cut() {
    let reply = |status, msg: &str| Reply { status, msg: msg.into() };
    for (ours, theirs, holds) in [
        (reply(0, ""), reply(0, "theirs"), reply(0, "theirs")),
        (reply(0, ""), reply(3, "wait"), reply(3, "wait")),
        (reply(0, ""), reply(-1, "no"), reply(-1, "no")),
        (reply(3, ""), reply(2, "wait"), reply(3, "")),
        (reply(3, ""), reply(5, "wait"), reply(5, "wait")),
        (reply(-1, "ours"), reply(600, "wait"), reply(-1, "ours")),
        (reply(600, ""), reply(-7, "no"), reply(-7, "no")),
    ] {
        assert_eq!(ours.clone().or_stricter(theirs.clone()), holds, "{ours:?} {theirs:?}");
    }
    assert_eq!(reply(3, "a \"b\"").json(), r#"{"status":3,"msg":"a \"b\""}"#);
    assert_eq!(reply(i32::MAX, "").json(), r#"{"status":180,"msg":""}"#);
}

#[test]
fn the_way_out_is_a_yes_in_the_same_words() {
    let go_on = std::str::from_utf8(GO_ON).unwrap();
    assert_eq!(go_on.as_bytes(), http::response(&Reply::default().json(), false));
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_answer_or_in_silence(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let played = play(&bytes);
        prop_assert!(played.asked.is_empty());
        prop_assert!(played.said.is_empty() || played.said.starts_with("HTTP/1.1 4") || played.said.starts_with("HTTP/1.1 505"));
    }

    #[test]
    fn any_body_behind_a_good_head_is_answered_once(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let head = format!("POST /{KEY}?command=allow HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        let played = play(&[head.as_bytes(), &body].concat());
        prop_assert_eq!(played.said.as_str(), YES);
    }

    #[test]
    fn however_a_conversation_is_cut_into_pieces_it_is_the_same(at_once in 1usize..400) {
        let bytes = [allow(), with_key("/?command=report", CHAINED_BODY)].concat();
        prop_assert_eq!(play_with(Verdict::Allow, bytes.as_bytes(), at_once).asked.len(), 2);
    }

    #[test]
    fn any_names_arrive_as_they_were(login in "\\PC{0,60}", service in "\\PC{0,10}") {
        let body = serde_json::json!({ "login": login, "protocol": service, "remote": "2001:db8::1" });
        let played = play(with_key("/?command=allow", &body.to_string()).as_bytes());
        let [Request::Login(asked)] = &played.asked[..] else { panic!("{played:?}") };
        prop_assert_eq!(&asked.account, &crate::account::Account::from_server(&login));
        prop_assert_eq!(asked.service, Service::named(&service));
    }

    #[test]
    fn our_attributes_are_taken_out_wherever_they_stand(
        before in proptest::collection::vec(("[a-o][a-z]{0,8}", "\\PC{0,20}"), 0..4),
        after in proptest::collection::vec(("[q-z][a-z]{0,8}", "\\PC{0,20}"), 0..4),
        login in "\\PC{0,30}",
    ) {
        let member = |(name, value): &(String, String)| format!("\"{name}\":{}", serde_json::json!(value));
        let others = |all: &[(String, String)]| all.iter().map(member).collect::<Vec<_>>();
        let ours = format!("\"postern\":{}", serde_json::json!({ "login": login }));
        let with = [others(&before), vec![ours], others(&after)].concat().join(",");
        let without = [others(&before), others(&after)].concat().join(",");
        let (with, without) = (format!("{{{with}}}"), format!("{{{without}}}"));
        let stripped = body::without_ours(with.as_bytes());
        prop_assert_eq!(stripped.as_ref(), without.as_bytes());
    }
}
