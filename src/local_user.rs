//! Local users by their number, from `/etc/passwd` alone: a hook asks no directory service, which could be slow
//! or hang.

use crate::paths::Paths;

/// The name of the user with this number; none where the file has no such user.
pub fn name_of(paths: &Paths, uid: u32) -> Option<String> {
    named_in(&std::fs::read(paths.root().join("etc/passwd")).ok()?, uid)
}

/// Number and home of the user with this name.
pub fn home_of(paths: &Paths, name: &str) -> Option<(u32, String)> {
    let users = std::fs::read_to_string(paths.root().join("etc/passwd")).ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let (uid, home) = (fields.nth(1)?.parse().ok()?, fields.nth(2)?);
        home.starts_with('/').then(|| (uid, home.to_owned()))
    })
}

/// Lines are `name:password:uid:…` (passwd(5)); the first one with the number counts, as for everybody else.
fn named_in(users: &[u8], uid: u32) -> Option<String> {
    users.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        let number = std::str::from_utf8(number).ok()?.parse::<u32>().ok()?;
        (number == uid && !name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_user_is_found_by_its_number_and_the_first_one_counts() {
        let users = b"root:x:0:0::/root:/bin/sh\n# 7:x:7\n\nbroken\nweb:x:2001:2001::/:\nshop:x:2001:1::/:\n";
        assert_eq!(named_in(users, 2001).as_deref(), Some("web"));
        assert_eq!(named_in(users, 0).as_deref(), Some("root"));
        assert_eq!((named_in(users, 1), named_in(b"", 0), named_in(b"::0:", 0)), (None, None, None));
    }

    proptest! {
        #[test]
        fn any_file_is_read(users in proptest::collection::vec(any::<u8>(), 0..200), uid: u32) {
            named_in(&users, uid);
        }
    }
}
