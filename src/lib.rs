//! Postern guards the mail logins and the outgoing mail of shared hosting servers.

pub mod address;
pub mod admin;
pub mod authority;
pub mod clock;
pub mod country;
pub mod error;
pub mod networks;
pub mod paths;
