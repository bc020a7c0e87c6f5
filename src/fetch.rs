//! Fetching what others publish: HTTPS alone, with the certificates that the system trusts, bounded in time and bytes;
//! and handing notices to a web server, in the same way. For user `postern`, never root.
//!
//! No proxy is asked, whatever the environment says. A redirection leads to another `https` address or nowhere. The
//! system's certificates are looked for below [`Paths`]'s root, so a test's server is trusted where a test has laid its
//! authority's certificate, and no environment can add one.

use crate::error::{Error, Result};
use crate::kept_file::read_up_to;
use crate::paths::Paths;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where distributions keep the certificates of the authorities that they trust, in one file: Debian and its kin, Red
/// Hat and its kin, SUSE, Alpine.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How long a name may take to be resolved, and a server to take the connection.
const TO_CONNECT: Duration = Duration::from_secs(10);

/// Redirections that are followed.
const REDIRECTS: u32 = 5;

/// Longest value of a header that is kept, in bytes.
const LONGEST_HEADER: usize = 512;

/// What is asked.
pub(crate) struct Question<'a> {
    /// The address.
    pub(crate) url: &'a str,
    /// A header with the publisher's key. Such a question follows no redirection, or others would learn the key.
    pub(crate) key: Option<(&'a str, &'a str)>,
    /// By what the publisher knows the list that is there.
    pub(crate) etag: Option<&'a str>,
    /// The same, by time.
    pub(crate) last_modified: Option<&'a str>,
    /// Most bytes of the answer.
    pub(crate) most: u64,
    /// How long all of it may take.
    pub(crate) limit: Duration,
}

/// What comes back.
#[derive(Debug)]
pub(crate) enum Answer {
    /// What is there is the current list.
    Unchanged,
    /// A list.
    New {
        /// It, as it came.
        body: Vec<u8>,
        /// By what its publisher knows it again.
        etag: Option<String>,
        /// The same, by time.
        last_modified: Option<String>,
    },
}

/// Largest key, in bytes.
const MOST_KEY: u64 = 512;

/// Where a key stands in an address.
pub(crate) const KEY: &str = "{key}";

/// A publisher's key, from a file of root's that user `postern` may read. A failure is the end of a sentence.
pub(crate) fn key(path: &Path) -> std::result::Result<String, String> {
    let key = read_up_to(path, MOST_KEY).map_err(|e| {
        format!(
            "its publisher wants a key, which could not be read from {} ({e}): write it there, readable for user postern and for nobody else",
            path.display()
        )
    })?;
    let key = String::from_utf8_lossy(&key).trim().to_owned();
    match !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) {
        true => Ok(key),
        false => Err(format!("{} holds no key: one line of letters, digits and - . _ ~", path.display())),
    }
}

/// The certificates of the authorities that the system trusts.
pub(crate) fn authorities(paths: &Paths) -> Result<RootCerts> {
    for place in AUTHORITIES {
        let path = paths.at(place);
        let Ok(text) = std::fs::read(&path) else { continue };
        let certificate = |item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        };
        let found: Vec<Certificate> = parse_pem(&text).filter_map(certificate).collect();
        if !found.is_empty() {
            return Ok(RootCerts::Specific(Arc::new(found)));
        }
    }
    Err(Error::NotFound(format!(
        "The certificates that this system trusts were not found ({}), so no server can be known: install the package ca-certificates.",
        AUTHORITIES.map(|place| paths.at(place).display().to_string()).join(", ")
    )))
}

/// For who asks this machine itself, without TLS.
pub(crate) fn no_authorities() -> RootCerts {
    RootCerts::Specific(Arc::new(Vec::new()))
}

/// A client that believes these authorities alone, asks no proxy and has so long for all of it.
fn client(authorities: &RootCerts, https_only: bool, redirects: u32, limit: Duration) -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(authorities.clone())
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .https_only(https_only)
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(redirects)
        .max_redirects_will_error(true)
        .timeout_global(Some(limit))
        .timeout_resolve(Some(TO_CONNECT.min(limit)))
        .timeout_connect(Some(TO_CONNECT.min(limit)))
        .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// What is handed to a web server.
pub(crate) struct Posted<'a> {
    /// The address; without TLS only where the caller has seen that it is this machine's own.
    pub(crate) url: &'a str,
    /// Headers beside those that say that it is JSON.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// JSON.
    pub(crate) body: &'a str,
    /// How long all of it may take.
    pub(crate) limit: Duration,
}

