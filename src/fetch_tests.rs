//! Against a real HTTPS server with an authority of its own.

use super::publisher::{Certificate as Of, Publisher, Reply};
use super::*;

/// The publisher's authority as the one that the system trusts.
fn trusting(publisher: &Publisher) -> (tempfile::TempDir, RootCerts) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("etc/ssl/certs/ca-certificates.crt");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, publisher.authority()).unwrap();
    let trusted = authorities(&Paths::below(dir.path())).unwrap();
    (dir, trusted)
}

fn question(url: &str) -> Question<'_> {
    Question {
        url,
        key: None,
        etag: None,
        last_modified: None,
        most: 1 << 20,
        limit: Duration::from_secs(20),
    }
}

fn asks(publisher: &Publisher, path: &str) -> std::result::Result<Answer, String> {
    let (_dir, trusted) = trusting(publisher);
    ask(&trusted, &question(&publisher.url(path)))
}

#[track_caller]
fn fails(publisher: &Publisher, path: &str, with: &str) {
    let why = asks(publisher, path).unwrap_err();
    assert!(why.contains(with), "{why}");
    assert!(!why.contains("https://127"), "the address may hold a key: {why}");
}

#[test]
fn a_list_comes_whole_with_what_it_is_known_by() {
    let publisher = Publisher::new();
    publisher.answers(
        "/list",
        Reply::list("192.0.2.7\n")
            .with("ETag", "\"a\"")
            .with("Last-Modified", "Wed, 25 Nov 2026 10:00:00 GMT"),
    );
    let Answer::New { body, etag, last_modified } = asks(&publisher, "/list").unwrap() else { panic!() };
    assert_eq!((body.as_slice(), etag.as_deref()), (&b"192.0.2.7\n"[..], Some("\"a\"")));
    assert_eq!(last_modified.as_deref(), Some("Wed, 25 Nov 2026 10:00:00 GMT"));
    let (_dir, trusted) = trusting(&publisher);
    let url = publisher.url("/list");
    for (etag, last_modified) in [(Some("\"a\""), None), (None, last_modified.as_deref())] {
        let again = ask(&trusted, &Question { etag, last_modified, ..question(&url) });
        assert!(matches!(again, Ok(Answer::Unchanged)), "{again:?}");
    }
    let other = ask(&trusted, &Question { etag: Some("\"b\""), ..question(&url) });
    assert!(matches!(other, Ok(Answer::New { .. })), "{other:?}");
    let asked = publisher.asked();
    assert!(
        asked[0].starts_with("get /list http/1.1") && asked[0].contains("user-agent: postern/"),
        "{asked:?}"
    );
}

#[test]
fn an_answer_that_is_no_list_is_none() {
    let publisher = Publisher::new();
    fails(&publisher, "/gone", "the server answered 404");
    for status in [500, 403, 204, 206, 304] {
        publisher.answers("/list", Reply::status(status));
        fails(&publisher, "/list", &format!("the server answered {status}"));
    }
    publisher.answers("/list", Reply::Raw(b"no HTTP\r\n\r\n".to_vec()));
    fails(&publisher, "/list", "failed");
    publisher.answers("/list", Reply::Raw(Vec::new()));
    fails(&publisher, "/list", "failed");
}

#[test]
fn a_server_that_cannot_be_known_is_not_heard() {
    for (certificate, why) in
        [(Of::Ended, "expired"), (Of::OfAnother, "not valid for name"), (Of::Own, "certificate")]
    {
        let publisher = Publisher::with(certificate);
        publisher.answers("/list", Reply::list("192.0.2.7\n"));
        fails(&publisher, "/list", "cannot be believed");
        assert!(asks(&publisher, "/list").unwrap_err().contains(why), "{:?}", asks(&publisher, "/list"));
        assert!(publisher.asked().is_empty());
    }
    let (publisher, other) = (Publisher::new(), Publisher::new());
    publisher.answers("/list", Reply::list("192.0.2.7\n"));
    let (_dir, trusted) = trusting(&other);
    let why = ask(&trusted, &question(&publisher.url("/list"))).unwrap_err();
    assert!(why.contains("cannot be believed"), "{why}");
}

