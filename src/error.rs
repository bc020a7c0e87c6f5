//! Everything that can go wrong, as sentences for the administrator.
//!
//! A sentence says what was tried, on what, and what to do. Only the programs' `main` prints one and exits.
//! [`Error::code`] is the stable key that scripts may hang on.

use std::path::{Path, PathBuf};

/// Result with Postern's error.
pub type Result<T> = std::result::Result<T, Error>;

/// Something that did not work, with a sentence and a stable code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value from outside that is not what the place for it accepts.
    #[error("{name} is {value:?}, which is not accepted: {accepted}.")]
    BadValue {
        /// What the value was meant for.
        name: String,
        /// The value as it was given, cut to a readable length.
        value: String,
        /// What would be accepted.
        accepted: String,
    },
    /// A file that could not be read, written or made.
    #[error("Could not {doing} {}: {source}.", path.display())]
    File {
        /// The verb, as in "open".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A database that could not be used.
    #[error("Could not {doing} the database {}: {source}.", path.display())]
    Database {
        /// The verb, as in "open".
        doing: &'static str,
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A data file or source that is not fit for use; the sentence says why.
    #[error("{0}")]
    Data(String),
    /// The caller may not do this.
    #[error("{0}")]
    NotAllowed(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// The change needs a confirmation or something else to be set first.
    #[error("{0}")]
    NeedsConfirmation(String),
    /// Somebody changed the settings in between.
    #[error(
        "The settings were changed by somebody else (generation {current}, yours was {yours}): look at them again, then repeat the change."
    )]
    Conflict {
        /// Generation now.
        current: i64,
        /// Generation that the caller had read.
        yours: i64,
    },
    /// The state is not usable at the moment; the sentence says why.
    #[error("{0}")]
    State(String),
    /// What a program of ours that did the work told of it.
    #[error("{sentence}")]
    Told {
        /// The code of the error over there.
        code: &'static str,
        /// Its sentence.
        sentence: String,
    },
    /// A call of the operating system failed.
    #[error("Could not {doing}: {source}.")]
    System {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Every code with what it means. `incomplete` and `refused` stand in the API's answer where a part was not accepted.
pub const CODES: [(&str, &str); 12] = [
    ("bad_value", "a value, argument or input is not accepted"),
    ("file", "a file could not be read, written or made"),
    ("database", "a database could not be used"),
    ("data", "a file or source is not fit for use"),
    ("not_allowed", "the caller may not do this"),
    ("not_found", "what was asked for is not there"),
    ("needs_confirmation", "the change wants a confirmation, or something else set first"),
    ("conflict", "somebody else changed the settings in between"),
    ("state", "the state is not usable at the moment"),
    ("system", "a call of the operating system failed"),
    ("incomplete", "a part was not done, the rest was"),
    ("refused", "nothing was done, since a part of what was given is not accepted"),
];

impl Error {
    /// A stable key for scripts; never changes for a kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Error::BadValue { .. } => "bad_value",
            Error::File { .. } => "file",
            Error::Database { .. } => "database",
            Error::Data(_) => "data",
            Error::NotAllowed(_) => "not_allowed",
            Error::NotFound(_) => "not_found",
            Error::NeedsConfirmation(_) => "needs_confirmation",
            Error::Conflict { .. } => "conflict",
            Error::State(_) => "state",
            Error::Told { code, .. } => code,
            Error::System { .. } => "system",
        }
    }

    /// A value that `name` does not accept, with what it accepts.
    pub fn bad_value(name: impl Into<String>, value: &str, accepted: impl Into<String>) -> Self {
        let value = value.chars().take(128).collect();
        Error::BadValue { name: name.into(), value, accepted: accepted.into() }
    }

    /// An error that another process of ours met.
    pub fn told(code: &str, sentence: String) -> Self {
        let known = CODES.into_iter().map(|(known, _)| known).find(|known| *known == code);
        let code = known.unwrap_or("state");
        Error::Told { code, sentence }
    }

    /// Text that is no IP address.
    pub fn not_an_address(text: &str) -> Self {
        Error::bad_value("The address", text, "give an IPv4 or IPv6 address, as 192.0.2.7 or 2001:db8::7")
    }

    /// Text that is no network.
    pub fn not_a_network(text: &str) -> Self {
        Error::bad_value(
            "The network",
            text,
            "give an address or a network, as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48",
        )
    }

    /// For `map_err` on file operations.
    pub fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Error::File { doing, path: path.to_owned(), source }
    }

    /// For `map_err` on database operations.
    pub fn database(doing: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Error::Database { doing, path: path.to_owned(), source }
    }

    /// For `map_err` on system calls.
    pub fn system(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Error::System { doing: doing.into(), source }
    }
}
