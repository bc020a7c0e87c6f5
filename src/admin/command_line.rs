//! `postern`'s command line: a face of the table of functions.

use super::arguments::{Arguments, Kind, steers};
use super::envelope::envelope;
use super::identity::{self, Identity, Theirs};
use super::render::{self, Look};
use super::table::{self, Argument, FUNCTIONS, Function, GROUPS, Scope};
use super::{Admin, Outcome, manual, openapi};
use crate::call::Call;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::hook::has_borrowed_authority;
use crate::keeper;
use crate::paths::Paths;
use crate::progress;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

/// What `main` prints, and with which status it exits.
#[derive(Debug, Default)]
pub struct Spoken {
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub err: String,
    /// The exit status: 0 done, 1 not done.
    pub status: u8,
}

/// The command as clap knows it.
pub fn command() -> Command {
    let folder = Arg::new("folder").required(true).value_name("DIR").value_parser(value_parser!(PathBuf));
    shown()
        .subcommand(Command::new("man").about("Write the manual pages into a folder").hide(true).arg(folder))
}

/// What manual pages and completions tell of.
fn shown() -> Command {
    let mut root = Command::new("postern")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Guards the mail logins and the outgoing mail of this server")
        .long_about("Guards the mail logins and the outgoing mail of this server.\n\nBegin with `postern status`; ask `postern explain MAILBOX ADDRESS` why somebody cannot log in.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(Arg::new("root").long("root").value_name("DIR").hide(true))
        .arg(Arg::new("now").long("now").value_name("TIME").hide(true).allow_hyphen_values(true))
        .arg(as_argument())
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .global(true)
                .help("Answer as `postern api` does, in JSON"),
        );
    for (group, about) in GROUPS.iter().filter(|(name, _)| !name.contains(' ')) {
        root = root.subcommand(group_command(group, about));
    }
    for function in FUNCTIONS.iter().filter(|f| f.words.len() == 1) {
        root = root.subcommand(function_command(function));
    }
    let shell = Arg::new("shell").required(true).value_parser(value_parser!(Shell));
    let completions = Command::new("completions")
        .about("Print completions for a shell")
        .long_about("Print completions for a shell, as for: postern completions bash > /usr/share/bash-completion/completions/postern")
        .arg(shell.value_name("SHELL"));
    root.subcommand(api_command()).subcommand(keeper_command()).subcommand(completions)
}

/// Not global: clap would let a later one replace an earlier one, and words after the helper's own are a stranger's.
fn as_argument() -> Arg {
    Arg::new("as").long("as").value_name("WHO").help(
        "Ask for root:NAME, reseller:NAME or owner:NAME; for panels' root helpers, accepted from root alone",
    )
}

