//! The only code that knows SQLite.
//!
//! Two stores with two owners: [`settings`] is what the administrator chose, root's alone; [`state`] is what
//! the hooks of all mail servers share. [`lock`] guards the replacing of the state's files.

pub mod copy;
pub mod lock;
pub mod schema;
pub mod settings;
pub mod state;
