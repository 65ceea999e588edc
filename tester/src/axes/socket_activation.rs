//! `socket_activation`, and what a service manager has passed.

use super::descriptors::Descriptors;
use super::{Axis, Choice};
use crate::config::{self, Bytes, ExecPid};
use crate::model::databases::Databases;
use crate::model::start::Start;

axis! {
    SocketActivation |stage| stage.config.options.socket_activation => {
        Unset => false;
        Set => true;
    }
}

axis! {
    /// The process that the sockets and the watchdog are meant for.
    Activation |stage| stage.config.initial.activation => {
        None => None;
        OfLauncher => of(ExecPid::Own);
        OfParent => of(ExecPid::Parents);
    }
}

fn of(process: ExecPid) -> Option<config::Activation> {
    Some(config::Activation {
        process,
        sockets: vec!["first".to_owned(), "second".to_owned()],
    })
}

impl Axis for SocketActivation {}

impl Axis for Activation {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        (self != Self::None && other.descriptors == Some(Descriptors::CloseOnExec))
            .then_some("a descriptor has one file")
    }
}

/// Stands for the pid of the daemon in a predicted environment.
pub(crate) const PID_OF_DAEMON: &[u8] = b"\0the pid of the daemon";

impl Start<'_> {
    fn activation(&self) -> Option<&config::Activation> {
        let activation = self.config.initial.activation.as_ref()?;
        let is_meant = self.options.socket_activation && activation.process == ExecPid::Own;
        (is_meant && self.config.initial.is_environment_trusted()).then_some(activation)
    }

    pub(crate) fn is_activated(&self, number: i32) -> bool {
        self.activation()
            .is_some_and(|activation| activation.numbers().any(|found| found == number))
    }

    /// In the foreground, the variables name the process already.
    pub(crate) fn take_over_activation(&mut self) {
        if self.activation().is_none() || self.is_foreground() {
            return;
        }
        if let Some(environment) = &mut self.process.environment {
            let environment = &mut environment.changeable;
            for name in ["LISTEN_PID", "WATCHDOG_PID"] {
                environment.insert(Bytes::from(name), Bytes(PID_OF_DAEMON.to_vec()));
            }
            environment.remove(&Bytes::from("LISTEN_PIDFDID"));
        }
    }
}
