//! The built programs, each called as a mail server calls it, on files below a folder of their own and as
//! users that exist by number only. No mail server is needed; root is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../publisher/mod.rs"]
mod publisher;
mod sandbox;

mod any_calls;
mod at_once;
mod attack;
mod backups;
mod bad_input;
mod broken;
mod chain;
mod clouds;
mod feeds;
mod gate;
mod gate_input;
mod hostile;
mod identity;
mod keeper;
mod keeper_faults;
mod keeper_prepare;
mod limiter;
mod limits;
mod lists;
mod log_lines;
mod logins;
mod logs;
mod manual;
mod memory_on_musl;
mod monitoring;
mod names;
mod neighbours;
mod notices;
mod own_service;
mod people;
mod pins;
mod policy;
mod postfix;
mod postlogin;
mod release;
mod scopes;
mod seams;
mod secrets;
mod statistics;
mod ticks;
mod units;
mod upkeep;
mod ways_out;
