//! The network data: build them, look into them, say how old they are.

use super::arguments::Arguments;
use super::{Admin, Outcome, import};
use crate::address::{Address, AddressClass};
use crate::authority::become_owner_of;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::networks::{self, NetworkInfo, Networks, Provider, STALE_AFTER_DAYS, Sources, Tag};
use crate::paths::Paths;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Compiles the sources into the network data in use; gives the report of [`networks::compile`].
///
/// Called by root, it opens the sources (which only root may be able to read) and then **becomes the owner of
/// the data folder for good**: the process can do nothing as root after this call.
pub fn build(
    paths: &Paths,
    country_file: &Path,
    asn_files: &[PathBuf],
    allow_small: bool,
    now: Seconds,
) -> Result<Value> {
    let sources = Sources::open(country_file, asn_files, allow_small)?;
    become_owner_of(&paths.data())?;
    let report = networks::compile(&sources, &paths.networks(), now)?;
    serde_json::to_value(report).map_err(|e| Error::Data(format!("The report could not be written: {e}.")))
}

/// What the network data say of an address. `place` is `loopback`, `private`, `known` or `unknown`; the last
/// means that good data have no answer. Fails where there are no usable data.
pub fn look_up(paths: &Paths, address: Address) -> Result<Value> {
    let networks = Networks::open(&paths.networks())?;
    let info = networks.look_up(address)?;
    let place = match (address.class(), &info) {
        (AddressClass::Loopback, _) => "loopback",
        (AddressClass::Private, _) => "private",
        (AddressClass::Public, Some(NetworkInfo { country: Some(_), .. })) => "known",
        (AddressClass::Public, _) => "unknown",
    };
    let info = info.unwrap_or_default();
    Ok(json!({
        "address": address.to_string(),
        "place": place,
        "country": info.country,
        "country_name": info.country.and_then(|country| country.name()),
        "asn": info.asn,
        "name": info.name,
        "tags": info.tags,
        "built_at": networks.built_at(),
    }))
}

/// How good the marks in the data in use are. Providers' files are read as the caller.
pub fn report(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let words = given.text("provider").split(',').map(str::trim).filter(|word| !word.is_empty());
    let providers = words.map(provider).collect::<Result<Vec<_>>>()?;
    let networks = Networks::open(&admin.call.paths.networks())?;
    let coverage = networks::coverage(&networks, &providers)?;
    let mut warnings = Vec::new();
    if coverage.not_announced.len() == coverage.listed_systems {
        warnings.push(NO_SYSTEMS.to_owned());
    }
    let data = serde_json::to_value(coverage)
        .map_err(|e| Error::Data(format!("The report could not be written: {e}.")))?;
    Ok(Outcome { data, warnings, ..Outcome::default() })
}

/// What is told where no network is marked as a cloud network.
pub(super) const NO_SYSTEMS: &str = "The network data mark no cloud network: build them with an ASN table (`postern data build --country FILE --asn FILE`).";

/// Whether there are good data and no network in them is marked as a cloud network.
pub(super) fn marks_nothing(paths: &Paths) -> bool {
    Networks::open(&paths.networks()).and_then(|n| n.marks_systems(Tag::Hosting)).is_ok_and(|marks| !marks)
}

fn provider(word: &str) -> Result<Provider> {
    let (name, path) = word
        .split_once('=')
        .filter(|(name, path)| !name.is_empty() && !path.is_empty())
        .ok_or_else(|| Error::bad_value("The argument provider", word, "give it as NAME=FILE"))?;
    let file = std::fs::File::open(path).map_err(Error::file("open", path.as_ref()))?;
    Provider::read(name, &import::read(file, path)?)
}

