//! The look-up in `networks.mmdb`, made once by every hook process and often by the keeper.
//!
//! Opening maps the file and reads its short metadata, nothing more: whether the contents are sound was
//! checked when the file was built. Damage is an error, never a panic.

use super::ranges::{Range, key_of};
use super::record::{DATABASE_TYPE, Record};
use super::{Tag, Tags};
use crate::address::Address;
use crate::clock::Seconds;
use crate::country::Country;
use crate::error::{Error, Result};
use maxminddb::{LookupResult, MaxMindDbError, Mmap, Reader, WithinOptions};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The compiled network data, mapped into memory.
#[derive(Debug)]
pub struct Networks {
    reader: Reader<Mmap>,
}

/// What the data say of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetworkInfo {
    /// Where the network is used.
    pub country: Option<Country>,
    /// Number of the autonomous system (RFC 6793) that announces it.
    pub asn: Option<u32>,
    /// Name of that system's owner.
    pub name: Option<String>,
    /// What kind of network it is.
    pub tags: Tags,
}

impl TryFrom<Record<'_>> for NetworkInfo {
    type Error = Error;

    /// A stored code that is no code is damage, not an unknown country.
    fn try_from(record: Record<'_>) -> Result<Self> {
        Ok(NetworkInfo {
            country: record.country.map(str::parse).transpose()?,
            asn: record.asn,
            name: record.name.map(str::to_owned),
            tags: Tags::from_bits(record.tags),
        })
    }
}

impl Networks {
    /// Opens the compiled data.
    ///
    /// Fails with [`Error::File`] where the file cannot be opened, with [`Error::Data`] where it is not
    /// Postern's network data or is damaged so far that nothing can be looked up.
    pub fn open(path: &Path) -> Result<Networks> {
        let map = map_file(path, NAMED)?;
        let reader = Reader::from_source(map).map_err(|e| unusable(path, &e.to_string()))?;
        let found = &reader.metadata().database_type;
        if found != DATABASE_TYPE || reader.metadata().ip_version != 6 {
            let found: String = found.chars().take(64).collect();
            return Err(unusable(path, &format!("it is of the type {found:?}, not {DATABASE_TYPE:?}")));
        }
        Ok(Networks { reader })
    }

    /// What the data say of the address; nothing where they have no answer.
    ///
    /// Loopback and private addresses have no answer as far as the sources keep to public space; callers
    /// tell those by [`Address::class`] first. Fails with [`Error::Data`] where the file is damaged.
    pub fn look_up(&self, address: Address) -> Result<Option<NetworkInfo>> {
        self.record(address)?.map(NetworkInfo::try_from).transpose()
    }

    /// The stored answer, borrowed from the file.
    pub(super) fn record(&self, address: Address) -> Result<Option<Record<'_>>> {
        let ip = address.ip();
        if lies_over_ipv4(ip) {
            return Ok(None);
        }
        let answer = self.reader.lookup(ip).and_then(|found| found.decode());
        answer
            .map_err(|e| Error::Data(format!("The network data have no readable answer for {address}: {e}.")))
    }

    /// Every prefix that has a stored answer with that answer, in the order of the keys; walks the whole file.
    pub(super) fn records(&self) -> Result<impl Iterator<Item = Result<Range<Record<'_>>>>> {
        let damaged = |e| Error::Data(format!("The network data cannot be read to their end: {e}."));
        let all = self.reader.networks(WithinOptions::default().include_aliased_networks());
        Ok(all.map_err(damaged)?.map(move |found| {
            let found = found.map_err(damaged)?;
            let (first, last) = edges(&found).map_err(damaged)?;
            let value = found.decode().map_err(damaged)?.unwrap_or_default();
            Ok(Range { first, last, value })
        }))
    }

    /// Whether any network of a known system has this tag: not so in data that were compiled without an ASN table, nor
    /// before there was such a tag. Ends at the first one.
    pub fn marks_systems(&self, tag: Tag) -> Result<bool> {
        for record in self.records()? {
            let record = record?.value;
            if record.asn.is_some() && Tags::from_bits(record.tags).contains(tag) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many prefixes have a stored answer; walks the whole file.
    pub(super) fn count(&self) -> Result<u64> {
        let damaged = |e| Error::Data(format!("The network data cannot be read to their end: {e}."));
        let all = self.reader.networks(WithinOptions::default().include_aliased_networks());
        all.map_err(damaged)?.try_fold(0, |count, found| found.map(|_| count + 1).map_err(damaged))
    }

    /// When the country data in the file were built by whoever published them, epoch seconds: the age of
    /// the data counts from here, not from the day on which they were compiled.
    pub fn built_at(&self) -> Seconds {
        Seconds::try_from(self.reader.metadata().build_epoch).unwrap_or(Seconds::MAX)
    }

    /// What the file was compiled from, as a sentence.
    pub fn description(&self) -> &str {
        self.reader.metadata().description.get("en").map_or("", String::as_str)
    }
}

/// First and last key of the network that was found.
pub(super) fn edges<S: AsRef<[u8]>>(
    found: &LookupResult<'_, S>,
) -> std::result::Result<(u128, u128), MaxMindDbError> {
    let network = found.network()?;
    let (first, bits) = match network.ip() {
        IpAddr::V6(v6) => (v6.to_bits(), 128),
        v4 => (key_of(v4).unwrap_or_default(), 32),
    };
    let size = 1u128.checked_shl(bits - u32::from(network.prefix()));
    Ok((first, size.map_or(u128::MAX, |size| first + (size - 1))))
}

/// The file keeps IPv4 at `::/96`, as the format demands, so the few IPv6 addresses there (`::1.2.3.4`, long
/// deprecated by RFC 4291 §2.5.5.1) would be answered as the IPv4 address that they are not.
fn lies_over_ipv4(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_bits() >> 32 == 0)
}

