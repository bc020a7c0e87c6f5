//! How clients wrap passwords.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};

/// Base64, as SASL wants it.
pub(super) fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// The one word of AUTH PLAIN.
pub(super) fn plain(name: &str, password: &str) -> String {
    base64(&format!("\0{name}\0{password}"))
}

/// The answer to a CRAM-MD5 challenge, both in base64.
pub(super) fn cram_md5(challenge: &str, name: &str, password: &str) -> String {
    let challenge = STANDARD.decode(challenge.trim()).unwrap_or_default();
    let mut mac = Hmac::<md5::Md5>::new_from_slice(password.as_bytes()).unwrap();
    mac.update(&challenge);
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    base64(&format!("{name} {digest}"))
}
