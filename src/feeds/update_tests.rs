//! Against a real HTTPS server with an authority of its own.

use super::*;
use crate::fetch::publisher::{Publisher, Reply};
use std::fs;

const NOW: Seconds = 1_795_600_000;
const HOUR: Seconds = 3600;

/// A server's files, a publisher that the system trusts, and a feed of his.
struct Scene {
    _dir: tempfile::TempDir,
    paths: Paths,
    publisher: Publisher,
    job: Job,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let (paths, publisher) = (Paths::below(dir.path()), Publisher::new());
        let certificates = paths.at("/etc/ssl/certs/ca-certificates.crt");
        fs::create_dir_all(certificates.parent().unwrap()).unwrap();
        fs::write(certificates, publisher.authority()).unwrap();
        fs::create_dir_all(paths.data()).unwrap();
        let job = Job {
            feeds: vec![feed(&publisher, "own", "/list", "plain every=1h minimum=30m age=2d")],
            own: vec!["203.0.113.5".parse().unwrap()],
            asked: Asked::Due,
            may_grow: false,
            limits: (Duration::from_secs(20), Duration::from_secs(60)),
        };
        Scene { _dir: dir, paths, publisher, job }
    }

    /// The publisher has this list, and what is due is fetched at this time.
    fn with(&self, list: &str, now: Seconds) -> Vec<Done> {
        self.publisher.answers("/list", Reply::list(list));
        self.at(now)
    }

    fn at(&self, now: Seconds) -> Vec<Done> {
        update(&self.paths, &self.job, now).unwrap()
    }

    fn by_hand(&self, now: Seconds) -> Done {
        let asked = Asked::These(vec!["own".into()]);
        update(&self.paths, &Job { asked, ..self.job.clone() }, now).unwrap().remove(0)
    }

    fn kept(&self) -> Kept {
        Kept::of(&self.paths, &self.job.feeds[0])
    }

    fn is_listed(&self, address: &str, now: Seconds) -> bool {
        let feeds = Feeds::open(&self.paths.feeds()).unwrap();
        feeds.is_some_and(|feeds| !feeds.look_up(address.parse().unwrap(), now).is_empty())
    }
}

fn feed(publisher: &Publisher, name: &str, path: &str, rest: &str) -> Definition {
    format!("{name} {} {rest}", publisher.url(path)).parse().unwrap()
}

#[track_caller]
fn one(done: &[Done]) -> (&str, &str, bool) {
    let [done] = done else { panic!("{done:?}") };
    (&done.did, &done.says, done.is_news)
}

#[test]
fn a_list_is_taken_and_holds_until_it_is_too_old() {
    let scene = Scene::new();
    let done = scene.with("198.51.100.7\n2001:db8::/32 # a remark\n", NOW);
    assert_eq!(one(&done), ("taken", "own has a new list of 2 entries.", false));
    assert!(scene.is_listed("198.51.100.7", NOW) && scene.is_listed("2001:db8::7", NOW));
    assert!(!scene.is_listed("198.51.100.8", NOW));
    assert!(scene.is_listed("198.51.100.7", NOW + 48 * HOUR - 1));
    assert!(!scene.is_listed("198.51.100.7", NOW + 48 * HOUR), "by itself: nothing was compiled since");
    assert!(scene.kept().is_expired(&scene.job.feeds[0], NOW + 49 * HOUR));
}

#[test]
fn a_list_that_says_when_it_was_made_is_as_old_as_it_says() {
    let scene = Scene::new();
    let made = |hours: Seconds| {
        let at = chrono::DateTime::from_timestamp(NOW - hours * HOUR, 0).unwrap().to_rfc2822();
        Reply::list("198.51.100.7\n").with("Last-Modified", &at.replace("+0000", "GMT"))
    };
    scene.publisher.answers("/list", made(40));
    scene.at(NOW);
    assert!(
        scene.is_listed("198.51.100.7", NOW + 8 * HOUR - 1)
            && !scene.is_listed("198.51.100.7", NOW + 8 * HOUR)
    );
    // Asked again, it is the same: nobody renews it, and it is no younger for that.
    let again = scene.at(NOW + 7 * HOUR);
    assert_eq!(one(&again).0, "unchanged");
    assert!(!scene.is_listed("198.51.100.7", NOW + 8 * HOUR));
    scene.publisher.answers("/list", made(60));
    let done = scene.at(NOW + 9 * HOUR);
    assert!(one(&done).1.contains("too old: it refuses nobody"), "{done:?}");
    assert!(!scene.is_listed("198.51.100.7", NOW + 9 * HOUR));
}

