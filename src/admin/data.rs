//! The network data: build them, look into them, say how old they are.

use crate::address::{Address, AddressClass};
use crate::authority::become_owner_of;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::networks::{self, NetworkInfo, Networks, STALE_AFTER_DAYS, Sources};
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
