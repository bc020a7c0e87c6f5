use super::*;
use crate::door::policy::{Options, converse};
use crate::error::Error as OurError;
use crate::request::Request;
use crate::trouble::Trouble;
use crate::verdict::{Answer, Reason, Verdict};
use proptest::prelude::*;
use std::cell::RefCell;
use std::net::TcpListener;
use std::thread;

/// A server that reads one request and then does this with the connection; what it read.
fn server(does: impl FnOnce(TcpStream) + Send + 'static) -> (Chained, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/their/path", listener.local_addr().unwrap());
    let serves = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"}") && read_some(&mut stream, &mut read).unwrap() > 0 {}
        does(stream);
        read
    });
    (Chained::at(&url).unwrap(), serves)
}

fn says(bytes: &[u8]) -> (Chained, thread::JoinHandle<Vec<u8>>) {
    let bytes = bytes.to_vec();
    server(move |mut stream| drop(stream.write_all(&bytes)))
}

const HEAD: &str = "POST /KEY?command=allow HTTP/1.1\r\nHost: 127.0.0.1:301\r\nDate: Wed, 25 Nov 2026 07:32:39 GMT\r\n\
    User-Agent: dovecot/auth-policy-client\r\nContent-Length: 86\r\nConnection: Keep-Alive\r\n\
    Content-Type: application/json\r\nX-API-Key:  secret\r\n\r\n";
const BODY: &str =
    r#"{"a":"1","postern":{"login":"alice","protocol":"imap","remote":"::1"},"z":"2","tls":false}"#;

fn request() -> String {
    HEAD.replace("86", &BODY.len().to_string()) + BODY
}

/// Dovecot asks this with a chained server; what it is told, and what trouble there was.
fn ask_with(chained: Chained, verdict: Verdict, request: &str) -> (String, Vec<Trouble>) {
    let troubles = RefCell::new(Vec::new());
    let tell = |trouble, _: &OurError| troubles.borrow_mut().push(trouble);
    let key = Ok(super::super::Key(b"KEY".to_vec()));
    let options = Options { key, chained: Some(chained), tell: &tell };
    let mut stream = Both(std::io::Cursor::new(request.as_bytes().to_vec()), Vec::new());
    let ask = &mut |_: &Request| Answer { verdict, reason: Reason::NothingAgainst, reference: None };
    converse(&mut stream, &options, ask).unwrap();
    let said = String::from_utf8(stream.1).unwrap();
    assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
    (said.rsplit_once("\r\n\r\n").unwrap().1.to_owned(), troubles.into_inner())
}

struct Both(std::io::Cursor<Vec<u8>>, Vec<u8>);

