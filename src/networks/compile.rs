//! Compiling sources into `networks.mmdb`.
//!
//! The file in use is never touched: a new one is written beside it, asked at both ends of every range and
//! of every gap, and only then renamed over it. Whatever goes wrong before that leaves the old file as it
//! was. The same sources always give the same bytes.
//!
//! The format is MaxMind's (MMDB 2.0), so that other tools read the file too. In the writer used here the
//! last insert wins, not the most specific, so only disjoint prefixes are ever inserted.

use super::Tags;
use super::lookup::Networks;
use super::marked::{self, Marked};
use super::ranges::{Overlay, Range, address_of, prefixes, push_joined};
use super::record::{DATABASE_TYPE, Record};
use super::report::Report;
use super::sources::Sources;
use super::sources::asn::{self, AsnTable, OwnerId};
use super::sources::country::{self, Countries};
use crate::clock::{Seconds, readable};
use crate::country::Country;
use crate::error::{Error, Result};
use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{BufWriter, Write};
use std::mem::take;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What the layers say of a range: country, owner, and how we mark it.
type Answer = (Option<Country>, Option<OwnerId>, Tags);

/// Compiles the sources and publishes the result as `out`, mode 0644.
///
/// `now` is compared with the dates in the sources. Fails with [`Error::Data`] where a source is refused,
/// another build of the same file runs or the written file gives a wrong answer, with [`Error::File`] where
/// the file cannot be written; `out` is then as it was before.
pub fn compile(sources: &Sources, out: &Path, now: Seconds) -> Result<Report> {
    let begun = Instant::now();
    let _locked = lock(out)?;
    let mut countries = country::read(&sources.country, sources.allow_small, now)?;
    let mut owners = asn::read(&sources.asn, sources.allow_small)?;
    let marked = marked::marked()?;
    let mut report = blank_report(&countries, &owners, &marked);
    let ranges = laid_over(take(&mut countries.ranges), take(&mut owners.ranges), marked, &owners);
    report.ranges = ranges.len() as u64;
    let database = filled(&ranges, &owners, &mut report)?;
    let database = described(database, sources, &countries);

    let new = Unpublished { path: beside(out, ".new"), published: false };
    report.bytes = new.write(&database)?;
    drop(database);
    check(&new.path, &ranges, &owners, report.prefixes)?;
    new.publish(out)?;
    report.seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// Held until the handle is dropped, so that two builds never write the same file. The lock is a file of its
/// own that only its owner can open: any local user could lock the folder or the data for ever.
fn lock(out: &Path) -> Result<File> {
    let path = beside(out, ".lock");
    let handle = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let handle = handle.map_err(Error::file("open", &path))?;
    match handle.try_lock() {
        Ok(()) => Ok(handle),
        Err(TryLockError::WouldBlock) => {
            let out = out.display();
            Err(Error::Data(format!("Another build of {out} is running: wait for its end.")))
        }
        Err(TryLockError::Error(source)) => Err(Error::file("lock", &path)(source)),
    }
}

fn beside(out: &Path, ending: &str) -> PathBuf {
    let mut path = out.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Takes the layers, so that their memory is free again before the tree is built. `names` leads from the owners
/// to their numbers.
fn laid_over(
    countries: Vec<Range<Country>>,
    owners: Vec<Range<OwnerId>>,
    marked: Marked,
    names: &AsnTable,
) -> Vec<Range<Answer>> {
    let mut ranges = Vec::new();
    let sources = Overlay::new(countries.into_iter(), owners.into_iter());
    for range in Overlay::new(sources, marked.ranges.into_iter()) {
        let (country, owner) = range.value.0.unwrap_or_default();
        let of_system = owner.and_then(|id| marked.systems.get(&names.owner(id).0)).copied();
        let tags = range.value.1.unwrap_or_default().or(of_system.unwrap_or_default());
        let value = (country, owner, tags);
        push_joined(&mut ranges, Range { first: range.first, last: range.last, value });
    }
    ranges
}

fn blank_report(countries: &Countries, owners: &AsnTable, marked: &Marked) -> Report {
    let announced: HashSet<u32> = owners.numbers().collect();
    Report {
        country: countries.report.clone(),
        asn: owners.reports.clone(),
        asn_overlaps: owners.overlaps,
        listed_systems: marked.systems.len() as u64,
        listed_systems_found: marked.systems.keys().filter(|asn| announced.contains(asn)).count() as u64,
        ranges: 0,
        prefixes: 0,
        records: 0,
        bytes: 0,
        seconds: 0.0,
        warnings: [&countries.warnings[..], &owners.warnings[..]].concat(),
    }
}

fn record_of<'a>((country, owner, tags): &'a Answer, owners: &'a AsnTable) -> Record<'a> {
    let (asn, name) = owner.map(|id| owners.owner(id)).unzip();
    Record {
        country: country.as_ref().map(Country::as_str),
        asn,
        name: name.filter(|n| !n.is_empty()),
        tags: tags.bits(),
    }
}

/// The search tree with every answer stored once.
fn filled(ranges: &[Range<Answer>], owners: &AsnTable, report: &mut Report) -> Result<Database> {
    let mut database = Database::default();
    let mut stored = HashMap::new();
    for range in ranges {
        let place = match stored.get(&range.value) {
            Some(place) => *place,
            None => {
                let record = record_of(&range.value, owners);
                let place = database.insert_value(record).map_err(|e| Error::Data(unwritable(&e)))?;
                *stored.entry(range.value).or_insert(place)
            }
        };
        for (key, length) in prefixes(range.first, range.last) {
            database.insert_node((0..length).map(move |bit| key >> (127 - bit) & 1 == 1), place);
            report.prefixes += 1;
        }
    }
    report.records = stored.len() as u64;
    Ok(database)
}

fn unwritable(e: &maxminddb_writer::Error) -> String {
    format!("The network data could not be put into their file's form: {e}.")
}

/// The build date is the country source's, because that is the age of the answers; the day on which they
/// were compiled is the file's own date.
fn described(mut database: Database, sources: &Sources, countries: &Countries) -> Database {
    let built_at = countries.report.built_at;
    let country = format!("Countries from {} ({})", sources.country.name(), readable(built_at));
    let tables: Vec<String> = sources.asn.iter().map(|source| source.name()).collect();
    let owners =
        if tables.is_empty() { String::new() } else { format!(", owners from {}", tables.join(", ")) };
    let metadata = &mut database.metadata;
    metadata.ip_version = IpVersion::V6;
    metadata.database_type = DATABASE_TYPE.to_owned();
    metadata.languages = vec!["en".to_owned()];
    metadata.binary_format_major_version = 2;
    metadata.build_epoch = u64::try_from(built_at).unwrap_or_default();
    metadata.description =
        HashMap::from([("en".to_owned(), format!("{country}{owners}; compiled by Postern."))]);
    database
}

/// Asks the written file, as hooks will, at both ends of every range and just outside of it; and counts its
/// prefixes, so that nothing hides inside a gap.
fn check(path: &Path, ranges: &[Range<Answer>], owners: &AsnTable, written: u64) -> Result<()> {
    let networks = Networks::open(path)?;
    let found = networks.count()?;
    if found != written {
        return Err(wrong(&format!("hold {found} prefixes where {written} were written")));
    }
    let mut unspoken = Some(0u128); // the first key after the range before
    for range in ranges {
        let record = record_of(&range.value, owners);
        for key in [range.first, range.last] {
            check_one(&networks, key, Some(record))?;
        }
        if let Some(gap) = unspoken.filter(|gap| *gap < range.first) {
            check_one(&networks, gap, None)?;
            check_one(&networks, range.first - 1, None)?;
        }
        unspoken = range.last.checked_add(1);
    }
    unspoken.map_or(Ok(()), |gap| check_one(&networks, gap, None))
}

fn check_one(networks: &Networks, key: u128, expected: Option<Record>) -> Result<()> {
    let Some(address) = address_of(key) else { return Ok(()) };
    if networks.record(address)? == expected {
        return Ok(());
    }
    Err(wrong(&format!("answer wrongly for {address}")))
}

fn wrong(what: &str) -> Error {
    Error::Data(format!(
        "The compiled network data {what}, so they were not put into use. This is a mistake in Postern: please report it with the names of the sources."
    ))
}

/// A file that is not in use yet; removed again unless it is published.
struct Unpublished {
    path: PathBuf,
    published: bool,
}

impl Unpublished {
    /// Writes and stores the file; gives its size. A rest of a build that was killed makes way: the lock
    /// says that nobody else works on it.
    fn write(&self, database: &Database) -> Result<u64> {
        let path = &self.path;
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file("remove", path)(e)),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
        let mut writer = BufWriter::with_capacity(1 << 16, file.map_err(Error::file("create", path))?);
        database.write_to(&mut writer).map_err(|e| match e {
            maxminddb_writer::Error::IO(source) => Error::file("write", path)(source),
            other => Error::Data(unwritable(&other)),
        })?;
        writer.flush().map_err(Error::file("write", path))?;
        let file = writer.get_ref();
        file.set_permissions(Permissions::from_mode(0o644)).map_err(Error::file("open to readers", path))?;
        file.sync_all().map_err(Error::file("store", path))?;
        file.metadata().map(|about| about.len()).map_err(Error::file("examine", path))
    }

    fn publish(mut self, out: &Path) -> Result<()> {
        std::fs::rename(&self.path, out).map_err(Error::file("replace", out))?;
        self.published = true;
        // The new data are in use now. A power cut before the folder is stored brings the old ones back, whole.
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.path); // nothing more can be done about a rest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::testing::{NOW, SOME_OWNERS, Scene, opened, some_countries};

    /// What the check must notice is tried by telling it other ranges than those that were written.
    #[test]
    fn the_check_notices_every_wrong_missing_or_superfluous_answer() {
        let scene = Scene::new();
        let tables = [scene.file("asn.csv", SOME_OWNERS)];
        let sources = opened(&scene.file("country.mmdb", some_countries()), &tables);
        let out = scene.path("networks.mmdb");
        compile(&sources, &out, NOW).unwrap();

        let countries = country::read(&sources.country, true, NOW).unwrap();
        let owners = asn::read(&sources.asn, true).unwrap();
        let right = laid_over(countries.ranges, owners.ranges.clone(), marked::marked().unwrap(), &owners);
        let check = |ranges: &[Range<Answer>]| {
            let written = ranges.iter().map(|range| prefixes(range.first, range.last).count() as u64).sum();
            check(&out, ranges, &owners, written)
        };
        check(&right).unwrap();
        for i in 0..right.len() {
            let mut other = right.clone();
            other[i].value.0 = Some("ZZ".parse().unwrap());
            assert!(check(&other).is_err(), "another country in {i}");
            other = right.clone();
            other.remove(i);
            assert!(check(&other).is_err(), "an answer too many in {i}");
            other = right.clone();
            other[i].last -= 1;
            assert!(check(&other).is_err(), "an answer too long in {i}");
        }
    }
}
