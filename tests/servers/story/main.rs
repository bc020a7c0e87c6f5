//! What `scripts/try` runs: the newcomer's story on real servers, and a sandbox to go on with.
//!
//! `play` tells the story and ends; `keep` tells it and leaves the sandbox running until `stop`; `login`,
//! `send` and `postern` talk to a sandbox that is kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../clients/mod.rs"]
mod clients;
mod play;
#[path = "../rig/mod.rs"]
mod rig;
mod sandbox;
mod tell;

use rig::{Doors, Pair, Scene};
use std::process::ExitCode;

const PAIR: Pair = Pair::Bookworm;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["play"] => play::the_story(&Scene::on(PAIR).doors(Doors::BOTH).start()),
        ["keep"] => {
            let scene = Scene::on(PAIR).doors(Doors::BOTH).start();
            play::the_story(&scene);
            sandbox::keep(&scene);
        }
        ["stop"] => sandbox::stop(),
        ["login", mailbox, from] => return sandbox::login(mailbox, from),
        ["send", mailbox, from, count] => return sandbox::send(mailbox, from, count),
        ["postern", words @ ..] => return sandbox::postern(words),
        _ => {
            eprintln!(
                "usage: try play|keep|stop|login MAILBOX ADDRESS|send MAILBOX ADDRESS COUNT|postern WORD..."
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
