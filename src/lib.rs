//! Postern guards the mail logins and the outgoing mail of shared hosting servers.

pub mod address;
pub mod clock;
pub mod error;
pub mod paths;
