//! Manual pages and shell completions, made from the same commands as the command line.

use crate::error::{Error, Result};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use std::path::Path;

/// System administration commands (man(7)).
const SECTION: &str = "8";

/// Writes a page for each command into a folder; gives their names.
pub fn write(command: Command, folder: &Path) -> Result<Vec<String>> {
    pages(command)?
        .into_iter()
        .map(|(name, text)| {
            let path = folder.join(&name);
            std::fs::write(&path, text).map_err(Error::file("write", &path))?;
            Ok(name)
        })
        .collect()
}

/// Each page with the name of its file. They hold no date, so that the same program makes the same pages.
pub fn pages(mut command: Command) -> Result<Vec<(String, Vec<u8>)>> {
    command = command.disable_help_subcommand(true);
    command.build();
    let mut all = Vec::new();
    add(&command, &mut all).map_err(Error::system("make the manual pages"))?;
    Ok(all)
}

fn add(command: &Command, all: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_string();
    let mut text = Vec::new();
    Man::new(command.clone())
        .title(name.to_uppercase())
        .section(SECTION)
        .date("")
        .source(format!("Postern {}", env!("CARGO_PKG_VERSION")))
        .manual("Postern")
        .render(&mut text)?;
    all.push((format!("{name}.{SECTION}"), text));
    command.get_subcommands().try_for_each(|inner| add(inner, all))
}

/// The completions for a shell.
pub fn completions(mut command: Command, shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "postern", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