/// What the file is called in sentences.
const NAMED: &str = "The network data";

fn unusable(path: &Path, why: &str) -> Error {
    not_usable(NAMED, path, why)
}

fn not_usable(what: &str, path: &Path, why: &str) -> Error {
    Error::Data(format!("{what} {} cannot be used: {why}.", path.display()))
}

/// Maps a regular file that is not empty. Without `O_NONBLOCK` a FIFO would block before it can be refused.
///
/// For files in the data folder that are published by rename alone. `what` begins the sentence of an error.
pub(crate) fn map_file(path: &Path, what: &str) -> Result<Mmap> {
    let nonblocking = nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file: File = file.map_err(Error::file("open", path))?;
    let about = file.metadata().map_err(Error::file("examine", path))?;
    if !about.is_file() {
        return Err(not_usable(what, path, "it is not a regular file"));
    }
    if about.len() == 0 {
        return Err(not_usable(what, path, "it is empty"));
    }
    // SAFETY: the map stays valid as long as nobody cuts or overwrites the file in place. The folder belongs
    // to user `postern` alone, and the only code that writes there (`compile`, here and in `feeds`) makes a new
    // file and renames it over the old one, whose contents live on until the last map of them is gone.
    unsafe { Mmap::map(&file) }.map_err(Error::file("map", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mmdb_writer::{IpVersion, Ipv4Aliasing, Writer};
    use std::path::PathBuf;
    use tempfile::TempDir;

    fn written(folder: &TempDir, database_type: &str) -> PathBuf {
        let mut writer = Writer::builder(database_type)
            .ip_version(IpVersion::V6)
            .ipv4_aliasing(Ipv4Aliasing::Disabled)
            .build();
        let tags = Tags::NONE.with(Tag::Hosting).bits();
        let full = Record { country: Some("DE"), asn: Some(64500), name: Some("Example"), tags };
        let bare = Record { country: Some("XK"), ..Record::default() };
        writer.insert("192.0.2.0/24".parse::<ipnet::IpNet>().unwrap(), &full).unwrap();
        writer.insert("2001:db8::/32".parse::<ipnet::IpNet>().unwrap(), &bare).unwrap();
        let path = folder.path().join("networks.mmdb");
        std::fs::write(&path, writer.to_bytes().unwrap()).unwrap();
        path
    }

    fn ask(networks: &Networks, address: &str) -> Option<NetworkInfo> {
        networks.look_up(address.parse().unwrap()).unwrap()
    }

    #[test]
    fn an_answer_has_what_the_record_has_and_no_more() {
        let folder = TempDir::new().unwrap();
        let networks = Networks::open(&written(&folder, DATABASE_TYPE)).unwrap();
        let full = ask(&networks, "::ffff:192.0.2.7").unwrap();
        assert_eq!(full.country.unwrap().as_str(), "DE");
        assert_eq!((full.asn, full.name.as_deref()), (Some(64500), Some("Example")));
        assert!(full.tags.contains(Tag::Hosting));
        let bare = ask(&networks, "2001:db8::1").unwrap();
        assert_eq!(bare, NetworkInfo { country: Some(Country::KOSOVO), ..NetworkInfo::default() });
        assert_eq!(ask(&networks, "192.0.3.0"), None);
        assert_eq!(ask(&networks, "2001:db9::"), None);
    }

    #[test]
    fn an_ipv6_address_that_only_looks_like_ipv4_has_no_answer() {
        let folder = TempDir::new().unwrap();
        let networks = Networks::open(&written(&folder, DATABASE_TYPE)).unwrap();
        assert_eq!(ask(&networks, "::192.0.2.7"), None);
    }

    #[test]
    fn a_database_of_another_kind_is_refused_by_name() {
        let folder = TempDir::new().unwrap();
        let error = Networks::open(&written(&folder, "GeoLite2-Country")).unwrap_err().to_string();
        assert!(error.contains("GeoLite2-Country"), "{error}");
    }

    #[test]
    fn what_is_no_database_is_an_error_and_never_a_panic() {
        let folder = TempDir::new().unwrap();
        let good = std::fs::read(written(&folder, DATABASE_TYPE)).unwrap();
        let path = folder.path().join("broken");
        for contents in [&b""[..], b"garbage", &[0; 4096], &good[..good.len() / 2], &good[good.len() / 2..]] {
            std::fs::write(&path, contents).unwrap();
            assert_eq!(Networks::open(&path).unwrap_err().code(), "data");
        }
        assert_eq!(Networks::open(folder.path()).unwrap_err().code(), "data");
        assert_eq!(Networks::open(&folder.path().join("missing")).unwrap_err().code(), "file");
    }

    #[test]
    fn a_pipe_is_refused_at_once() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(Networks::open(&path).unwrap_err().code(), "data");
    }

    #[test]
    fn a_byte_that_flipped_anywhere_never_panics() {
        let folder = TempDir::new().unwrap();
        let good = std::fs::read(written(&folder, DATABASE_TYPE)).unwrap();
        for at in 0..good.len() {
            let path = folder.path().join("flipped");
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            std::fs::write(&path, bytes).unwrap();
            if let Ok(networks) = Networks::open(&path) {
                let _ = networks.look_up("192.0.2.7".parse().unwrap());
                let _ = networks.look_up("2001:db8::7".parse().unwrap());
            }
        }
    }
}
