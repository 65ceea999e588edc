//! The environment that the program began with, and the limits. Values are never printed: they may
//! be secrets.

use super::{Inspected, Verdict, names};
use crate::sys;

/// Variables by name, and why a daemon should not have them. A name with an asterisk is the
/// beginning of names.
const ODD: [(&str, &str); 24] = [
    ("LD_PRELOAD", CODE),
    ("LD_LIBRARY_PATH", CODE),
    ("LD_AUDIT", CODE),
    ("DYLD_*", CODE),
    ("GCONV_PATH", CODE),
    ("GLIBC_TUNABLES", CODE),
    ("BASH_ENV", CODE),
    ("ENV", CODE),
    ("IFS", CODE),
    ("NODE_OPTIONS", CODE),
    ("PERL5LIB", CODE),
    ("PERL5OPT", CODE),
    ("PYTHONPATH", CODE),
    ("PYTHONSTARTUP", CODE),
    ("RUBYLIB", CODE),
    ("RUBYOPT", CODE),
    ("SUDO_*", SESSION),
    ("SSH_*", SESSION),
    ("DISPLAY", SESSION),
    ("WAYLAND_DISPLAY", SESSION),
    ("XAUTHORITY", SESSION),
    ("XDG_SESSION_ID", SESSION),
    ("DBUS_SESSION_BUS_ADDRESS", SESSION),
    ("KRB5CCNAME", SESSION),
];

const CODE: &str = "changes the code of programs";
const SESSION: &str = "belongs to the session of a person";

pub(super) fn variables(of: &Inspected) -> Verdict {
    let Some(environment) = &of.facts.environment else {
        return Verdict::unseen();
    };
    let pairs = environment.iter().filter_map(|one| {
        let at = one.iter().position(|&byte| byte == b'=')?;
        let (name, value) = one.split_at(at);
        Some((std::str::from_utf8(name).ok()?, &value[1..]))
    });
    // A variable without a value has no effect.
    let pairs: Vec<_> = pairs.filter(|(_, value)| !value.is_empty()).collect();
    let mut faults = Vec::new();
    for reason in [CODE, SESSION] {
        let odd = pairs.iter().filter(|(name, _)| is_odd(name, reason));
        let odd: Vec<_> = odd.map(|(name, _)| names::shown(name.as_bytes())).collect();
        if !odd.is_empty() {
            faults.push(format!("{} {reason}", odd.join(", ")));
        }
    }
    faults.extend(foreign_user(of));
    if of.variable("PATH").is_some_and(has_relative_directory) {
        faults.push("PATH has a directory that is not absolute".to_owned());
    }
    if of
        .variable("LISTEN_PID")
        .is_some_and(|pid| !pid.is_empty() && !of.has_id(pid))
    {
        faults.push("LISTEN_PID names another process".to_owned());
    }
    let seen = match environment.len() {
        1 => "1 variable".to_owned(),
        number => format!("{number} variables"),
    };
    match faults.is_empty() {
        true => Verdict::ok(seen, "none that the program began with is odd"),
        false => Verdict::finding(seen, faults.join("; ")),
    }
}

fn is_odd(name: &str, reason: &str) -> bool {
    ODD.iter().any(|(odd, why)| {
        *why == reason
            && match odd.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => name == *odd,
            }
    })
}

/// HOME, USER or LOGNAME of another user than the effective one.
fn foreign_user(of: &Inspected) -> Option<String> {
    let uid = of.report.uid?.effective;
    let user = sys::user_of_id(uid)?;
    let expected = [
        ("HOME", &user.home),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
    ];
    let foreign = expected.into_iter().filter(|(name, expected)| {
        let value = of.variable(name).filter(|value| !value.is_empty());
        value.is_some_and(|value| value != expected.as_slice())
    });
    let foreign: Vec<_> = foreign.map(|(name, _)| name).collect();
    (!foreign.is_empty())
        .then(|| format!("{} is not that of {}", foreign.join(", "), names::user(uid)))
}

fn has_relative_directory(path: &[u8]) -> bool {
    !path.is_empty()
        && path
            .split(|&byte| byte == b':')
            .any(|directory| !directory.starts_with(b"/"))
}

/// Limits that a daemon does not expect, as in /proc/PID/limits, with what happens at the limit.
const UNEXPECTED: [(&str, &str); 4] = [
    ("Max cpu time", "SIGXCPU kills the daemon one day"),
    ("Max file size", "a log that grows sends SIGXFSZ"),
    ("Max data size", "allocations fail"),
    ("Max address space", "allocations fail"),
];

pub(super) fn limits(of: &Inspected) -> Verdict {
    let Some(limits) = &of.facts.limits else {
        return Verdict::unseen();
    };
    let soft = |wanted: &str| limits.iter().find(|limit| limit.name == wanted)?.soft;
    let mut faults = Vec::new();
    for (name, effect) in UNEXPECTED {
        if let Some(limit) = soft(name) {
            faults.push(format!("{name} is {limit}: {effect}"));
        }
    }
    let open = of.report.descriptors.as_ref().map(Vec::len);
    let most = soft("Max open files");
    let seen = match (open, most) {
        (Some(open), Some(most)) => format!("{open} of {most} descriptors"),
        (None, Some(most)) => format!("at most {most} descriptors"),
        (_, None) => "any number of descriptors".to_owned(),
    };
    if let (Some(open), Some(most)) = (open, most) {
        // The last tenth goes fast.
        if (open as u64).saturating_mul(10) >= most.saturating_mul(9) {
            faults.push("hardly a descriptor is left: accept(2) and open(2) will fail".to_owned());
        }
    }
    match faults.is_empty() {
        true => Verdict::ok(seen, "none stops the daemon"),
        false => Verdict::finding(seen, faults.join("; ")),
    }
}
