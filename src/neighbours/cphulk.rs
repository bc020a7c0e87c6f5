//! cPHulk, cPanel's own, by WHM API 1 (`whmapi1`): addresses that it blocks for a time and for a day, and its list of
//! addresses that somebody forbade. Only the first two are lifted, by `flush_cphulk_login_history_for_ips`. The forms are
//! cPanel's documentation's; not seen on a licensed cPanel yet.

use super::{Ban, LONGEST, MOST, NAMES, Neighbour, holds, plain};
use crate::address::Address;
use crate::child;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::paths::Paths;
use serde_json::Value;

pub(super) struct CpHulk;

const PROGRAM: &str = "/usr/local/cpanel/bin/whmapi1";

/// The functions that list what it blocks itself, and where in their data the list stands.
const BLOCKED: [(&str, &str); 2] =
    [("get_cphulk_brutes", "brutes"), ("get_cphulk_excessive_brutes", "excessive_brutes")];

impl Neighbour for CpHulk {
    fn name(&self) -> &'static str {
        NAMES[2]
    }

    fn is_here(&self, paths: &Paths) -> bool {
        paths.at(PROGRAM).is_file()
    }

    fn bans(&self, paths: &Paths, address: Address, _: Seconds) -> Result<Vec<Ban>> {
        let mut bans = Vec::new();
        for (function, list) in BLOCKED {
            let Some(data) = call(paths, &[function])? else { return Ok(Vec::new()) };
            bans.extend(blocked(&data, list, address));
        }
        let forbidden = call(paths, &["read_cphulk_records", "list_name=black"])?;
        bans.extend(forbidden.map(|data| blacklisted(&data, address)).unwrap_or_default());
        Ok(bans)
    }

    fn lift(&self, paths: &Paths, address: Address, _: &Ban) -> Result<()> {
        let ip = format!("ip={address}");
        call(paths, &["flush_cphulk_login_history_for_ips", &ip]).map(|_| ())
    }
}

/// The data of a function's answer; none where cPHulk is off.
fn call(paths: &Paths, words: &[&str]) -> Result<Option<Value>> {
    let words = [&["--output=json"], words].concat();
    let said = child::ask(&paths.at(PROGRAM), &words, LONGEST, MOST)?;
    data_of(&said.text).map_err(|what| {
        let words = words.join(" ");
        Error::State(format!("whmapi1 {words} said {what} ({}).", said.ended))
    })
}

/// `{"metadata":{"result":1,…},"data":{…}}`; on failure result 0 and a reason.
fn data_of(answer: &str) -> std::result::Result<Option<Value>, String> {
    let mut answer: Value = serde_json::from_str(answer).map_err(|_| "no JSON".to_owned())?;
    let metadata = &answer["metadata"];
    if metadata["result"] == 1 || metadata["result"] == "1" {
        return Ok(Some(answer["data"].take()));
    }
    let reason = plain(metadata["reason"].as_str().unwrap_or("no result"));
    if reason.starts_with("cPHulk is disabled") { Ok(None) } else { Err(format!("\"{reason}\"")) }
}

fn blocked(data: &Value, list: &str, address: Address) -> Vec<Ban> {
    let text = |row: &Value, key: &str| plain(row[key].as_str().unwrap_or_default());
    let rows = data[list].as_array().into_iter().flatten();
    rows.filter(|row| row["ip"].as_str().is_some_and(|ip| holds(ip, address)))
        .map(|row| Ban {
            product: NAMES[2],
            place: list.into(),
            banned: text(row, "ip"),
            says: format!("{}, until {}", text(row, "notes"), text(row, "exptime")),
            until: None,
            by_hand: false,
        })
        .collect()
}

fn blacklisted(data: &Value, address: Address) -> Vec<Ban> {
    let rows = data["ips_in_list"].as_object().into_iter().flatten();
    rows.filter(|(listed, _)| holds(listed, address))
        .map(|(listed, comment)| Ban {
            product: NAMES[2],
            place: "black".into(),
            banned: plain(listed),
            says: plain(comment.as_str().unwrap_or_default()),
            until: None,
            by_hand: true,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> Address {
        "192.0.2.7".parse().unwrap()
    }

    #[test]
    fn the_documented_answers_are_read() {
        let answer = r#"{"data":{"brutes":[{"ip":"192.0.2.7","notes":"IP reached maximum auth failures","exptime":"2026-12-07T00:00:00.000Z","timeleft":14},
            {"ip":"192.0.2.8","notes":"x"}]},"metadata":{"command":"get_cphulk_brutes","reason":"OK","result":1,"version":1}}"#;
        let found = blocked(&data_of(answer).unwrap().unwrap(), "brutes", address());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].says, "IP reached maximum auth failures, until 2026-12-07T00:00:00.000Z");
        let list = r#"{"data":{"ips_in_list":{"192.0.2.0/24":"a network","192.0.2.8":"","192.0.2.1-192.0.2.9":"a range"}},"metadata":{"result":1}}"#;
        let found = blacklisted(&data_of(list).unwrap().unwrap(), address());
        assert!(found.len() == 2 && found.iter().all(|ban| ban.by_hand));
        let off = r#"{"metadata":{"result":0,"reason":"cPHulk is disabled on the server."}}"#;
        assert_eq!(data_of(off).unwrap(), None);
        assert_eq!(data_of(r#"{"metadata":{"result":0,"reason":"a\u001bb"}}"#), Err("\"a b\"".into()));
    }

    proptest! {
        #[test]
        fn any_answer_is_read(answer in "\\PC{0,80}", list in "[0-9a-f.:-]{0,12}") {
            let _ = data_of(&answer);
            let data = serde_json::json!({ "brutes": [answer, { "ip": list }], "ips_in_list": { list: answer } });
            for ban in blocked(&data, "brutes", address()).into_iter().chain(blacklisted(&data, address())) {
                prop_assert!(holds(&ban.banned, address()));
            }
        }
    }
}