fn last_word(words: &'static str) -> &'static str {
    words.rsplit(' ').next().unwrap_or(words)
}

fn group_command(group: &'static str, about: &'static str) -> Command {
    let words: Vec<&str> = group.split(' ').collect();
    let mut command =
        Command::new(last_word(group)).about(about).subcommand_required(true).arg_required_else_help(true);
    for (inner, about) in GROUPS {
        if inner.strip_prefix(group).is_some_and(|rest| rest.starts_with(' ')) {
            command = command.subcommand(group_command(inner, about));
        }
    }
    for function in FUNCTIONS {
        if function.words.len() == words.len() + 1 && function.words.starts_with(&words) {
            command = command.subcommand(function_command(function));
        }
    }
    command
}

fn function_command(function: &'static Function) -> Command {
    let name = function.words[function.words.len() - 1];
    let mut command = Command::new(name).about(function.about);
    for argument in function.arguments {
        command = command.arg(function_argument(argument));
    }
    if function.changes {
        let generation = Arg::new("generation").long("generation").value_name("NUMBER").hide_short_help(true);
        let help = "refuse if somebody changed anything since this generation";
        command = command.arg(generation.help(help).long_help(help));
    }
    command
}

fn function_argument(argument: &'static Argument) -> Arg {
    let arg = Arg::new(argument.name).help(argument.meaning).required(argument.required);
    if argument.is_switch() {
        return arg.long(argument.name.replace('_', "-")).action(ArgAction::SetTrue);
    }
    let arg = arg.value_name(argument.name.to_uppercase());
    if argument.positional && argument.kind == Kind::Files {
        // Joined with commas, as repeated options are.
        let one = |text: &str| match text.contains(',') {
            true => Err("the name of a file with a comma cannot be given here"),
            false => Ok(text.to_string()),
        };
        return arg.num_args(1..).action(ArgAction::Append).value_parser(one);
    }
    if argument.positional {
        return arg;
    }
    // Repeated options are joined with commas.
    arg.long(argument.name.replace('_', "-")).action(ArgAction::Append).allow_hyphen_values(true)
}

fn api_command() -> Command {
    Command::new("api")
        .about("Call a function of the API and answer in JSON, for panels and scripts")
        .long_about("Call a function of the API and answer in JSON.\n\nArguments are key=value words, or one JSON object on standard input where the only argument is -.\n`postern api list_functions` lists what there is.")
        .arg(as_argument())
        .arg(
            Arg::new("function")
                .value_name("FUNCTION")
                .value_parser(value_parser!(OsString))
                .required_unless_present_any(["list", "openapi"]),
        )
        .arg(
            Arg::new("arguments")
                .action(ArgAction::Append)
                .value_name("KEY=VALUE")
                .value_parser(value_parser!(OsString))
                .allow_hyphen_values(true),
        )
        .arg(flag("list", "list the functions with their arguments"))
        .arg(flag("openapi", "describe the functions as an OpenAPI 3.1 document"))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn keeper_command() -> Command {
    let prepare = Arg::new("prepare").long("prepare").action(ArgAction::SetTrue);
    Command::new("keeper")
        .about("Answer the mail servers as a standing process (for the service unit)")
        .long_about("Answer the mail servers as a standing process, in the foreground.\n\nIt makes decisions several times cheaper; where it is gone, mail servers fall back to the hooks. Started as root it becomes Postern's own user for good.")
        .arg(prepare.help("only make what root must make before it, and end"))
        .arg(Arg::new("policy_at").long("policy-at").value_name("ADDRESS:PORT").hide(true))
        .arg(Arg::new("fault").long("fault").value_name("ACCOUNT").hide(true))
}

/// JSON in which nothing steers a terminal, and from which programs read the same names.
fn escaped(json: &Value) -> String {
    json.to_string().chars().fold(String::new(), |mut out, c| {
        match steers(c) {
            true => out.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            false => out.push(c),
        }
        out
    })
}

/// Names come from outside: nothing in them may steer the administrator's terminal.
fn clean(text: &str) -> String {
    text.replace(|c: char| steers(c) && c != '\n', "\u{FFFD}")
}

/// Understands these words, the program's name first, and runs what they say. Help goes to standard output at once.
pub fn speak(words: impl Iterator<Item = OsString>) -> Spoken {
    let words: Vec<OsString> = words.collect();
    match command().try_get_matches_from(&words) {
        Ok(matches) => run(&matches),
        Err(help) if !help.use_stderr() => help.exit(),
        Err(slip) if wants_json(&words) => Spoken { status: 2, ..in_json(&Err(not_understood(&slip))) },
        Err(slip) => slip.exit(),
    }
}

/// Whether an answer to words that are not understood is for a program.
fn wants_json(words: &[OsString]) -> bool {
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        match word.to_str() {
            Some("--json") => return true,
            Some("--as" | "--root" | "--now") => drop(rest.next()),
            Some(option) if option.starts_with('-') => {}
            command => return command == Some("api") || rest.any(|word| word == "--json"),
        }
    }
    false
}

/// The first of clap's sentences says what is wrong; the others are for people.
fn not_understood(slip: &clap::Error) -> Error {
    let text = slip.to_string();
    let what = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    Error::told("bad_value", format!("The command line is not understood: {what} (`postern --help`)."))
}

/// Runs what the command line says.
fn run(matches: &ArgMatches) -> Spoken {
    let admin = match surroundings(matches).and_then(|admin| identified(admin, matches)) {
        Ok(admin) => admin,
        Err(error) if matches.subcommand_name() == Some("api") => return in_json(&Err(error)),
        Err(error) => return answer(Err(error), matches),
    };
    match matches.subcommand() {
        Some(("api", api)) if api.get_flag("openapi") => {
            return in_words(Ok(Outcome::whole(format!("{:#}\n", openapi::document()))), None);
        }
        Some(("api", api)) if api.get_flag("list") && is_json(matches) => {
            return in_json(&table::call(&admin, "list_functions", &Arguments::default()));
        }
        Some(("api", api)) if api.get_flag("list") => {
            return in_words(Ok(table::overview(admin.scope()).into()), None);
        }
        Some(("api", api)) => return in_json(&api_call(&admin, api)),
        Some(("completions", words)) => {
            let shell = words.get_one::<Shell>("shell").copied().unwrap_or(Shell::Bash);
            return Spoken { out: manual::completions(shown(), shell), ..Spoken::default() };
        }
        Some(("man", words)) => {
            let folder = words.get_one::<PathBuf>("folder").cloned().unwrap_or_default();
            let told =
                |names: Vec<String>| Outcome::said(format!("{} manual pages were written.", names.len()));
            return answer(manual::write(shown(), &folder).map(told), matches);
        }
        Some(("keeper", words)) => return answer(keep(&admin, words), matches),
        _ => {}
    }
    let function = function_of(matches);
    if let Some(function) = function.filter(|_| !is_json(matches)) {
        progress::doing(&format!("postern {}", function.words.join(" ")));
    }
    answer(function_call(&admin, function, matches), matches)
}

/// As a program or as people are told.
fn answer(outcome: Result<Outcome>, matches: &ArgMatches) -> Spoken {
    if is_json(matches) { in_json(&outcome) } else { in_words(outcome, function_of(matches)) }
}

/// The function that the words name. None: a command that is no function.
fn function_of(matches: &ArgMatches) -> Option<&'static Function> {
    let (mut words, mut inner) = (Vec::new(), matches);
    while let Some((word, next)) = inner.subcommand() {
        words.push(word);
        inner = next;
    }
    FUNCTIONS.iter().find(|f| f.words == words)
}

