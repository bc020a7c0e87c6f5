//! Postern guards the mail logins and the outgoing mail of shared hosting servers.
//!
//! Everything that it does for a mail server is one question and one answer ([`flow::answer`]):
//!
//! ```text
//! mail server ─> door ─> Request ─> gather facts ─> decide ─> record ─> Answer ─> door ─> mail server
//! ```
//!
//! The modules stand in the order of that flow. The rules are in [`decide`]: pure, in the order in which they
//! are asked. Trouble of our own lets mail go on: a fact that is missing silences the rules that need it, and
//! [`wayout`] is what a hook says when it cannot go on.

// How mail servers speak, and how a hook begins and ends.
pub mod door;
pub mod hook;
pub mod wayout;

// What is asked.
pub mod account;
pub mod address;
pub mod asn;
pub mod country;
pub mod limit;
pub mod request;

// The page that runs it, and what it looks up.
pub mod feeds;
pub mod flow;
pub mod gather;
pub mod guess;
pub mod networks;
pub mod policy;

// The rules, what is written down, what is said.
pub mod decide;
pub mod recipients;
pub mod record;
pub mod sources;
pub mod store;
pub mod tally;
pub mod verdict;

// What administrators do, and the minute's work.
pub mod admin;
pub mod authority;
pub mod folders;
pub mod keeper;
pub mod logs;
pub mod neighbours;
pub mod notify;
pub mod on_state;
pub mod panel;
pub mod server_country;
pub mod settings;
pub mod shared_folder;
pub mod tick;

// What all of it stands on.
pub mod acl;
pub mod call;
pub mod child;
pub mod clock;
pub mod error;
mod fetch;
pub mod idn;
pub mod kept;
mod kept_file;
pub mod local_user;
pub mod log;
pub mod paths;
pub mod progress;
pub mod trouble;
