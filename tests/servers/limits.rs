//! Further limits of sending, by mail clients that log in and by local programs.

use crate::doing::{OUTSIDE, logged_in, on_each_pair, on_each_postfix};
use crate::rig::{ALICE, BOB, CAROL, Mailbox, Scene, at_once};

fn set(scene: &Scene, name: &str, counts: &str, most: i64, action: &str) {
    let most = format!("most={most}");
    let words = ["set_limit", &format!("name={name}"), &format!("counts={counts}"), &most, "window=10m"];
    scene.api(&[&words[..], &[&format!("action={action}")]].concat());
}

/// What a message to these is answered.
fn send_to(scene: &Scene, who: &Mailbox, to: &[&str]) -> String {
    let said = logged_in(scene, who).send(who.name, to, "x");
    if said.yes { "yes".into() } else { said.text }
}

fn recipients_are_told_apart(scene: &Scene) {
    std::fs::write(scene.path("/etc/postern/owners"), "example.test: ann\n").unwrap();
    scene.postern(&["tick"]).succeeded();
    set(scene, "spray", "distinct_recipients", 3, "wait");
    set(scene, "near", "local_recipients", 2, "wait");
    set(scene, "far", "recipients", 8, "wait");
    let [a, b, c, d] = ["a@remote.test", "b@remote.test", "c@remote.test", "d@remote.test"];
    assert_eq!(send_to(scene, &ALICE, &[a, b]), "yes");
    assert_eq!(send_to(scene, &ALICE, &[b, "A@Remote.test"]), "yes", "the same two");
    assert_eq!(send_to(scene, &ALICE, &[BOB.name, CAROL.name, c]), "yes");
    let spray = send_to(scene, &ALICE, &[d]);
    assert!(
        spray.contains("451 4.7.1") && spray.contains("More than 3 different recipients in 10 min"),
        "{spray}"
    );
    let near = send_to(scene, &ALICE, &[a, BOB.name]);
    assert!(near.contains("451 4.7.1") && near.contains("More than 2 recipients on this server"), "{near}");
    assert_eq!(send_to(scene, &ALICE, &[a, b, c]), "yes", "two, two, one and three: eight");
    let far = send_to(scene, &ALICE, &[a]);
    assert!(far.contains("451 4.7.1") && far.contains("More than 8 recipients in 10 min"), "{far}");
    let never = send_to(scene, &BOB, &[a, b, c, d]);
    assert!(never.contains("550 5.7.1"), "one message that can never fit: {never}");
    assert_eq!(send_to(scene, &BOB, &[d]), "yes", "what was refused is counted by none");
}

#[test]
fn exim_names_recipients_so_that_different_and_local_ones_are_counted() {
    on_each_pair(recipients_are_told_apart);
}

#[test]
fn postfix_names_recipients_so_that_different_and_local_ones_are_counted() {
    on_each_postfix(recipients_are_told_apart);
}

#[test]
fn sixty_four_at_once_send_exactly_what_a_limit_of_the_domain_lets_pass() {
    on_each_pair(|scene| {
        let most = 20;
        scene.api(&[
            "set_limit",
            "name=together",
            "counts=messages",
            "of=domain",
            &format!("most={most}"),
            "window=10m",
            "action=wait",
        ]);
        let said = at_once(&[0; 64], |_| send_to(scene, &ALICE, &[OUTSIDE]));
        let passed = said.iter().filter(|said| *said == "yes").count();
        assert_eq!(passed, most, "{said:?}");
        assert!(said.iter().filter(|said| *said != "yes").all(|said| said.contains("More than 20 messages")));
    });
}
