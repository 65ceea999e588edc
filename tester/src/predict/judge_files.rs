//! Compares the pid file, and the other files of the case.

use super::judge::{Judge, judge_text};
use crate::harness::{Files, Outcome, PidFile, SeenFile};
use crate::model::initial_files::successor_path;
use crate::model::start::{ExpectedDirectory, ExpectedPidFile, NewFile, Prediction};

pub(crate) fn judge_pid_file(judge: &mut Judge, prediction: &Prediction, outcome: &Outcome) {
    let must = prediction.pid_file.as_ref();
    let place = must.and_then(|must| must.place.clone());
    let is_hidden = prediction.is_pid_file_hidden;
    let (moment, is) = ("pid file", &outcome.pid_file);
    judge_pid_file_at(judge, moment, is_hidden, must, outcome, is);
    // A daemon that ends leaves the file without a lock, unless it has a guard.
    let must = must.filter(|_| !prediction.is_pid_file_removed);
    let at_end = must.map(|must| ExpectedPidFile {
        locked: prediction.is_pid_file_held && !prediction.is_pid_file_opened,
        place: place.or(outcome.pid_file_place.clone()),
        ..must.clone()
    });
    let (moment, is) = ("pid file at the end", &outcome.pid_file_at_end);
    let is_hidden = is_hidden && !prediction.is_pid_file_removed;
    judge_pid_file_at(judge, moment, is_hidden, at_end.as_ref(), outcome, is);
}

pub(crate) fn judge_pid_file_at(
    judge: &mut Judge,
    moment: &str,
    is_hidden: bool,
    must: Option<&ExpectedPidFile>,
    outcome: &Outcome,
    is: &Option<Option<PidFile>>,
) {
    judge.compare(
        format!("{moment}: may not be looked at"),
        is_hidden,
        is.is_none(),
    );
    let (false, Some(is)) = (is_hidden, is) else {
        return;
    };
    let is = is.as_ref();
    judge.compare(format!("{moment}: is there"), must.is_some(), is.is_some());
    let (Some(must), Some(is)) = (must, is) else {
        return;
    };
    let bytes = match must.is_pid {
        // If there is no daemon, the launcher has written its own pid in the foreground.
        true => format!("{}\n", outcome.daemon().unwrap_or(outcome.launcher)).into_bytes(),
        false => must.bytes.clone(),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    judge.compare(format!("{moment}: content"), text(&bytes), text(&is.bytes));
    judge.compare(
        format!("{moment}: mode"),
        format!("{:04o}", must.mode),
        format!("{:04o}", is.mode),
    );
    judge.compare(format!("{moment}: owner"), must.uid, is.uid);
    judge.compare(format!("{moment}: group"), must.gid, is.gid);
    judge.compare(format!("{moment}: locked"), must.locked, is.locked);
    // The identity of a new file cannot be predicted.
    if let Some(place) = &must.place {
        judge.compare(format!("{moment}: identity"), place, &is.place);
    }
}

/// `S_IFREG`, whose type differs between platforms.
const REGULAR: u32 = 0o100_000;

/// Gives the files that the start creates their identities. They then count as files that were
/// there before, and were empty.
pub(crate) fn with_new_files(prediction: &Prediction, outcome: &Outcome) -> Prediction {
    let mut prediction = prediction.clone();
    for (index, new) in prediction.new_files.iter().enumerate() {
        let placeholder = NewFile::identity(index + 1);
        let found = outcome.files.0.get(&new.path);
        let identity = found.map_or(placeholder, |found| found.identity);
        let reports = (prediction.reports.iter_mut()).chain(&mut prediction.afterwards);
        let of_reports = reports.flat_map(|expected| {
            let open = expected.report.descriptors.iter_mut().flatten();
            open.chain(&mut expected.pending)
        });
        let of_writes = prediction.writes.iter_mut().map(|(to, _)| to);
        for descriptor in of_reports.chain(of_writes) {
            if (descriptor.device, descriptor.inode) == (Some(placeholder.0), Some(placeholder.1)) {
                (descriptor.device, descriptor.inode) = (Some(identity.0), Some(identity.1));
            }
        }
        let seen = SeenFile {
            identity,
            mode: REGULAR | new.mode,
            uid: new.uid,
            gid: new.gid,
            links: Some(1),
            // The mode may forbid the harness to read it.
            content: (found.is_none_or(|found| found.content.is_some())).then(Vec::new),
            target: None,
        };
        prediction.files.0.insert(new.path.clone(), seen);
    }
    prediction
}

/// Compares the files of the case: only the files that are written to may change.
pub(crate) fn judge_files(judge: &mut Judge, prediction: &Prediction, outcome: &Outcome) {
    let pid_file = (outcome.pid_file_path.as_ref())
        .filter(|_| prediction.is_pid_file_opened)
        .and_then(|path| Files::name_of(path));
    let successor = (outcome.pid_file_path.as_ref())
        .filter(|_| prediction.is_upgrade)
        .and_then(|path| Files::name_of(&successor_path(path)));
    let (before, after) = (&prediction.files.0, &outcome.files.0);
    let directories = &prediction.directories;
    let created = directories.iter().map(|directory| &directory.path);
    let mut paths: Vec<_> = before.keys().chain(after.keys()).chain(created).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        if [pid_file.as_ref(), successor.as_ref()].contains(&Some(path)) {
            continue;
        }
        let (mut must, mut is) = (before.get(path).cloned(), after.get(path).cloned());
        if let Some(directory) = directories.iter().find(|directory| directory.path == *path) {
            must = Some(expected_directory(directory, must, is.as_ref()));
        }
        let identity = must.as_ref().map(|file| file.identity);
        let is_written =
            (prediction.writes.iter()).any(|(to, _)| to.device.zip(to.inode) == identity);
        if let (true, Some(must), Some(is)) = (is_written, &mut must, &mut is) {
            // Not even the owner may be able to read a log file that a closed umask has made.
            if let Some(content) = is.content.take() {
                let text = String::from_utf8_lossy(&content);
                let field = format!("file {}: content", path.display());
                judge_text(judge, field, prediction, must.identity, &text);
            }
            must.content = None;
        }
        judge.compare(format!("file {}", path.display()), must, is);
    }
}

/// `S_IFDIR` of <sys/stat.h>.
const DIRECTORY: u32 = 0o040_000;

/// A directory that the start has created or given away. The identity of a new file cannot be
/// predicted.
fn expected_directory(
    directory: &ExpectedDirectory,
    before: Option<SeenFile>,
    after: Option<&SeenFile>,
) -> SeenFile {
    SeenFile {
        identity: before
            .or(after.cloned())
            .map_or((0, 0), |file| file.identity),
        mode: DIRECTORY | directory.mode,
        uid: directory.uid,
        gid: directory.gid,
        links: None,
        content: None,
        target: None,
    }
}