#[test]
fn what_has_not_changed_is_not_sent_again_and_is_as_good_as_new() {
    let scene = Scene::new();
    scene.publisher.answers("/list", Reply::list("198.51.100.7\n").with("ETag", "\"1\""));
    scene.at(NOW);
    scene.publisher.asked();
    let done = scene.at(NOW + 40 * HOUR);
    assert_eq!(one(&done), ("unchanged", "own has not changed.", false));
    assert!(scene.publisher.asked()[0].contains("if-none-match: \"1\""));
    assert!(scene.is_listed("198.51.100.7", NOW + 80 * HOUR));
}

#[test]
fn it_is_asked_when_it_is_due_and_by_hand_no_more_often_than_its_publisher_wants() {
    let scene = Scene::new();
    scene.with("198.51.100.7\n", NOW);
    let due = scene.kept().due;
    assert!((NOW + HOUR..NOW + HOUR + 360).contains(&due), "{}", due - NOW);
    assert!(scene.at(due - 1).is_empty() && scene.at(due).len() == 1);
    let waits = scene.by_hand(due + 1799);
    assert!(waits.did == "waits" && waits.says.contains("once in 30m"), "{waits:?}");
    assert_eq!(scene.by_hand(due + 1800).did, "taken");
    assert_eq!(scene.publisher.asked().len(), 3);
    // The clock was set back.
    assert_eq!(scene.at(NOW - 1000 * HOUR).len(), 1);
}

#[test]
fn what_is_refused_leaves_the_old_list_and_is_told_once() {
    let scene = Scene::new();
    scene.with("198.51.100.7\n", NOW);
    let before = fs::read(scene.paths.feeds()).unwrap();
    let grown: String = (0..4000).map(|n| format!("20.{}.{}.0/24\n", n / 125, n % 125 * 2)).collect();
    let mut now = NOW;
    for (list, why) in [
        ("198.51.100.7\n10.0.0.0/8\n", "private or reserved"),
        ("198.51.100.7\n0.0.0.0/0\n", "wider than /8"),
        ("203.0.112.0/23\n", "this server's own address 203.0.113.5"),
        (&grown, "from 1 to 4000 networks, more"),
        ("<html>Moved</html>\n", "line 1 (\"<html>Moved</html>\")"),
        ("", "no entry"),
        ("\0\u{1}\u{2}garbage\n\n\0", "not understood"),
    ] {
        now += 2 * HOUR;
        let done = scene.with(list, now);
        let (did, says, is_news) = one(&done);
        assert_eq!((did, is_news), ("refused", now == NOW + 2 * HOUR), "{says}");
        assert!(says.contains(why) && says.contains("The list from before stays until"), "{says}");
        assert_eq!(fs::read(scene.paths.feeds()).unwrap(), before);
        assert!(scene.kept().refused.unwrap().contains(why));
    }
    let done = scene.with("198.51.100.8\n", now + 2 * HOUR);
    assert_eq!(one(&done).0, "taken");
    assert_eq!(scene.kept().refused, None);
    assert!(scene.is_listed("198.51.100.8", now) && !scene.is_listed("198.51.100.7", now));
    scene.publisher.answers("/list", Reply::list(grown.as_str()));
    let asked = Asked::These(vec!["own".into()]);
    let done =
        update(&scene.paths, &Job { asked, may_grow: true, ..scene.job.clone() }, now + 4 * HOUR).unwrap();
    assert_eq!(one(&done).0, "taken");
    assert!(scene.is_listed("20.0.2.7", now + 4 * HOUR));
}

