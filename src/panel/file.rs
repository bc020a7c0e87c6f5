//! Files of the form `name: name`, one pair a line.

use crate::error::{Error, Result};
use nix::libc;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Largest file that is read: about a million domains.
const MOST: u64 = 64 * 1024 * 1024;

/// Longest name in it, in bytes: that of a domain (RFC 1035 §2.3.4).
const LONGEST: usize = 255;

/// Reads a file that root alone (in a sandbox: the caller) can write.
pub(super) fn read(path: &Path) -> Result<String> {
    // A pipe in the place of the file must not hold us.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(Error::file("read", path))?;
    let about = file.metadata().map_err(Error::file("examine", path))?;
    let shown = path.display();
    let is_ours = about.uid() == 0 || about.uid() == nix::unistd::geteuid().as_raw();
    if !about.is_file() || !is_ours || about.mode() & 0o022 != 0 {
        return Err(Error::NotAllowed(format!(
            "{shown} says who owns what, but others than root can write it: nothing in it is believed."
        )));
    }
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text).map_err(Error::file("read", path))?;
    if text.len() as u64 > MOST {
        return Err(Error::Data(format!(
            "{shown} is larger than {} MB: nothing in it is believed.",
            MOST >> 20
        )));
    }
    Ok(text)
}

/// The pairs of such a text; empty lines and lines that begin with `#` are left out. A line of another form makes the
/// whole text one that cannot be believed.
pub(super) fn pairs<'a>(text: &'a str, name: &str) -> Result<Vec<(&'a str, &'a str)>> {
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            pair(line).ok_or_else(|| {
                Error::Data(format!(
                    "Line {number} of {name} is not of the form `name: name`: nothing in it is believed."
                ))
            })
        })
        .collect()
}

fn pair(line: &str) -> Option<(&str, &str)> {
    let (left, right) = line.split_once(':')?;
    let (left, right) = (left.trim(), right.trim());
    (is_name(left) && is_name(right)).then_some((left, right))
}

/// Bytes that a name may have as they are.
const PLAIN: [bool; 256] = {
    let (mut plain, mut b) = ([false; 256], 0u8);
    while b < 128 {
        plain[b as usize] = b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+' | b'*' | b'@');
        b += 1;
    }
    plain
};

pub(super) fn is_name(text: &str) -> bool {
    let plain = |b: u8| PLAIN[usize::from(b)];
    let in_letters = |c: char| c.is_alphanumeric() || c.is_ascii() && plain(c as u8);
    !text.is_empty() && text.len() <= LONGEST && (text.bytes().all(plain) || text.chars().all(in_letters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn pairs_are_read_and_another_form_is_an_error_with_its_line() {
        let good = "# owners\n\na.test: ann\n b.test :ben \n*: nobody\n";
        assert_eq!(pairs(good, "f").unwrap(), [("a.test", "ann"), ("b.test", "ben"), ("*", "nobody")]);
        for bad in
            ["a.test", "a.test:", ": ann", "a.test: ann ben", "a.test: ann: ben", "a b: c", "a.test: \u{1b}x"]
        {
            let said = pairs(&format!("a.test: ann\n{bad}\n"), "/etc/owners").unwrap_err().to_string();
            assert!(said.contains("Line 2 of /etc/owners"), "{bad}: {said}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owners");
        std::fs::write(&path, "a.test: ann\n").unwrap();
        for (mode, code) in
            [(0o644, None), (0o640, None), (0o664, Some("not_allowed")), (0o646, Some("not_allowed"))]
        {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).err().map(|e| e.code()), code, "{mode:o}");
        }
        assert_eq!(read(folder.path()).unwrap_err().code(), "not_allowed");
        assert_eq!(read(&folder.path().join("none")).unwrap_err().code(), "file");
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        std::fs::write(&path, b"a.test: ann\n\xff\n").unwrap();
        assert_eq!(read(&path).unwrap_err().code(), "file");
        std::fs::File::create(&path).unwrap().set_len(MOST + 1).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("64 MB"));
    }

    #[test]
    fn a_pipe_in_the_place_of_the_file_holds_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owners");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert_eq!(read(&path).unwrap_err().code(), "not_allowed");
    }

    proptest! {
        #[test]
        fn any_text_is_pairs_of_names_or_an_error(text in "([a-z.*@:#\\- ]{0,20}\n){0,6}|\\PC{0,80}") {
            if let Ok(pairs) = pairs(&text, "f") {
                prop_assert!(pairs.iter().all(|(a, b)| is_name(a) && is_name(b)));
            }
        }

        #[test]
        fn what_is_written_is_read(written in proptest::collection::vec(("[a-z]{1,9}\\.test", "[a-z]{1,9}"), 0..9)) {
            let text: String = written.iter().map(|(a, b)| format!("{a}: {b}\n")).collect();
            let read = pairs(&text, "f").unwrap();
            prop_assert!(read.iter().map(|(a, b)| (a.to_string(), b.to_string())).eq(written));
        }
    }
}
