//! The environment variables of the daemon.

use std::ffi::{CStr, CString};

use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::identity::User;
use crate::sys::{self, NotSingleThreaded, SingleThreaded, Uid, UserEntry, errno};

/// The variables of a user.
pub(crate) struct UserEnvironment([(&'static CStr, CString); 5]);

impl UserEnvironment {
    /// Makes the variables of an entry of the user database, or else of the effective user.
    ///
    /// # Errors
    ///
    /// If the user, or without one the effective user, has no entry.
    pub(crate) fn resolve(user: Option<&User>, entry: Option<UserEntry>) -> Result<Self, Error> {
        let refusal = ErrorKind::UserEnvironmentUnknown;
        match (entry, user) {
            (Some(entry), _) => Ok(Self::of(entry)),
            (None, Some(user)) => Err(Error::from(refusal).with_subject(user.subject())),
            (None, None) => {
                let effective = User::from(sys::geteuid().0);
                effective.resolve_entry(refusal).map(Self::of)
            }
        }
    }

    fn of(entry: UserEntry) -> Self {
        let path = match entry.uid {
            Uid::ROOT => sys::PATH_OF_ROOT,
            _ => sys::PATH_OF_USERS,
        };
        Self([
            (c"HOME", or_default(entry.home, c"/")),
            (c"USER", entry.name.clone()),
            (c"LOGNAME", entry.name),
            (c"SHELL", or_default(entry.shell, c"/bin/sh")),
            (c"PATH", path.to_owned()),
        ])
    }

    pub(crate) fn variables(&self) -> &[(&'static CStr, CString)] {
        &self.0
    }

    pub(crate) fn set(&self, single_threaded: &SingleThreaded) -> Result<(), Failure> {
        for (name, value) in &self.0 {
            sys::setenv(name, value, single_threaded).map_err(ErrorKind::SetEnvironment)?;
        }
        Ok(())
    }
}

/// passwd(5) allows empty fields.
fn or_default(value: CString, default: &CStr) -> CString {
    match value.is_empty() {
        true => default.to_owned(),
        false => value,
    }
}

/// Verifies that no other thread can read the environment while it changes.
///
/// A process that fork(2) has made is known to have one thread, unless a handler of
/// pthread_atfork(3) has made others. `forked` is the proof for its parent.
pub(crate) fn verify_unshared(forked: Option<SingleThreaded>) -> Result<SingleThreaded, Failure> {
    let refuse = |reason: String| {
        let failure = Failure::from(ErrorKind::SetEnvironment(errno::EPERM));
        Err(failure.with_reason(reason))
    };
    match (SingleThreaded::verify(), forked) {
        (Ok(single_threaded), _) | (Err(NotSingleThreaded::Unknown), Some(single_threaded)) => {
            Ok(single_threaded)
        }
        (Err(NotSingleThreaded::OthersRun), _) => {
            refuse("other threads may read it; start the daemon before they exist".to_owned())
        }
        (Err(NotSingleThreaded::Unknown), None) => refuse(format!(
            "the number of threads is unknown: {}",
            sys::WHY_THREADS_ARE_UNKNOWN
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Gid;

    fn variables(uid: Uid, home: &CStr, shell: &CStr) -> Vec<(&'static CStr, CString)> {
        let entry = UserEntry {
            name: c"clock".to_owned(),
            uid,
            primary_group: Gid(7),
            home: home.to_owned(),
            shell: shell.to_owned(),
        };
        UserEnvironment::of(entry).0.into()
    }

    fn expected(home: &CStr, shell: &CStr, path: &CStr) -> Vec<(&'static CStr, CString)> {
        [
            (c"HOME", home),
            (c"USER", c"clock"),
            (c"LOGNAME", c"clock"),
            (c"SHELL", shell),
            (c"PATH", path),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into()
    }

    #[test]
    fn an_entry_makes_five_variables() {
        let found = variables(Uid(7), c"/srv/clock", c"/usr/sbin/nologin");
        let must = expected(c"/srv/clock", c"/usr/sbin/nologin", sys::PATH_OF_USERS);
        assert_eq!(found, must);
    }

    #[test]
    fn empty_fields_have_defaults_and_root_has_another_path() {
        let found = variables(Uid::ROOT, c"", c"");
        assert_eq!(found, expected(c"/", c"/bin/sh", sys::PATH_OF_ROOT));
    }
}
