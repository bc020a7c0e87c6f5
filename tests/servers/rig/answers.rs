//! A program in the place of Exim's hook that answers what a test tells it: the snippets must be right for
//! every answer, also for those that the real program never gives.

use super::root::Root;
use super::{Scene, inside};
use std::fs;

const PROGRAM: &str = "#!/bin/sh
# Notes how it was asked, then does what the test wrote.
{ printf '%s' \"$1\"; shift; printf '|%s' \"$@\"; echo; } >>/rig/asked
. /rig/answer
";

/// Puts the program in place; it allows everything until told.
pub(super) fn install(root: &Root) {
    let path = root.path("/usr/libexec/postern/postern-exim");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(root.path("/rig/answer"), "echo allow").unwrap();
    fs::write(root.path("/rig/asked"), "").unwrap();
    inside::put_program(root, "/usr/libexec/postern/postern-exim", PROGRAM);
    inside::run(root, "root", &["chmod", "666", "/rig/asked"], "").succeeded();
}

impl Scene {
    /// What the hook's stand-in does from now on: lines of shell.
    pub(crate) fn answer(&self, script: &str) {
        fs::write(self.path("/rig/answer"), script).unwrap();
    }

    /// How the stand-in was asked since the last time: arguments, joined by `|`.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.path("/rig/asked");
        let text = fs::read_to_string(&asked).unwrap();
        fs::write(asked, "").unwrap();
        text.lines().map(str::to_owned).collect()
    }
}