fn innermost(matches: &ArgMatches) -> &ArgMatches {
    let mut inner = matches;
    while let Some((_, next)) = inner.subcommand() {
        inner = next;
    }
    inner
}

/// A global flag is found in the innermost matches.
fn is_json(matches: &ArgMatches) -> bool {
    innermost(matches).get_flag("json")
}

fn surroundings(matches: &ArgMatches) -> Result<Admin> {
    let (root, now) = (matches.get_one::<String>("root"), matches.get_one::<String>("now"));
    if (root.is_some() || now.is_some()) && has_borrowed_authority() {
        return Err(Error::NotAllowed(
            "--root and --now are not for programs with borrowed authority.".into(),
        ));
    }
    let clock = now.map_or(Ok(Clock::System), |text| Clock::parse(text))?;
    let paths = root.map_or_else(Paths::default, Paths::below);
    Ok(Admin { call: Call::new(paths, clock.now(), "postern"), clock, who: who(), theirs: None })
}

/// The same as whoever `--as` names. What is no function of the table is the administrator's alone.
fn identified(admin: Admin, matches: &ArgMatches) -> Result<Admin> {
    let (command, inner) = matches.subcommand().unzip();
    let inner = inner.filter(|_| command == Some("api")).and_then(|api| api.get_one::<String>("as"));
    let named: Vec<&String> = matches.get_one("as").into_iter().chain(inner).collect();
    let identity: Identity = match named[..] {
        [] => return Ok(admin),
        [text] => {
            identity::may_ask_for_others()?;
            text.parse()?
        }
        _ => return Err(Error::NotAllowed("--as was given twice, so it is not clear who asks.".into())),
    };
    let is_function = match matches.subcommand() {
        Some(("api", api)) => !api.get_flag("openapi"),
        _ => function_of(matches).is_some(),
    };
    if !is_function && identity.scope != Scope::Root {
        return Err(Error::NotAllowed("This command is the administrator's alone.".into()));
    }
    let theirs = match identity.scope {
        Scope::Root => None,
        _ => Some(Arc::new(Theirs::read(&identity, &admin.call.paths, &admin.settings()?.settings()?)?)),
    };
    Ok(Admin { who: identity.who(), theirs, ..admin })
}

/// For the trail. Only root gets here on a server; who became root by sudo is named as sudo names him.
fn who() -> String {
    match std::env::var("SUDO_USER") {
        Ok(user) if !user.is_empty() => {
            format!("root ({} by sudo)", user.chars().take(64).collect::<String>())
        }
        _ if nix::unistd::geteuid().is_root() => "root".into(),
        _ => format!("user {}", nix::unistd::geteuid()),
    }
}

fn keep(admin: &Admin, words: &ArgMatches) -> Result<Outcome> {
    let quiet = Outcome { quiet: true, ..Outcome::default() };
    let is_root = nix::unistd::geteuid().is_root();
    let warnings = if is_root { keeper::prepare(admin)? } else { Vec::new() };
    if words.get_flag("prepare") {
        return Ok(Outcome { quiet: warnings.is_empty(), warnings, ..Outcome::default() });
    }
    let fault = words.get_one::<String>("fault").cloned();
    let policy_at = match words.get_one::<String>("policy_at").map(String::as_str) {
        None => Some(keeper::POLICY_AT),
        Some("none") => None,
        Some(text) => Some(text.parse().map_err(|_| Error::bad_value("--policy-at", text, "ADDRESS:PORT"))?),
    };
    let options = keeper::Options { paths: admin.call.paths.clone(), clock: admin.clock, fault, policy_at };
    keeper::run(options).map(|()| quiet)
}

fn api_call(admin: &Admin, matches: &ArgMatches) -> Result<Outcome> {
    let function = matches.get_one::<OsString>("function").map_or(Ok(""), |name| text(name))?;
    let words = matches.get_many::<OsString>("arguments").into_iter().flatten();
    let words: Vec<&str> = words.map(|word| text(word)).collect::<Result<_>>()?;
    let given = match words.as_slice() {
        ["-"] => Arguments::from_reader(std::io::stdin())?,
        words => Arguments::from_words(words.iter().copied())?,
    };
    table::call(admin, function, &given)
}

