//! What one call of a program knows of its surroundings: where the files lie, what time it is, who it is.

use crate::clock::Seconds;
use crate::paths::Paths;

/// The surroundings of one call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Where Postern's files lie.
    pub paths: Paths,
    /// The time, read once.
    pub now: Seconds,
    /// The program's name, for log lines.
    pub program: &'static str,
}

/// Forty random bits for a reference. Without the system's random source (never seen on Linux once booted)
/// time and process number serve: a reference names, it does not protect.
pub fn random_bits() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is ours and as long as we say.
    let got =
        unsafe { nix::libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), nix::libc::GRND_NONBLOCK) };
    if got == 8 {
        return u64::from_ne_bytes(bytes);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    (now as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(std::process::id())
}
