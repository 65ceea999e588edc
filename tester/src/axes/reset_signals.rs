//! `reset_signals`

use super::Axis;
use crate::model::start::Start;
use crate::report::SignalSet;

axis! {
    ResetSignals |stage| stage.config.options.reset_signals => {
        Unset => false;
        Reset => true;
    }
}

impl Axis for ResetSignals {}

impl Start<'_> {
    pub(crate) fn reset_signals(&mut self) {
        let left = |signals: Option<SignalSet>| {
            let none = SignalSet::default();
            let is_left = |signal: &i32| *signal == libc::SIGPIPE;
            signals.map(|set| set.iter().filter(is_left).fold(none, SignalSet::with))
        };
        let process = &mut self.process;
        process.ignored_signals = left(process.ignored_signals);
        process.caught_signals = left(process.caught_signals);
    }

    /// The mask becomes that of the launcher, unless signals are reset.
    pub(crate) fn restore_signal_mask(&mut self) {
        if self.options.reset_signals {
            let process = &mut self.process;
            process.blocked_signals = process.blocked_signals.map(|_| SignalSet::default());
        }
    }
}
