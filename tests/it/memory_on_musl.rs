//! The functions that static programs have instead of musl's, `scripts/memory-on-musl.c`.

use std::path::Path;
use std::process::Command;

#[test]
fn every_copy_and_comparison_of_memory_is_right_and_reaches_no_byte_beyond() {
    let (project, folder) = (Path::new(env!("CARGO_MANIFEST_DIR")), tempfile::tempdir().unwrap());
    let program = folder.path().join("memory");
    let made = Command::new("gcc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-fno-tree-loop-distribute-patterns"])
        // Ends the program at the first byte that is not its own.
        .args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DUNDER_TEST", "-o"])
        .arg(&program)
        .arg(project.join("scripts/memory-on-musl.c"))
        .arg(project.join("tests/it/memory-on-musl.c"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let ran = Command::new(&program).output().unwrap();

    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    let checks: u64 = said.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    assert!(checks > 1_000_000, "{said}");
}
