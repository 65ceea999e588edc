//! `stdin`, `stdout` and `stderr`

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::caller::Caller;
use super::{Axis, Choice, Rights};
use crate::config::{Access, Bytes, Stream};
use crate::model::credentials::Right;
use crate::model::databases::Databases;
use crate::model::failure::Failure;
use crate::model::start::{NewFile, Opened, Start};
use crate::predict::NewIdentity;
use crate::report::{AccessMode, Descriptor, FileType};
use crate::texts::missing_directory;

const LOG_NAMES: [&str; 3] = ["", "standard output log file", "standard error log file"];

axis! {
    Input |stage| stage.config.options.stdin => {
        Unset => None;
        DevNull => Some(Stream::DevNull);
        Keep => Some(Stream::Keep);
        File => stage.stream("stdin", Access::Read, 20);
        /// A file whose descriptor is that of standard output.
        FromOutput => stage.stream("stdin", Access::Read, 1);
        /// A file whose descriptor is that of standard input already.
        FromInput => stage.stream("stdin", Access::Read, 0);
        NullWhenReady => Some(Stream::DevNull.until_ready());
    }
}

axis! {
    Output |stage| stage.config.options.stdout => {
        Unset => None;
        DevNull => Some(Stream::DevNull);
        Keep => Some(Stream::Keep);
        File => stage.stream("stdout", Access::Append, 21);
        /// A file whose descriptor is that of standard error.
        FromError => stage.stream("stdout", Access::Append, 2);
        /// A log file that does not exist.
        NewLog => Some(Stream::log(stage.scenario.path("stdout.log")));
        NewLogWhenReady => Some(Stream::log(stage.scenario.path("stdout.log")).until_ready());
        KeepWhenReady => Some(Stream::Keep.until_ready());
        LogInMissingDirectory => Some(Stream::log(stage.scenario.path("missing/stdout.log"))), fails;
    }
}

axis! {
    Errors |stage| stage.config.options.stderr => {
        Unset => None;
        DevNull => Some(Stream::DevNull);
        Keep => Some(Stream::Keep);
        File => stage.stream("stderr", Access::ReadWrite, 22);
        /// A file whose descriptor is that of standard input.
        FromInput => stage.stream("stderr", Access::ReadWrite, 0);
        /// A log file that exists.
        Log => {
            let path = stage.scenario.path("stderr.log");
            stage.file(&path, 0o600, b"");
            Some(Stream::log(path))
        };
        FileWhenReady => {
            let stream = stage.stream("stderr", Access::ReadWrite, 22);
            stream.map(Stream::until_ready)
        };
        NullWhenReady => Some(Stream::DevNull.until_ready());
    }
}

impl Axis for Input {}

impl Axis for Output {
    fn expected_failure(self, other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        let may_change_ids = rights.is_some_and(|rights| rights.may_change_ids);
        let is_root = rights.is_some_and(|rights| rights.is_root);
        let is_new_log = matches!(self, Self::NewLog | Self::NewLogWhenReady);
        if is_new_log && other.caller == Some(Caller::RealGroup) {
            return Some("the caller is not a member of its real group");
        }
        (is_new_log && may_change_ids && !is_root)
            .then_some("only root can give the log file to another user")
    }
}

impl Axis for Errors {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        (self == Self::FromInput && other.stdin == Some(Input::FromInput))
            .then_some("a descriptor has one owner")
    }
}