#[test]
fn what_fails_leaves_the_old_list_is_told_once_and_tried_again_not_too_soon() {
    let scene = Scene::new();
    scene.with("198.51.100.7\n", NOW);
    let mut now = NOW;
    for status in [500, 404, 503] {
        now += 2 * HOUR;
        scene.publisher.answers("/list", Reply::status(status));
        let done = scene.at(now);
        let (did, says, is_news) = one(&done);
        assert_eq!((did, is_news), ("failed", status == 500), "{says}");
        assert!(says.contains(&format!("answered {status}")) && says.contains("from before stays"), "{says}");
        assert_eq!(scene.kept().due, now + HOUR / 2);
        assert!(scene.is_listed("198.51.100.7", now));
    }
    now += 2 * HOUR;
    assert_eq!(one(&scene.with("198.51.100.8\n", now)).0, "taken");
    scene.publisher.answers("/list", Reply::status(500));
    assert!(one(&scene.at(now + 2 * HOUR)).2, "it is news again");
}

#[test]
fn a_few_broken_lines_are_named_and_left_out() {
    let scene = Scene::new();
    let done = scene.with("198.51.100.7\nnonsense\n198.51.100.8\n198.51.100.9\n", NOW);
    let (did, says, _) = one(&done);
    assert_eq!(
        (did, says),
        ("taken", "own has a new list of 3 entries. Left out of it: line 2 (\"nonsense\").")
    );
    assert!(scene.is_listed("198.51.100.9", NOW));
}

#[test]
fn the_server_itself_is_left_out_of_a_list_that_is_good_otherwise() {
    let scene = Scene::new();
    let done = scene.with("198.51.100.7\n203.0.113.5\n203.0.113.6\n", NOW);
    let (did, says, _) = one(&done);
    assert_eq!(did, "taken");
    assert!(says.contains("new list of 2 entries. This server itself is on it"), "{says}");
    assert!(says.contains("left out: 203.0.113.5."), "{says}");
    assert!(scene.is_listed("198.51.100.7", NOW) && scene.is_listed("203.0.113.6", NOW));
    assert!(!scene.is_listed("203.0.113.5", NOW));
    scene.with("198.51.100.7\n", NOW + 2 * HOUR);
    assert_eq!(scene.kept().own, "");
}

#[test]
fn an_address_that_the_server_gets_later_is_left_out_without_a_new_list() {
    let mut scene = Scene::new();
    let list = Reply::list("198.51.100.7\n198.51.100.8\n192.0.2.0/23\n").with("ETag", "\"1\"");
    scene.publisher.answers("/list", list);
    scene.at(NOW);
    assert!(scene.is_listed("198.51.100.7", NOW));
    scene.job.own.push("198.51.100.7".parse().unwrap());
    assert!(scene.at(NOW + 60).is_empty(), "nothing is due");
    assert!(!scene.is_listed("198.51.100.7", NOW + 60) && scene.is_listed("198.51.100.8", NOW + 60));
    let kept = scene.kept();
    assert_eq!((kept.own.as_str(), kept.entries), ("198.51.100.7", 2));
    let compiled = fs::metadata(scene.paths.feeds()).unwrap().modified().unwrap();
    assert!(scene.at(NOW + 120).is_empty());
    assert_eq!(fs::metadata(scene.paths.feeds()).unwrap().modified().unwrap(), compiled, "once is enough");
    let done = scene.at(NOW + 2 * HOUR);
    assert_eq!(one(&done).0, "unchanged");
    assert!(!scene.is_listed("198.51.100.7", NOW + 2 * HOUR));
    scene.job.own.push("192.0.2.64/26".parse().unwrap());
    let now = NOW + 2 * HOUR + 60;
    let done = scene.at(now);
    let (did, says, is_news) = one(&done);
    assert_eq!((did, is_news), ("refused", true));
    assert!(says.contains("192.0.2.0/23, where this server's own address 192.0.2.64/26"), "{says}");
    assert!(!scene.is_listed("192.0.2.1", now) && !scene.is_listed("198.51.100.8", now));
    assert!(scene.at(now + 60).is_empty());
    let done = scene.at(now + 2 * HOUR);
    assert!(one(&done).0 == "refused" && !one(&done).2, "asked for the whole list, and not told again");
}

