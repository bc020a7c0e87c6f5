//! Tests on real mail servers: Exim 4.96 or Postfix 3.7 with Dovecot 2.3, and Exim 4.98 or Postfix 3.10 with
//! Dovecot 2.4.
//!
//! `scripts/test` builds what they need (Debian folders below `target/servers`, static programs in
//! `target/static`) and runs them. They want root, stay on loopback, and fail where something is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod attacks;
mod blocks;
mod clients;
mod combinations;
mod crowd;
mod doing;
mod every_rule;
mod exims_own;
mod faults_disk;
mod faults_files;
mod faults_hooks;
mod faults_postfix;
mod faults_state;
mod keeper;
mod limits;
mod local;
mod logins;
mod logs;
mod marks;
mod neighbours;
mod notices;
mod outcomes;
mod passwords;
mod policy;
mod postfix;
mod postfix_local;
#[path = "../publisher/mod.rs"]
mod publisher;
mod queue;
mod rig;
mod rig_itself;
mod sending;
mod snippets;
mod told;
