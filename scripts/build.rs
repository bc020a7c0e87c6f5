//! What a build makes of C beside SQLite: for static programs on musl, faster ways to copy memory.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=scripts/build.rs");
    println!("cargo:rerun-if-changed=scripts/memory-on-musl.c");
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("ENV") == "musl" && target("ARCH") == "x86_64" {
        cc::Build::new()
            .file("scripts/memory-on-musl.c")
            // Always, or each function would be a loop that the compiler turns into a call of itself.
            .opt_level(2)
            .flags(["-fno-builtin", "-fno-tree-loop-distribute-patterns", "-fno-stack-protector"])
            .warnings(true)
            .extra_warnings(true)
            .compile("memory");
    }
}