#[test]
fn growth_is_measured_by_the_list_of_a_day_ago() {
    let scene = Scene::new();
    let addresses = |n: u32| -> String {
        (0..n).map(|i| format!("{}\n", std::net::Ipv4Addr::from_bits(0x1400_0000 + 2 * i))).collect()
    };
    for (hours, n, did) in [
        (0, 2000, "taken"),
        (2, 4000, "taken"),
        (4, 7000, "refused"),
        (6, 10, "taken"),
        (8, 6000, "taken"),
        (22, 6001, "refused"),
        (25, 6000, "taken"),
        (27, 18000, "taken"),
    ] {
        let done = scene.with(&addresses(n), NOW + hours * HOUR);
        assert_eq!(one(&done).0, did, "{done:?}");
    }
}

#[test]
fn what_cannot_be_kept_of_one_feed_keeps_no_other_from_being_fetched_and_compiled() {
    let mut scene = Scene::new();
    scene.publisher.answers("/other", Reply::list("198.51.100.8\n"));
    scene.job.feeds.push(feed(&scene.publisher, "other", "/other", "plain"));
    let in_the_way = scene.paths.feeds_dir().join("own.list/full");
    scene.at(NOW - 1000 * HOUR);
    let _ = fs::remove_file(list(&scene.paths, "own"));
    fs::create_dir_all(&in_the_way).unwrap();
    let done = scene.with("198.51.100.7\n", NOW);
    assert_eq!(
        done.iter().map(|d| (d.did.as_str(), d.is_ours)).collect::<Vec<_>>(),
        [("failed", true), ("taken", false)]
    );
    assert!(done[0].says.contains("own.list"), "{done:?}");
    assert!(scene.is_listed("198.51.100.8", NOW));
    assert!(scene.kept().failed.unwrap().contains("own.list"));
    fs::remove_dir_all(in_the_way.parent().unwrap()).unwrap();
    assert!(scene.at(NOW + HOUR / 2 - 1).is_empty(), "tried again, not too soon");
    assert_eq!(one(&scene.at(NOW + HOUR / 2)).0, "taken");
    let compiled = scene.paths.feeds();
    fs::remove_file(&compiled).unwrap();
    fs::create_dir_all(compiled.join("full")).unwrap();
    let done = scene.at(NOW + HOUR / 2 + 60);
    assert!(one(&done).0 == "failed" && done[0].is_ours && done[0].feed == "all", "{done:?}");
}

#[test]
fn a_list_from_when_the_clock_stood_in_the_future_ends_like_any_other() {
    let scene = Scene::new();
    scene.with("198.51.100.7\n", NOW + 9000 * HOUR);
    scene.publisher.answers("/list", Reply::status(500));
    assert_eq!(one(&scene.at(NOW)).0, "failed");
    assert_eq!((scene.kept().confirmed, scene.kept().measured), (NOW, NOW));
    assert!(scene.is_listed("198.51.100.7", NOW + 48 * HOUR - 1));
    scene.at(NOW + 40 * HOUR);
    assert!(!scene.is_listed("198.51.100.7", NOW + 48 * HOUR));
}

