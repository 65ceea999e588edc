//! `keep_capabilities` and `ambient_capabilities` (Linux). The sets are part of
//! [`predict::identity`](crate::predict).

use super::caller::Caller;
use super::privileged_action::Action;
use super::process::Threads;
use super::{Axis, Choice, Rights};
use crate::config::Identity;
use crate::model::failure::Failure;
use crate::model::start::Start;
use crate::sys;

axis! {
    KeepCapabilities |stage| stage.config.options.keep_capabilities => {
        Unset => None;
        /// All capabilities are dropped, in any daemon.
        Nothing => Some(Vec::new());
        BindPorts => Some(vec![BIND_PORTS]);
        /// A daemon that is not root could become root.
        ChangeUser => Some(vec![CHANGE_USER]);
        /// No kernel has it.
        Reserved => Some(vec![64]), fails;
    }
}

axis! {
    AmbientCapabilities |stage| stage.config.options.ambient_capabilities => {
        Unset => None;
        BindPorts => Some(vec![BIND_PORTS]);
    }
}

/// Of <linux/capability.h>.
const CHANGE_USER: u8 = 7;
const BIND_PORTS: u8 = 10;

impl Axis for KeepCapabilities {
    fn expected_failure(self, other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        match self {
            Self::Unset => None,
            Self::ChangeUser => Some("only a daemon that stays root may keep it"),
            _ => keeping_fails(other, rights, self != Self::Nothing),
        }
    }
}

impl Axis for AmbientCapabilities {
    fn expected_failure(self, other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        match self {
            Self::Unset => None,
            Self::BindPorts => keeping_fails(other, rights, true),
        }
    }
}

fn keeping_fails(
    other: &Choice,
    rights: Option<Rights>,
    binds_ports: bool,
) -> Option<&'static str> {
    let may_bind_ports = rights.is_none_or(|rights| rights.may_bind_ports);
    let another_thread =
        other.threads == Some(Threads::Two) || other.privileged_action == Some(Action::MakesThread);
    if !cfg!(target_os = "linux") {
        Some("only Linux has capabilities")
    } else if binds_ports && !may_bind_ports {
        Some("the launcher lacks the capability")
    } else if another_thread {
        Some("the other thread may keep its capabilities")
    } else if matches!(other.caller, Some(Caller::SavedRoot | Caller::RealRoot)) {
        Some("without `user`, the real or saved user stays root")
    } else {
        None
    }
}

/// The capabilities that the options keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) permitted: u64,
    pub(crate) ambient: u64,
}

impl Start<'_> {
    /// Returns `None` if no option keeps capabilities.
    pub(crate) fn kept_capabilities(&self) -> Option<Kept> {
        let kept = &self.options.keep_capabilities;
        let ambient = &self.options.ambient_capabilities;
        let mask = |numbers: &Option<Vec<u8>>| {
            let numbers = numbers.iter().flatten();
            numbers.fold(0, |mask, number| mask | 1_u64 << number)
        };
        kept.as_ref().or(ambient.as_ref())?;
        Some(Kept {
            permitted: mask(kept) | mask(ambient),
            ambient: mask(ambient),
        })
    }

    /// Refuses a capability that the launcher lacks.
    pub(crate) fn check_kept_capabilities(&self) -> Result<(), Failure> {
        let numbers = [
            &self.options.keep_capabilities,
            &self.options.ambient_capabilities,
        ];
        let mut numbers = numbers.into_iter().flatten().flatten();
        if numbers.any(|&number| number > 63) {
            let failure = Failure::new("KeepCapabilities", libc::EINVAL);
            return Err(failure.with_reason("no kernel has a capability above 63"));
        }
        let Some(kept) = self.kept_capabilities() else {
            return Ok(());
        };
        let me = &self.credentials;
        let lacking = kept.permitted & !me.capabilities.map_or(0, |sets| sets.permitted);
        if lacking == 0 {
            return Ok(());
        }
        let name = |(mask, name)| (lacking & mask != 0).then_some(name);
        let known = [
            (sys::CAP_SETUID, "CAP_SETUID"),
            (sys::CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"),
        ];
        let names: Vec<&str> = known.into_iter().filter_map(name).collect();
        let names = names.join(", ");
        let reason = match me.uid.effective {
            0 => format!(
                "this process runs as root, but lacks {names}: allow it in the container, \
                 the service or the user namespace"
            ),
            uid => format!(
                "this process runs as uid {uid}, and lacks {names}: start it as root, or give it \
                 to the program by setcap(8), or to the service by AmbientCapabilities="
            ),
        };
        Err(Failure::new("KeepCapabilities", libc::EPERM).with_reason(reason))
    }

    pub(crate) fn refuse_capabilities_elsewhere(&self) -> Result<(), Failure> {
        let options = [
            ("keep_capabilities", &self.options.keep_capabilities),
            ("ambient_capabilities", &self.options.ambient_capabilities),
        ];
        let mut options = options.into_iter();
        match options.find(|(_, option)| option.is_some() && !cfg!(target_os = "linux")) {
            Some((name, _)) => {
                Err(Failure::new("Unsupported", None).with_subject(&Identity::from(name)))
            }
            None => Ok(()),
        }
    }
}
