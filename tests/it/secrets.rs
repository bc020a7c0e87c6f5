//! A password that passes by is in no file, list, log or argument afterwards.

use crate::sandbox::*;
use std::path::{Path, PathBuf};

const SECRET: &[u8] = b"correct-horse-battery";

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() && !path.is_symlink() { files(&path) } else { vec![path] })
        .filter(|path| path.is_file())
        .collect()
}

fn holds_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET)
}

#[test]
fn no_password_is_kept_anywhere() {
    let sandbox = Sandbox::new().countries("DE").setting("rate_limit_messages", "3");
    let next = sandbox.path("next");
    sandbox.install(&next, "#!/bin/sh\nexit 7\n");
    let input = [b"alice@example.test\0", SECRET, b"\0\0"].concat();
    for address in [GERMAN, AMERICAN, ""] {
        for fault in ["", "--fault=panic", "--fault=15", "--fault=11"] {
            let call = |call: Call<'static>| Call {
                input: input.clone(),
                seams: Some(fault).filter(|f| !f.is_empty()).into_iter().collect(),
                ..call
            };
            call(Call::gate("alice@example.test", address)).run(&sandbox);
            call(Call::gate("alice@example.test", address).lookup()).run(&sandbox);
            let chained =
                Call { words: vec!["chain", "/bin/true"], ..Call::gate("alice@example.test", address) };
            let said = call(chained).run(&sandbox);
            assert!(!holds_secret(&said.bytes) && !holds_secret(said.ran.out.as_bytes()));
        }
    }
    (0..5).for_each(|_| drop(sandbox.send("alice@example.test")));
    // There is no sendmail for the notice; the rest is done.
    sandbox.postern(&["tick"]);
    let kept = files(sandbox.root());
    assert!(kept.iter().any(|f| f.ends_with("state.db")), "{kept:?}");
    for file in kept {
        assert!(!holds_secret(&std::fs::read(&file).unwrap()), "{}", file.display());
    }
    let spoken = [
        sandbox.log().join("\n"),
        sandbox.api(&["list_activity", "limit=1000"]).to_string(),
        sandbox.api(&["status"]).to_string(),
    ];
    assert!(spoken.iter().all(|text| !holds_secret(text.as_bytes())));
}

#[test]
fn a_chain_keeps_the_password_out_of_arguments_and_environment() {
    let sandbox = Sandbox::new().countries("DE");
    let (next, out) = (sandbox.path("next"), sandbox.path("out"));
    sandbox.install(&next, "#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ >$OUT/all\nexit 7\n");
    std::fs::create_dir(&out).unwrap();
    sandbox.give(&out, DOVECOT);
    let next = next.to_str().unwrap();
    let input = [b"alice@example.test\0", SECRET, b"\0\0"].concat();
    let call = Call { input, ..Call::chain("alice@example.test", GERMAN, next) };
    assert_eq!(call.run(&sandbox).ran.status, Some(7));
    let all = std::fs::read(out.join("all")).unwrap();
    assert!(!all.is_empty() && !holds_secret(&all));
}
