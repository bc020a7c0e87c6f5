//! How the story is told: short paragraphs, and what servers and Postern said, as they said it.

use crate::clients::Reply;
use crate::rig::Scene;

/// A paragraph.
pub(crate) fn tell(words: &str) {
    println!();
    let mut length = 0;
    for word in words.split_whitespace() {
        let wide = word.chars().count();
        if length > 0 && length + 1 + wide > 90 {
            println!();
            length = 0;
        }
        if length > 0 {
            print!(" ");
            length += 1;
        }
        print!("{word}");
        length += wide;
    }
    println!();
}

/// A heading.
pub(crate) fn chapter(title: &str) {
    println!("\n\n== {title}");
}

/// What a client did and what the server said to it.
pub(crate) fn heard(client: &str, reply: &Reply) {
    println!("\n    {client}");
    for line in reply.text.lines() {
        // Capabilities of servers are long and not of this story.
        let line: String = line.chars().take(110).collect();
        println!("    < {line}");
    }
}

/// Runs the admin program, shows command and answer, and insists that it succeeds.
pub(crate) fn postern(scene: &Scene, words: &[&str]) -> String {
    let shown: Vec<String> = words
        .iter()
        .map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() })
        .collect();
    println!("\n    # postern {}", shown.join(" "));
    let said = scene.postern(words).succeeded();
    for line in said.lines() {
        println!("    {line}");
    }
    said
}

/// Insists that the story is true.
#[track_caller]
pub(crate) fn insist(true_: bool, what: &str) {
    assert!(true_, "this is not as told: {what}");
}
