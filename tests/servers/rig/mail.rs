//! The mail that arrived, read from its folders.

use super::{MailServer, Mailbox, Scene};
use std::fs;
use std::path::Path;

impl Scene {
    /// The messages in this mailbox, oldest first.
    pub(crate) fn mail_of(&self, who: &Mailbox) -> Vec<String> {
        let (name, domain) = who.name.split_once('@').unwrap();
        maildir(&self.path(&format!("/rig/mail/hosted/{domain}/{name}/Maildir")))
    }

    /// The messages that this local user (`webuser`) got, bounces above all.
    pub(crate) fn mail_of_local(&self, user: &str) -> Vec<String> {
        maildir(&self.path(&format!("/rig/mail/local/{user}")))
    }

    /// What waits in the mail server's queue, in the mail server's own words; empty when nothing does.
    pub(crate) fn queue(&self) -> String {
        match self.pair().mail_server() {
            MailServer::Exim => self.exim(&["-bp"]),
            MailServer::Postfix => self.run_as("root", &["/usr/sbin/postqueue", "-j"], ""),
        }
        .succeeded()
    }

    /// The messages that left for the world outside.
    pub(crate) fn mail_outside(&self) -> Vec<String> {
        maildir(&self.path("/rig/mail/outside"))
    }
}

fn maildir(folder: &Path) -> Vec<String> {
    let mut files: Vec<_> = ["new", "cur"]
        .iter()
        .filter_map(|part| fs::read_dir(folder.join(part)).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    // A maildir name begins with the time of delivery.
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    let read = |file: &Path| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
    files.iter().map(|file| read(file)).collect()
}