fn text(word: &OsStr) -> Result<&str> {
    word.to_str().ok_or_else(|| Error::bad_value("The argument", &word.to_string_lossy(), "text in UTF-8"))
}

fn function_call(admin: &Admin, function: Option<&Function>, matches: &ArgMatches) -> Result<Outcome> {
    let inner = innermost(matches);
    let function =
        function.ok_or_else(|| Error::bad_value("The command", "", "a command from `postern --help`"))?;
    let mut given = Arguments::default();
    for argument in function.arguments {
        if argument.is_switch() {
            given.set(argument.name, if inner.get_flag(argument.name) { "on" } else { "" });
        } else if let Some(values) = inner.get_many::<String>(argument.name) {
            given.set(argument.name, &values.map(String::as_str).collect::<Vec<_>>().join(","));
        }
    }
    if function.changes
        && let Some(generation) = inner.get_one::<String>("generation")
    {
        given.set("generation", generation);
    }
    table::call(admin, function.name, &given)
}

fn in_json(outcome: &Result<Outcome>) -> Spoken {
    let status = outcome.as_ref().map_or(1, |done| u8::from(!done.failures.is_empty()));
    Spoken { out: escaped(&envelope(outcome)) + "\n", status, ..Spoken::default() }
}

/// Sentences may hold names from the state, which mail users can write: each stays one line.
fn in_words(outcome: Result<Outcome>, function: Option<&Function>) -> Spoken {
    match outcome {
        Ok(outcome) if outcome.quiet => Spoken { status: status_of(&outcome), ..Spoken::default() },
        Ok(outcome) => {
            let messages: String = outcome.messages.iter().map(|m| line(m)).collect();
            let warnings = outcome.warnings.iter().map(|w| line(&format!("Warning: {w}")));
            let err = warnings.chain(outcome.failures.iter().map(|f| line(f))).collect();
            let shown = outcome.messages.is_empty() || outcome.data.get("warnings").is_some();
            let out = match &outcome.text {
                Some(text) => clean(text),
                None if shown => messages + &render::text(&outcome.data, Look::of_standard_output()),
                None => messages,
            };
            Spoken { out, err, status: status_of(&outcome) }
        }
        Err(error) => {
            let next = function.and_then(|f| next_step(f, &error)).map(|next| line(&next));
            Spoken {
                err: line(&error.to_string()) + &next.unwrap_or_default(),
                status: 1,
                ..Spoken::default()
            }
        }
    }
}

/// What to do next after an error, where its sentence names no command itself.
fn next_step(function: &Function, error: &Error) -> Option<String> {
    if error.to_string().contains("`postern ") {
        return None;
    }
    let (_, group) = function.words.split_last()?;
    let list = FUNCTIONS.iter().find(|f| f.words.split_last() == Some((&"list", group)));
    let command = |words: &[&str]| format!("`postern {}`", words.join(" "));
    Some(match error.code() {
        "bad_value" => format!("{} says what it takes.", command(&[function.words, &["--help"]].concat())),
        "not_found" => format!("{} shows what there is.", command(list?.words)),
        "conflict" => "`postern audit` shows who changed what.".into(),
        "needs_confirmation" if function.arguments.iter().any(|a| a.name == "confirm") => {
            format!("{} does it all the same.", command(&[function.words, &["…", "--confirm"]].concat()))
        }
        _ if !nix::unistd::geteuid().is_root() => "Run it as root, as by `sudo postern …`.".into(),
        "file" | "database" | "data" | "state" | "system" => {
            "`postern status` shows what is in trouble.".into()
        }
        _ => return None,
    })
}

fn status_of(outcome: &Outcome) -> u8 {
    outcome.exit.unwrap_or_else(|| u8::from(!outcome.failures.is_empty()))
}

/// A sentence as one line: a name in it cannot begin another.
fn line(sentence: &str) -> String {
    format!("{}\n", clean(&sentence.replace(['\n', '\r'], " ")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_that_is_printed_steers_the_terminal() {
        assert_eq!(
            super::clean("a\u{1b}[2J\u{9b}x\u{202e}y\tz\n"),
            "a\u{fffd}[2J\u{fffd}x\u{fffd}y\u{fffd}z\n"
        );
    }

    #[test]
    fn json_steers_no_terminal_and_says_the_same_to_programs() {
        let names = serde_json::json!({ "a\u{9b}": "x\u{202e}y\u{1b}[2J\u{7f}\n\u{2066}" });
        let text = super::escaped(&names);
        assert!(!text.chars().any(super::steers), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), names);
    }

    #[test]
    fn the_command_line_is_sound() {
        super::command().debug_assert();
    }
}