impl Start<'_> {
    /// Closes the sources, and leaves 0, 1 and 2 as configured. After a failure of another step,
    /// opens no log files.
    pub(crate) fn redirect(
        &mut self,
        identity: Option<&NewIdentity>,
        opens_logs: bool,
    ) -> Result<(), Failure> {
        let options = [
            &self.options.stdin,
            &self.options.stdout,
            &self.options.stderr,
        ];
        let unset = match self.is_foreground() {
            true => Stream::Keep,
            false => Stream::DevNull,
        };
        let streams = options.map(|stream| stream.as_ref().unwrap_or(&unset));
        let mut logs = [const { None }; 3];
        for (index, stream) in streams.into_iter().enumerate() {
            if let (Stream::Log(path), true) = (stream.when_ready(), opens_logs) {
                logs[index] = Some(self.open_log(&path, LOG_NAMES[index], identity)?);
            }
        }
        let Some(before) = &self.process.descriptors else {
            return Ok(());
        };
        let mut after = Vec::new();
        let mut pending = [const { None }; 3];
        for (index, number) in (0..3).enumerate() {
            let kept = before.iter().find(|found| found.number == number);
            let descriptor = |stream: &Stream| match (stream, kept) {
                (Stream::File(_), _) => self.source(index).cloned().expect("opened beforehand"),
                (Stream::Keep, Some(kept)) => kept.clone(),
                (Stream::Log(_), _) => logs[index].clone().unwrap_or_else(|| self.null_device()),
                _ => self.null_device(),
            };
            let then = descriptor(&streams[index].when_ready());
            let is_kept = matches!(streams[index], Stream::UntilReady(_)) && opens_logs;
            let stream = match is_kept {
                true => descriptor(&Stream::Keep),
                false => then.clone(),
            };
            let is_still_kept = *streams[index] == Stream::Keep.until_ready() && kept.is_some();
            if is_kept && !is_still_kept {
                pending[index] = Some(Descriptor {
                    number: -1,
                    close_on_exec: Some(true),
                    ..then
                });
            }
            after.push(Descriptor {
                number,
                close_on_exec: Some(false),
                ..stream
            });
        }
        let others = before.iter();
        let others = others.filter(|found| found.number > 2 && !self.is_source(found));
        after.extend(others.cloned());
        self.process.descriptors = Some(after);
        self.pending = pending;
        self.is_redirected = true;
        if self.is_foreground() && self.initial_files.is_notified {
            // The socket of the service manager.
            self.opened.push(Opened::Channel);
        }
        Ok(())
    }

    /// The daemon is ready, or its failure is reported.
    pub(crate) fn replace_kept_streams(&mut self) {
        let streams = self.process.descriptors.iter_mut().flatten();
        for (stream, pending) in streams.zip(&mut self.pending) {
            if let Some(then) = pending.take() {
                *stream = Descriptor {
                    number: stream.number,
                    close_on_exec: Some(false),
                    ..then
                };
            }
        }
    }

    /// Opens a log file, or creates it for the daemon.
    fn open_log(
        &mut self,
        path: &Bytes,
        name: &str,
        identity: Option<&NewIdentity>,
    ) -> Result<Descriptor, Failure> {
        let shown = self.initial_files.base.join(path.to_path());
        let failed = |kind, errno| Failure::new(kind, errno).at(Some(path)).with_name(name);
        let directory = shown.parent().expect("the path of a case");
        let (device, inode) = match self.initial_files.files.0.get(&shown) {
            Some(file) => file.identity,
            None if !directory.exists() => {
                return Err(failed("OpenLogFile", libc::ENOENT)
                    .with_reason(missing_directory(directory.display())));
            }
            None => {
                let me = &self.credentials;
                let user = identity.and_then(|new| new.user);
                let group = identity.and_then(|new| new.group);
                let above = fs::metadata(directory).expect("the directory exists");
                let new_group = me.group_of_new_file(above.gid(), above.mode());
                let uid = user.unwrap_or(me.uid.effective);
                let gid = group.unwrap_or(new_group);
                let may_keep =
                    uid == me.uid.effective && (gid == new_group || me.is_member_of(gid));
                if !may_keep && !me.has(Right::Chown) {
                    let failure = failed("ChownLogFile", libc::EPERM);
                    return Err(failure.refused(me, "changing the owner of a file", "CAP_CHOWN"));
                }
                let mode = 0o640 & !self.process.umask.expect("the umask is seen");
                self.new_files.push(NewFile {
                    path: shown,
                    mode,
                    uid,
                    gid,
                });
                NewFile::identity(self.new_files.len())
            }
        };
        Ok(Descriptor {
            device: Some(device),
            inode: Some(inode),
            file_type: FileType::Regular,
            special_device: 0,
            access: AccessMode::Write,
            append: true,
            ..self.null_device()
        })
    }

    pub(crate) fn null_device(&self) -> Descriptor {
        let null = self
            .initial_files
            .null_device
            .as_ref()
            .expect("/dev/null is there");
        Descriptor {
            number: -1,
            device: Some(null.dev()),
            inode: Some(null.ino()),
            file_type: FileType::CharacterDevice,
            special_device: null.rdev(),
            access: AccessMode::ReadWrite,
            close_on_exec: Some(false),
            nonblocking: false,
            append: false,
            locked: cfg!(target_os = "linux").then_some(false),
            target: None,
        }
    }
}
