//! Numbers as a person reads them.

use crate::config::Bytes;
use crate::observe::{self, Process};
use crate::report::SignalSet;
use crate::sys;

/// The bytes of a name or a path as text on one line. Another process chooses them: a terminal that
/// displays them must not obey them.
pub(super) fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                _ if controls_terminal(character) => text.extend(character.escape_default()),
                _ => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Whether it is a control character, a line or paragraph separator, or changes the order in which
/// a text is displayed.
fn controls_terminal(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// The path, or its absence.
pub(super) fn path(path: Option<&Bytes>) -> String {
    path.map_or_else(
        || "a file without a visible path".to_owned(),
        |path| shown(&path.0),
    )
}

pub(super) fn user(uid: u32) -> String {
    match sys::user_of_id(uid) {
        Some(user) => format!("{}({uid})", shown(&user.name)),
        None => uid.to_string(),
    }
}

pub(super) fn group(gid: u32) -> String {
    match sys::group_of_id(gid) {
        Some(name) => format!("{}({gid})", shown(&name)),
        None => gid.to_string(),
    }
}

pub(super) fn groups(gids: &[u32]) -> String {
    list(gids.iter().map(|&gid| group(gid)))
}

pub(super) fn process(process: &Process) -> String {
    format!("{} {}", shown(process.name.as_bytes()), process.pid)
}

/// The process with this id, if it is visible.
pub(super) fn process_of_id(pid: u32) -> String {
    match observe::process(pid) {
        Ok(Some(found)) => process(&found),
        Ok(None) | Err(_) => format!("process {pid}"),
    }
}

/// The items with commas, or `none`.
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<_> = items.into_iter().collect();
    match items.is_empty() {
        true => "none".to_owned(),
        false => items.join(", "),
    }
}

pub(super) fn signals(set: SignalSet) -> String {
    list(set.iter().map(signal))
}

fn signal(number: i32) -> String {
    let known = SIGNALS.iter().find(|(known, _)| *known == number);
    match known {
        Some((_, name)) => (*name).to_owned(),
        None => format!("signal {number}"),
    }
}

macro_rules! names_of {
    ($($name:ident)*) => {
        &[$((libc::$name, stringify!($name)),)*]
    };
}

/// The signals of POSIX, and those that all supported platforms have.
const SIGNALS: &[(i32, &str)] = names_of! {
    SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2
    SIGPIPE SIGALRM SIGTERM SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ
    SIGVTALRM SIGPROF SIGWINCH SIGIO SIGSYS
};

/// The capabilities of this set, or those that it lacks, whichever are fewer.
pub(super) fn capabilities(set: u64) -> String {
    let missing = !set & ((1 << CAPABILITIES.len()) - 1);
    match missing {
        0 => format!("all {}", set.count_ones()),
        _ if missing.count_ones() < set.count_ones() => {
            format!("all but {}", capability_names(missing))
        }
        _ => capability_names(set),
    }
}

fn capability_names(set: u64) -> String {
    let numbers = (0..64).filter(|number| set & (1 << number) != 0);
    list(numbers.map(|number| match CAPABILITIES.get(number) {
        Some(name) => format!("CAP_{name}"),
        None => format!("capability {number}"),
    }))
}

/// By number, as in linux/capability.h.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The set of these capabilities.
///
/// # Panics
///
/// When a name is wrong.
pub(super) fn capability_set(names: &[&str]) -> u64 {
    let number = |name: &&str| CAPABILITIES.iter().position(|known| known == name);
    let bits = names
        .iter()
        .map(|name| 1 << number(name).expect("a capability"));
    bits.fold(0, |set: u64, bit: u64| set | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_not_control_the_terminal() {
        let name = b"a\x1b[2J\n\\\xff\xe2\x80\xaeb\xc3\xa9";
        assert_eq!(shown(name), "a\\u{1b}[2J\\n\\\\\\xff\\u{202e}b\u{e9}");
    }

    #[test]
    fn capabilities_are_named() {
        assert_eq!(capabilities(0), "none");
        assert_eq!(capabilities((1 << 41) - 1), "all 41");
        assert_eq!(capabilities((1 << 41) - 2), "all but CAP_CHOWN");
        assert_eq!(
            capabilities(1 << 10 | 1 << 63),
            "CAP_NET_BIND_SERVICE, capability 63"
        );
        assert_eq!(
            capability_set(&["CHOWN", "CHECKPOINT_RESTORE"]),
            1 | 1 << 40
        );
    }
}