/// Longest answer to it, in bytes; nothing in it is of interest.
const MOST_OF_ANSWER: u64 = 64 * 1024;

/// Hands it over. It is taken where the server answers 2xx, and the whole answer is there in time; no redirection is
/// followed. A failure is the end of a sentence, without the address: a key may stand in it.
pub(crate) fn post(authorities: &RootCerts, posted: &Posted) -> std::result::Result<(), String> {
    let agent = client(authorities, posted.url.starts_with("https://"), 0, posted.limit);
    let mut request = agent.post(posted.url).header(header::CONTENT_TYPE, "application/json");
    for (name, value) in posted.headers {
        request = request.header(*name, *value);
    }
    let failed = |error: ureq::Error| match error {
        ureq::Error::BodyExceedsLimit(_) => format!("its answer is longer than {} KB", MOST_OF_ANSWER >> 10),
        other => failure(&other, posted.limit),
    };
    let mut response = request.send(posted.body).map_err(failed)?;
    match response.status() {
        status if status.is_success() => {}
        status if status.is_redirection() => {
            return Err(format!("the server answered {status}: it leads elsewhere, which is not followed"));
        }
        status => return Err(format!("the server answered {status}")),
    }
    response.body_mut().with_config().limit(MOST_OF_ANSWER).read_to_vec().map(drop).map_err(failed)
}

/// Asks. A failure is the end of a sentence that names the feed; it never holds the address, in which a key may stand.
pub(crate) fn ask(authorities: &RootCerts, question: &Question) -> std::result::Result<Answer, String> {
    let redirects = if question.key.is_some() { 0 } else { REDIRECTS };
    let agent = client(authorities, true, redirects, question.limit);
    let mut request = agent.get(question.url).header(header::ACCEPT, "*/*");
    let conditions =
        [(header::IF_NONE_MATCH, question.etag), (header::IF_MODIFIED_SINCE, question.last_modified)];
    for (name, value) in conditions {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    if let Some((name, value)) = question.key {
        request = request.header(name, value);
    }
    let mut response = request.call().map_err(|e| why(&e, question))?;
    match response.status() {
        StatusCode::NOT_MODIFIED if question.etag.is_some() || question.last_modified.is_some() => {
            return Ok(Answer::Unchanged);
        }
        StatusCode::OK => {}
        other if other.is_redirection() && question.key.is_some() => {
            return Err("it leads elsewhere, which would tell others the key".into());
        }
        other => return Err(format!("the server answered {other}")),
    }
    let (etag, last_modified) = (kept(&response, header::ETAG), kept(&response, header::LAST_MODIFIED));
    let body = response.body_mut().with_config().limit(question.most).read_to_vec();
    let body = body.map_err(|e| why(&e, question))?;
    Ok(Answer::New { body, etag, last_modified })
}

/// A header's value, where it can be sent back.
fn kept<B>(response: &Response<B>, name: header::HeaderName) -> Option<String> {
    let value = response.headers().get(name)?.to_str().ok()?;
    (value.len() <= LONGEST_HEADER).then(|| value.to_owned())
}

fn why(error: &ureq::Error, question: &Question) -> String {
    match error {
        ureq::Error::BodyExceedsLimit(_) => {
            format!("its answer is longer than {} MB", question.most >> 20)
        }
        other => failure(other, question.limit),
    }
}

fn failure(error: &ureq::Error, limit: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("it was not there within {} seconds", limit.as_secs()),
        ureq::Error::HostNotFound => "the name of its server is not found".into(),
        ureq::Error::RequireHttpsOnly(_) => "it leads to an address that is not https".into(),
        ureq::Error::BadUri(_) => "its address, or one that it leads to, is none".into(),
        ureq::Error::TooManyRedirects => format!("it leads elsewhere more than {REDIRECTS} times"),
        ureq::Error::Rustls(e) => format!("its server cannot be believed ({e})"),
        // A certificate that is none comes as the failure of the connection that it is.
        ureq::Error::Io(e) => match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(e) => format!("its server cannot be believed ({e})"),
            None => format!("the connection failed ({e})"),
        },
        other => format!("asking failed ({other})"),
    }
}

#[cfg(test)]
#[path = "../tests/publisher/mod.rs"]
pub(crate) mod publisher;

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