/// Whether there are usable data, what they were made from and how old they are, with warnings as sentences.
/// Missing or broken data are an answer here, not an error.
pub fn status(paths: &Paths, now: Seconds) -> Result<Value> {
    let file = paths.networks();
    let networks = match Networks::open(&file) {
        Ok(networks) => networks,
        Err(e) => {
            let warning = format!("{e} Rules that need the country or owner of an address decide nothing.");
            return Ok(json!({ "file": file, "usable": false, "warnings": [warning] }));
        }
    };
    let days = (now - networks.built_at()).max(0) / 86_400; // data from the future count as new
    let mut warnings = Vec::new();
    if days > STALE_AFTER_DAYS {
        warnings.push(format!(
            "The network data are {days} days old; after {STALE_AFTER_DAYS} days they should be renewed."
        ));
    }
    let bytes = std::fs::metadata(&file).map_err(Error::file("examine", &file))?.len();
    Ok(json!({
        "file": file,
        "usable": true,
        "built_at": networks.built_at(),
        "age_days": days,
        "description": networks.description(),
        "bytes": bytes,
        "warnings": warnings,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::testing::{NOW, SOME_OWNERS, Scene, some_countries};
    use nix::unistd::Uid;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, chown};
    use std::process::Command;

    fn built(scene: &Scene) -> (Paths, Value) {
        let paths = Paths::below(scene.0.path());
        fs::create_dir_all(paths.data()).unwrap();
        let country = scene.file("country.mmdb", some_countries());
        let asn = [scene.file("asn.csv", SOME_OWNERS)];
        let report = build(&paths, &country, &asn, true, NOW).unwrap();
        (paths, report)
    }

    #[test]
    fn what_was_built_can_be_looked_up() {
        let scene = Scene::new();
        let (paths, report) = built(&scene);
        assert_eq!(report["country"]["countries"], 3);
        let found = look_up(&paths, "192.0.2.200".parse().unwrap()).unwrap();
        assert_eq!(found["country"], "DE");
        assert_eq!(found["country_name"], "Germany");
        assert_eq!((&found["asn"], &found["place"]), (&json!(64500), &json!("known")));
        assert_eq!(found["tags"], json!([]));
    }

    #[test]
    fn private_loopback_and_unknown_places_are_told_apart() {
        let scene = Scene::new();
        let (paths, _) = built(&scene);
        for (address, place) in [
            ("10.0.0.1", "private"),
            ("100.64.0.1", "private"),
            ("::1", "loopback"),
            ("192.0.3.0", "unknown"),
        ] {
            let found = look_up(&paths, address.parse().unwrap()).unwrap();
            assert_eq!((&found["place"], &found["country"]), (&json!(place), &Value::Null), "{address}");
        }
    }

    #[test]
    fn status_tells_age_and_warns_after_45_days() {
        let scene = Scene::new();
        let (paths, _) = built(&scene);
        for (later, age, warnings) in [(-9, 0, 0), (0, 1, 0), (44, 45, 0), (45, 46, 1)] {
            let status = status(&paths, NOW + later * 86_400).unwrap();
            assert_eq!(status["usable"], true);
            assert_eq!(status["age_days"], age);
            assert_eq!(status["warnings"].as_array().unwrap().len(), warnings, "{status}");
        }
    }

    #[test]
    fn missing_and_broken_data_are_a_status_with_a_warning() {
        let scene = Scene::new();
        let paths = Paths::below(scene.0.path());
        assert_eq!(status(&paths, NOW).unwrap()["usable"], false);
        fs::create_dir_all(paths.data()).unwrap();
        fs::write(paths.networks(), "garbage").unwrap();
        let status = status(&paths, NOW).unwrap();
        assert_eq!(status["usable"], false);
        assert!(status["warnings"][0].as_str().unwrap().contains("decide nothing"), "{status}");
        assert!(look_up(&paths, "192.0.2.1".parse().unwrap()).is_err());
    }

    const ROOT: &str = "POSTERN_TEST_DATA_BUILD";

    /// Runs alone in a process of its own for the test below, because root is given up for good.
    #[test]
    fn child() {
        let Some(root) = std::env::var_os(ROOT) else { return };
        let root = Path::new(&root);
        let outcome = build(&Paths::below(root), &root.join("country"), &[], true, NOW);
        println!("built {:?}", outcome.map(|_| ()).map_err(|e| e.to_string()));
    }

    #[test]
    fn root_reads_the_sources_but_the_owner_of_the_folder_writes() {
        if !Uid::effective().is_root() {
            return;
        }
        let scene = Scene::new();
        let paths = Paths::below(scene.0.path());
        fs::create_dir_all(paths.data()).unwrap();
        chown(paths.data(), Some(12345), Some(12346)).unwrap();
        let country = scene.file("country", some_countries());
        fs::set_permissions(&country, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::set_permissions(scene.0.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--nocapture", "admin::data::tests::child", "--test-threads=1"]);
        let output = child.env(ROOT, scene.0.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("built Ok(())"), "{said}");
        let about = paths.networks().metadata().unwrap();
        assert_eq!((about.uid(), about.gid(), about.mode() & 0o7777), (12345, 12346, 0o644));
    }
}
