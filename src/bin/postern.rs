//! Admin mode; see `postern::admin`.

use std::io::Write;
use std::process::ExitCode;

/// For the keeper: the allocator of musl, to which the static programs are linked, took a quarter of its time. SQLite
/// is given memory by this one too. Without huge pages, of which each of a hundred threads would take one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Parses, runs, prints, exits.
fn main() -> ExitCode {
    let spoken = postern::admin::command_line::speak(std::env::args_os());
    let written = std::io::stdout().write_all(spoken.out.as_bytes());
    let _ = std::io::stderr().write_all(spoken.err.as_bytes());
    ExitCode::from(if written.is_ok() { spoken.status } else { 1 })
}