impl Read for Both {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Both {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const YES: &str = r#"{"status":0,"msg":""}"#;

#[test]
fn it_gets_what_dovecot_would_have_sent_it() {
    let (chained, serves) = says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let authority = chained.authority.clone();
    assert_eq!(ask_with(chained, Verdict::Allow, &request()), (YES.into(), vec![]));
    let body = r#"{"a":"1","z":"2","tls":false}"#;
    let expected = HEAD
        .replace("/KEY", "/their/path")
        .replace("127.0.0.1:301", &authority)
        .replace("86", &body.len().to_string());
    assert_eq!(String::from_utf8(serves.join().unwrap()).unwrap(), expected + body);
}

#[test]
fn our_key_goes_no_further() {
    let chained = Chained::at("http://127.0.0.1:1/x?y=1&").unwrap();
    let with_key = request().replace("X-API-Key:  secret", "x-postern-KEY: KEY").replace("/KEY", "/");
    let mut input = http::Input::default();
    let mut stream = Both(std::io::Cursor::new(with_key.into_bytes()), Vec::new());
    let request = input.request(&mut stream).unwrap().unwrap().unwrap();
    let handed_on = String::from_utf8(chained.rewritten(&request)).unwrap();
    assert!(
        handed_on.starts_with("POST /x?y=1&command=allow HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"),
        "{handed_on}"
    );
    assert!(!handed_on.to_lowercase().contains("key"), "{handed_on}");
}

#[test]
fn its_answer_is_understood_in_every_framing_and_the_stricter_one_holds() {
    let no = r#"{"status":-1,"msg":"not you"}"#;
    let chunked = format!(
        "Transfer-Encoding: Chunked\r\n\r\n5;x=y\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        &no[..5],
        no.len() - 5,
        &no[5..]
    );
    for rest in [
        format!("Content-Length: {}\r\n\r\n{no} and more", no.len()),
        format!("Server: x\r\n\r\n{no}"),
        chunked,
        format!("\r\nHTTP/1.1 200 OK\r\n\r\n{no}"),
    ] {
        let status = if rest.starts_with("\r\nHTTP") { "103 Early Hints" } else { "200 OK" };
        let (chained, serves) = says(format!("HTTP/1.1 {status}\r\n{rest}").as_bytes());
        assert_eq!(ask_with(chained, Verdict::Allow, &request()), (no.into(), vec![]), "{rest}");
        serves.join().unwrap();
    }
    for (body, told) in [
        (r#"{"status":3,"msg":"slowly","r_attrs":{}}"#, r#"{"status":3,"msg":"slowly"}"#),
        (r#"{"status":1000,"msg":""}"#, r#"{"status":180,"msg":""}"#),
        (r#"{"status":0,"msg":"accepted"}"#, r#"{"status":0,"msg":"accepted"}"#),
        ("{}", YES),
    ] {
        let (chained, serves) = says(format!("HTTP/1.1 200 OK\r\n\r\n{body}").as_bytes());
        assert_eq!(ask_with(chained, Verdict::Allow, &request()), (told.into(), vec![]), "{body}");
        serves.join().unwrap();
    }
}

#[test]
fn what_we_refuse_it_is_not_asked_about() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let chained = Chained::at(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let (said, troubles) = ask_with(chained.clone(), Verdict::Refuse, &request());
    assert!(said.starts_with(r#"{"status":-1"#) && troubles.is_empty(), "{said}");
    let report = r#""success":false,"policy_reject":true,"tls":false"#;
    let body = BODY.replace(r#""tls":false"#, report);
    let report = HEAD.replace("86", &body.len().to_string()).replace("allow", "report") + &body;
    assert_eq!(ask_with(chained, Verdict::Allow, &report), (YES.into(), vec![]));
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn reports_are_handed_on_after_dovecot_was_answered() {
    for success in ["true", "false"] {
        let body = BODY
            .replace(r#""tls":false"#, &format!(r#""success":{success},"policy_reject":false,"tls":false"#));
        let report = HEAD.replace("86", &body.len().to_string()).replace("allow", "report") + &body;
        let (chained, serves) = says(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n");
        assert_eq!(ask_with(chained, Verdict::Allow, &report), (YES.into(), vec![]));
        let read = String::from_utf8(serves.join().unwrap()).unwrap();
        assert!(read.starts_with("POST /their/path?command=report HTTP/1.1\r\n"), "{read}");
        assert!(read.ends_with(
            &body.replace(r#""postern":{"login":"alice","protocol":"imap","remote":"::1"},"#, "")
        ));
    }
}

#[test]
fn whatever_goes_wrong_there_our_answer_holds_and_trouble_is_told() {
    let long = format!("HTTP/1.1 200 OK\r\n\r\n{{\"msg\":\"{}", "x".repeat(100_000));
    for bytes in [
        "",
        "nonsense\r\n\r\n",
        "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 403 No\r\n\r\n{}",
        "HTTP/1.1 302 There\r\nLocation: http://127.0.0.1/\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999999999\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}x",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}00\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nnot json",
        "HTTP/1.1 200 OK\r\n\r\n{\"status\":\"-1\"}",
        "HTTP/1.1 200 OK\r\n\r\n{\"status\":99999999999}",
        "HTTP/1.1 200 OK\r\n\r\n{\"status\":-1,\"msg\":null}",
        "HTTP/1.1 200 OK\r\nX: ",
        &long,
        &format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000)),
    ] {
        let (chained, serves) = says(bytes.as_bytes());
        let shown: String = bytes.chars().take(100).collect();
        assert_eq!(
            ask_with(chained, Verdict::Allow, &request()),
            (YES.into(), vec![Trouble::ChainedPolicy]),
            "{shown}"
        );
        serves.join().unwrap();
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = Chained::at(&format!("http://{gone}/")).unwrap();
    assert_eq!(ask_with(gone, Verdict::Allow, &request()).1, [Trouble::ChainedPolicy]);
}

/// Each server goes on until it is given up: this test ends only where that happens.
#[test]
fn one_that_hangs_or_drips_is_given_up_when_its_time_is_over() {
    let hangs = server(|mut stream| while read_some(&mut stream, &mut Vec::new()).is_ok_and(|n| n > 0) {});
    let drips = server(|mut stream| {
        let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".iter().chain(std::iter::repeat(&b'x'));
        while endless.next().is_some_and(|byte| stream.write_all(&[*byte]).is_ok()) {
            thread::sleep(LIMIT / 10);
        }
    });
    for (chained, serves) in [hangs, drips] {
        let told = (YES.into(), vec![Trouble::ChainedPolicy]);
        assert_eq!(ask_with(chained, Verdict::Allow, &request()), told);
        serves.join().unwrap();
    }
}

#[test]
fn only_an_address_of_this_machine_is_taken() {
    let chained = |url: &str| Chained::at(url);
    assert_eq!(chained("http://127.0.0.1:579/dovecot-auth-policy").unwrap().path, "/dovecot-auth-policy");
    assert_eq!(chained("http://127.0.0.1").unwrap().address.port(), 80);
    assert_eq!(chained("http://[::1]:579?a=b").unwrap().path, "/?a=b");
    for bad in [
        "",
        "https://127.0.0.1/",
        "127.0.0.1:579",
        "http://",
        "http://localhost:579/",
        "http://192.0.2.1:579/",
        "http://user:pass@127.0.0.1:579/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:579/a b",
        "http://127.0.0.1:579/a\r\nX: y",
        "http://127.0.0.1:579/#x",
        "http://127.0.0.1:579/ü",
    ] {
        assert!(chained(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_bytes_of_its_are_an_answer_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300), good in any::<bool>()) {
        let bytes = if good { [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &bytes[..]].concat() } else { bytes };
        let _ = answer(&mut &bytes[..], true).and_then(|body| read_reply(&body));
    }

    #[test]
    fn what_was_cut_into_chunks_is_put_together(parts in proptest::collection::vec("[a-z]{1,40}", 0..6)) {
        let cut: String = parts.iter().map(|part| format!("{:x}\r\n{part}\r\n", part.len())).collect();
        prop_assert_eq!(chunks((cut.clone() + "0\r\n\r\n").as_bytes()).unwrap(), Some(parts.concat().into_bytes()));
        prop_assert_eq!(chunks(cut.as_bytes()).unwrap(), None);
    }
}
