//! The hook that Postfix starts; see `postern::door::postfix`.
//!
//! It defines the C `main` itself: Rust's own start-up asks the system for things that a program of this
//! life span does not need, at a cost that is half of its whole run.
#![no_main]

use std::ffi::{c_char, c_int};

/// Called by the C library.
///
/// # Safety
/// The arguments must be those that the C library hands to `main`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: promised by the C library.
    unsafe { postern::door::postfix::main(argc, argv) }
}
