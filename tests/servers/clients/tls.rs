//! TLS on a client's connection. The client insists on the servers' own certificate and on their name.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

/// The name in the servers' certificate.
const NAME: &str = "server.example.test";

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Not at all.
    None,
    /// Begun by a command: STARTTLS, STLS.
    Starttls,
    /// From the first byte, on a port of its own.
    Wrapper,
}

impl Tls {
    pub(crate) const ALL: [Tls; 3] = [Tls::None, Tls::Starttls, Tls::Wrapper];
}

/// The connection, secured; hands are shaken at the first byte that is written or read.
pub(super) fn secured(stream: TcpStream, certificate: &Path) -> StreamOwned<ClientConnection, TcpStream> {
    let mut trusted = RootCertStore::empty();
    let found = CertificateDer::from_pem_file(certificate)
        .unwrap_or_else(|error| panic!("no certificate in {}: {error}", certificate.display()));
    trusted.add(found).unwrap();
    let config = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
    StreamOwned::new(connection, stream)
}
