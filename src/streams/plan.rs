//! The streams of a start, as far as they must be known before the fork.

use std::os::fd::RawFd;

use super::reopen::Log;
use super::{Source, Stdio, Streams};

/// The streams, with what must be allocated before the fork. Between fork(2) and the first
/// closure nothing of it is freed.
#[derive(Debug, Default)]
pub(crate) struct StreamsPlan {
    pub(super) streams: Streams,
    /// The log files, for the streams that are one.
    pub(super) logs: [Option<Log>; 3],
    /// The log files of the launcher that the daemon's streams have replaced.
    pub(super) former_logs: [Option<Log>; 3],
}

impl StreamsPlan {
    pub(crate) fn new(streams: Streams, logs: [Option<Log>; 3]) -> Self {
        Self {
            streams,
            logs,
            former_logs: [None, None, None],
        }
    }

    /// The numbers of the descriptors that become streams.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.streams.iter().flatten().filter_map(Stdio::descriptor)
    }

    pub(super) fn is_kept_until_ready(&self, index: usize) -> bool {
        self.streams[index]
            .as_ref()
            .is_some_and(|stdio| stdio.is_kept_until_ready)
    }

    /// Keeps no stream until the daemon is ready.
    pub(crate) fn replace_at_once(&mut self) {
        for stream in self.streams.iter_mut().flatten() {
            stream.is_kept_until_ready = false;
        }
    }

    /// Whether the daemon's standard error is the null device before the daemon is ready.
    pub(crate) fn is_standard_error_null(&self) -> bool {
        self.streams[2].as_ref().is_none_or(|stdio| {
            matches!(stdio.source, Source::Devnull) && !stdio.is_kept_until_ready
        })
    }
}
