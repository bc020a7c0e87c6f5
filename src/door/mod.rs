//! Doors: one server's wire form into a request, and an answer back. No policy in them.

pub mod dovecot;
pub mod exim;