#[test]
fn feeds_together_answer_each_for_itself_and_one_that_is_in_use_no_more_is_gone() {
    let mut scene = Scene::new();
    let drop = "{\"cidr\":\"198.51.100.0/24\"}\n{\"type\":\"metadata\",\"timestamp\":1795590000,\"records\":1,\"copyright\":\"(c) Somebody\"}\n";
    scene.publisher.answers("/drop", Reply::list(drop));
    scene.publisher.answers("/counted", Reply::list("198.51.100.9\t2\n198.51.100.10\t5\n"));
    scene.job.feeds.push(feed(&scene.publisher, "drop", "/drop", "drop-json every=12h age=7d"));
    scene.job.feeds.push(feed(&scene.publisher, "counted", "/counted", "counted least=3"));
    assert_eq!(scene.with("198.51.100.7\n", NOW).len(), 3);
    let on = |address: &str| -> Vec<String> {
        let feeds = Feeds::open(&scene.paths.feeds()).unwrap().unwrap();
        feeds.look_up(address.parse().unwrap(), NOW).into_iter().map(|l| l.feed).collect()
    };
    assert_eq!(on("198.51.100.7"), ["own", "drop"]);
    assert_eq!(
        (on("198.51.100.9"), on("198.51.100.10")),
        (vec!["drop".into()], vec!["drop".into(), "counted".into()])
    );
    assert_eq!(Kept::of(&scene.paths, &scene.job.feeds[1]).credit.as_deref(), Some("(c) Somebody"));
    let mut fewer = Job { asked: Asked::None, ..scene.job.clone() };
    fewer.feeds.remove(1);
    update(&scene.paths, &fewer, NOW).unwrap();
    assert!(on("198.51.100.200").is_empty() && on("198.51.100.7") == ["own"]);
    assert!(!list(&scene.paths, "drop").exists());
    update(&scene.paths, &Job { feeds: Vec::new(), ..fewer }, NOW).unwrap();
    assert!(!scene.paths.feeds().exists() && !list(&scene.paths, "own").exists());
}

#[test]
fn a_damaged_file_is_made_anew_and_a_list_that_was_lost_is_fetched_anew() {
    let scene = Scene::new();
    scene.publisher.answers("/list", Reply::list("198.51.100.7\n").with("ETag", "\"1\""));
    scene.at(NOW);
    fs::write(scene.paths.feeds(), "garbage").unwrap();
    assert!(scene.at(NOW + 60).is_empty());
    assert!(scene.is_listed("198.51.100.7", NOW + 60));
    fs::remove_file(list(&scene.paths, "own")).unwrap();
    fs::remove_file(scene.paths.feeds()).unwrap();
    scene.at(NOW + 120);
    assert!(!scene.is_listed("198.51.100.7", NOW + 120));
    let soon = NOW + HOUR / 2;
    assert!(scene.at(soon - 1).is_empty(), "no more often than its publisher wants");
    assert_eq!(one(&scene.at(soon)).0, "taken");
    assert!(scene.is_listed("198.51.100.7", soon));
}

#[test]
fn another_address_or_reading_under_the_same_name_is_another_feed() {
    let mut scene = Scene::new();
    scene.with("198.51.100.7\n", NOW);
    scene.publisher.answers("/other", Reply::list("198.51.100.8\n"));
    scene.job.feeds = vec![feed(&scene.publisher, "own", "/other", "plain every=1h minimum=30m age=2d")];
    assert_eq!(one(&scene.at(NOW + 60)).0, "taken");
    assert!(scene.is_listed("198.51.100.8", NOW) && !scene.is_listed("198.51.100.7", NOW));
}

#[test]
fn a_publishers_key_is_read_from_its_file_and_shown_to_nobody_else() {
    let mut scene = Scene::new();
    scene.publisher.answers("/list", Reply::list("198.51.100.7\n"));
    scene.publisher.answers("/s3cret/list", Reply::list("198.51.100.7\n"));
    let keys = scene.paths.feed_key("own");
    for (rest, with) in
        [("/list plain key=X-Key", "x-key: s3cret"), ("/{key}/list plain", "get /s3cret/list")]
    {
        let _ = fs::remove_file(&keys);
        scene.job.feeds = vec![format!("own {}", scene.publisher.url(rest)).parse().unwrap()];
        let done = scene.at(NOW);
        assert!(one(&done).1.contains("wants a key") && one(&done).1.contains("feed-keys/own"), "{done:?}");
        assert!(scene.publisher.asked().is_empty());
        fs::create_dir_all(keys.parent().unwrap()).unwrap();
        fs::write(&keys, "s3cret\n").unwrap();
        let done = scene.at(NOW + 2 * HOUR);
        assert_eq!(one(&done).0, "taken");
        assert!(scene.publisher.asked()[0].contains(with));
        assert!(!fs::read_to_string(scene.paths.feeds_dir().join("own.json")).unwrap().contains("s3cret"));
        fs::write(&keys, "two words\n").unwrap();
        assert!(one(&scene.at(NOW + 20 * HOUR)).1.contains("holds no key"));
        scene.publisher.asked();
    }
}
