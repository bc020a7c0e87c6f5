//! A program that does nothing: the floor under every process that is started.
fn main() {}
