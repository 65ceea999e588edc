//! `user_environment`

use super::process::Threads;
use super::user::User;
use super::{Axis, Choice, Rights};
use crate::config::{Bytes, Identity};
use crate::model::failure::Failure;
use crate::model::start::Start;

axis! {
    UserEnvironment |stage| stage.config.options.user_environment => {
        Unset => false;
        Set => true;
    }
}

impl Axis for UserEnvironment {
    fn expected_failure(self, other: &Choice, _rights: Option<Rights>) -> Option<&'static str> {
        if self == Self::Unset {
            return None;
        }
        if other.user == Some(User::Number) {
            return Some("the user has no entry");
        }
        (other.threads == Some(Threads::Two))
            .then_some("in the foreground another thread may read the environment")
    }
}

/// The values of `PATH`, for root and for others.
const PATHS: [&str; 2] = if cfg!(target_os = "linux") {
    [
        "/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin",
        "/usr/local/bin:/bin:/usr/bin",
    ]
} else if cfg!(target_os = "freebsd") {
    ["/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"; 2]
} else {
    ["/usr/bin:/bin:/usr/sbin:/sbin", "/usr/bin:/bin"]
};

impl Start<'_> {
    pub(crate) fn look_up_environment(&mut self) -> Result<(), Failure> {
        if !self.options.user_environment {
            return Ok(());
        }
        let effective = Identity::from(self.credentials.uid.effective);
        let user = self.options.user.as_ref().unwrap_or(&effective);
        let databases = &self.initial_files.databases;
        let (name, entry) = match user {
            Identity::Name(name) => (Some(name.as_str()), databases.user(name)),
            Identity::Id(uid) => (databases.name_of(*uid), databases.user_by_id(*uid)),
        };
        let (Some(name), Some(entry)) = (name, entry) else {
            return Err(Failure::new("UserEnvironmentUnknown", None).with_subject(user));
        };
        let [path_of_root, path_of_others] = PATHS;
        let path = match entry.uid {
            0 => path_of_root,
            _ => path_of_others,
        };
        let or_default = |value: &str, default: &str| match value {
            "" => default.to_owned(),
            value => value.to_owned(),
        };
        self.user_environment = vec![
            ("HOME", or_default(&entry.home, "/")),
            ("USER", name.to_owned()),
            ("LOGNAME", name.to_owned()),
            ("SHELL", or_default(&entry.shell, "/bin/sh")),
            ("PATH", path.to_owned()),
        ];
        Ok(())
    }

    /// In the foreground, the other threads of the launcher may read the environment.
    pub(crate) fn verify_environment(&self) -> Result<(), Failure> {
        let has_other_threads = self.is_foreground() && self.config.initial.extra_threads > 0;
        if self.options.user_environment && has_other_threads {
            let failure = Failure::new("SetEnvironment", libc::EPERM);
            return Err(failure
                .with_reason("other threads may read it; start the daemon before they exist"));
        }
        Ok(())
    }

    pub(crate) fn set_user_environment(&mut self) {
        let variables = self.user_environment.iter();
        if let Some(environment) = &mut self.process.environment {
            let variables =
                variables.map(|(name, value)| (Bytes::from(*name), Bytes::from(value.as_str())));
            environment.changeable.extend(variables);
        }
    }
}
