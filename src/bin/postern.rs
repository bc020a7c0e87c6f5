//! Admin mode; see `postern::admin`.

use std::io::Write;
use std::process::ExitCode;

/// For the keeper: the allocator of musl, to which the static programs are linked, took a quarter of its time. This one
/// keeps one heap for all threads, of which there may be a hundred.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Parses, runs, prints, exits.
fn main() -> ExitCode {
    // SAFETY: nothing else runs yet. A child that is forked later must not find the heap locked by another thread.
    unsafe { dlmalloc::enable_alloc_after_fork() };
    let spoken = postern::admin::command_line::speak(std::env::args_os());
    let written = std::io::stdout().write_all(spoken.out.as_bytes());
    let _ = std::io::stderr().write_all(spoken.err.as_bytes());
    ExitCode::from(if written.is_ok() { spoken.status } else { 1 })
}