#[test]
fn a_redirection_is_followed_to_https_and_nowhere_else() {
    let publisher = Publisher::new();
    publisher.answers("/list", Reply::list("192.0.2.7\n"));
    publisher.answers("/here", Reply::leads_to("/list"));
    publisher.answers("/there", Reply::leads_to(&publisher.url("/list")));
    for path in ["/here", "/there"] {
        assert!(matches!(asks(&publisher, path), Ok(Answer::New { .. })), "{path}");
    }
    publisher.answers("/plain", Reply::leads_to("http://127.0.0.1:9/list"));
    fails(&publisher, "/plain", "not https");
    publisher.answers("/file", Reply::leads_to("file:///etc/passwd"));
    assert!(asks(&publisher, "/file").is_err());
    publisher.answers("/round", Reply::leads_to("/round"));
    fails(&publisher, "/round", "leads elsewhere more than 5 times");
    let (_dir, trusted) = trusting(&publisher);
    let url = publisher.url("/here");
    publisher.asked();
    let why = ask(&trusted, &Question { key: Some(("X-Key", "secret")), ..question(&url) }).unwrap_err();
    assert!(why.contains("would tell others the key"), "{why}");
    let asked = publisher.asked();
    assert!(asked.len() == 1 && asked[0].contains("x-key: secret"), "{asked:?}");
}

#[test]
fn a_body_is_bounded_in_bytes_and_in_time_and_never_taken_in_part() {
    let publisher = Publisher::new();
    let (_dir, trusted) = trusting(&publisher);
    let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n";
    let url = publisher.url("/list");
    let line = b"192.0.2.7\n".repeat(1000);
    let body = [&head[..], b"\r\n"].concat();
    publisher.answers("/list", Reply::Endless(body.clone(), line, Duration::ZERO));
    fails(&publisher, "/list", "longer than 1 MB");
    publisher.answers("/list", Reply::list(vec![b'#'; (1 << 20) + 1]));
    fails(&publisher, "/list", "longer than 1 MB");
    publisher.answers("/list", Reply::list(vec![b'#'; 1 << 20]));
    assert!(asks(&publisher, "/list").is_ok());

    publisher.answers("/list", Reply::Endless(body.clone(), b"1".to_vec(), Duration::from_millis(50)));
    let slow = ask(&trusted, &Question { limit: Duration::from_millis(400), ..question(&url) }).unwrap_err();
    assert!(slow.contains("not there within"), "{slow}");
    publisher
        .answers("/list", Reply::Endless(b"HTTP/1.1 200".to_vec(), Vec::new(), Duration::from_millis(50)));
    let slow = ask(&trusted, &Question { limit: Duration::from_millis(400), ..question(&url) }).unwrap_err();
    assert!(slow.contains("not there within"), "{slow}");

    let cut = [&head[..], b"Content-Length: 100\r\n\r\n192.0.2.7\n"].concat();
    publisher.answers("/list", Reply::Raw(cut));
    fails(&publisher, "/list", "failed");
    let cut = [&head[..], b"Transfer-Encoding: chunked\r\n\r\na\r\n192.0.2.7\n\r\n"].concat();
    publisher.answers("/list", Reply::Raw(cut));
    fails(&publisher, "/list", "failed");
}

#[test]
fn without_the_systems_certificates_nobody_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let said = authorities(&Paths::below(dir.path())).unwrap_err().to_string();
    assert!(said.contains("ca-certificates") && said.contains("install"), "{said}");
    let file = dir.path().join("etc/ssl/cert.pem");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\ngarbage\n").unwrap();
    assert!(authorities(&Paths::below(dir.path())).is_err());
}

#[test]
fn no_proxy_of_the_environment_is_asked() {
    // The environment is the whole process's, so a process of its own says it.
    const ASK: &str = "POSTERN_TEST_FETCH_BY_PROXY";
    let publisher = Publisher::new();
    publisher.answers("/list", Reply::list("192.0.2.7\n"));
    if std::env::var_os(ASK).is_some() {
        println!("fetched {}", asks(&publisher, "/list").is_ok());
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let name = "fetch::tests::no_proxy_of_the_environment_is_asked";
    child.args(["--exact", "--nocapture", name, "--test-threads=1"]).env(ASK, "1");
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"] {
        child.env(name, "http://127.0.0.1:9");
    }
    let said = child.output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("fetched true"), "{said}");
}
