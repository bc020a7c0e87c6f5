//! Doors: how each mail server speaks. They take bytes and give bytes, and hold no policy, so that the same code
//! serves a process that was started for one call, one that lives as long as a connection, and the keeper.

pub mod dovecot;
pub mod exim;
pub mod line;
pub mod milter;
pub(crate) mod patient;
pub mod policy;
pub mod postfix;

#[cfg(test)]
mod testing;

use crate::request::Request;
use crate::verdict::Answer;
use std::io::{ErrorKind, Read, Write};

/// Who answers: [`flow::answer`](crate::flow::answer) with the surroundings of the program that runs.
pub type Ask<'a> = dyn FnMut(&Request) -> Answer + 'a;

/// Says a whole answer. A [`Patient`](patient::Patient) connection takes the flush for the end of the question.
pub(crate) fn say(stream: &mut impl Write, answer: &[u8]) -> std::io::Result<()> {
    stream.write_all(answer)?;
    stream.flush()
}

/// Reads what is there, and on where a signal interrupted; 0 is the end.
fn read_some(stream: &mut impl Read, into: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
            Ok(n) => {
                into.extend(&buffer[..n]);
                return Ok(n);
            }
        }
    }
}
