//! Doors: how each mail server speaks. They take bytes and give bytes, and hold no policy, so that the same code
//! serves a process that was started for one call, one that lives as long as a connection, and the keeper.

pub mod dovecot;
pub mod exim;
pub mod line;
pub mod milter;
pub mod policy;
pub mod postfix;

use crate::request::Request;
use crate::verdict::Answer;

/// Who answers: [`flow::answer`](crate::flow::answer) with the surroundings of the program that runs.
pub type Ask<'a> = dyn FnMut(&Request) -> Answer + 'a;
