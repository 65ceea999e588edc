//! Users, groups, capabilities, and whether each thread has the same.

use super::{Inspected, Verdict, names};
use crate::report::IdTriple;
use crate::suite;
use crate::sys;

pub(super) fn user(of: &Inspected) -> Verdict {
    let user = of.report.uid.map(|ids| match same(ids) {
        Same::Yes if ids.effective == 0 => Verdict::unknown(
            names::user(0),
            "whether the program could do without root is not visible",
        ),
        Same::Yes => Verdict::ok(
            names::user(ids.effective),
            "the real and the saved id are the same: there is no way back",
        ),
        Same::AsFarAsSeen => {
            Verdict::unknown(names::user(ids.effective), "the saved id is not visible")
        }
        Same::No => Verdict::finding(triple(ids, names::user), "seteuid(2) switches between them"),
    });
    user.into()
}

pub(super) fn group(of: &Inspected) -> Verdict {
    let group = of.report.gid.map(|ids| match same(ids) {
        Same::No => Verdict::finding(
            triple(ids, names::group),
            "setegid(2) switches between them",
        ),
        _ if ids.effective == 0 && of.is_ordinary_user() => Verdict::finding(
            names::group(0),
            "a user other than root has the group of root",
        ),
        Same::Yes => Verdict::ok(
            names::group(ids.effective),
            "the real and the saved id are the same: there is no way back",
        ),
        Same::AsFarAsSeen => {
            Verdict::unknown(names::group(ids.effective), "the saved id is not visible")
        }
    });
    group.into()
}

enum Same {
    Yes,
    AsFarAsSeen,
    No,
}

fn same(ids: IdTriple) -> Same {
    match ids.saved {
        _ if ids.real != ids.effective => Same::No,
        Some(saved) if saved != ids.effective => Same::No,
        Some(_) => Same::Yes,
        None => Same::AsFarAsSeen,
    }
}

fn triple(ids: IdTriple, name: fn(u32) -> String) -> String {
    let saved = ids.saved.map_or_else(|| "not visible".to_owned(), name);
    let [real, effective] = [ids.real, ids.effective].map(name);
    format!("real {real}, effective {effective}, saved {saved}")
}

pub(super) fn supplementary_groups(of: &Inspected) -> Verdict {
    let (Some(groups), Some(uid), Some(gid)) = (&of.report.groups, of.report.uid, of.report.gid)
    else {
        return Verdict::unseen();
    };
    let seen = names::groups(groups);
    if uid.effective == 0 {
        return Verdict::ok(seen, "root has every right without them");
    }
    let own: Vec<u32> = groups
        .iter()
        .copied()
        .filter(|&group| group != gid.effective)
        .collect();
    if own.is_empty() {
        return Verdict::ok(seen, "none besides the group");
    }
    let Some(user) = sys::user_of_id(uid.effective) else {
        return match own.contains(&0) {
            true => Verdict::finding(seen, ROOTS_GROUP),
            false => Verdict::unknown(seen, "no database lists the user and its groups"),
        };
    };
    let listed = suite::ids(&["-G", &String::from_utf8_lossy(&user.name)]);
    let Some(listed) = listed else {
        return Verdict::unknown(seen, "id(1) does not list the groups of the user");
    };
    let extra: Vec<u32> = own
        .into_iter()
        .filter(|group| !listed.contains(group))
        .collect();
    let name = names::user(uid.effective);
    match extra.is_empty() {
        true => Verdict::ok(seen, format!("the group database lists {name} in each")),
        false if extra.contains(&0) => Verdict::finding(seen, ROOTS_GROUP),
        false if of.is_service() => Verdict::ok(seen, "the service manager may add groups"),
        false => Verdict::finding(
            seen,
            format!(
                "no database lists {name} in {}: setgroups(2) has not replaced them",
                names::groups(&extra)
            ),
        ),
    }
}

const ROOTS_GROUP: &str =
    "the group of root is kept: setgroups(2) did not replace the groups of the launcher";

pub(super) fn capabilities(of: &Inspected) -> Vec<Verdict> {
    if !cfg!(target_os = "linux") {
        return Vec::new();
    }
    let capabilities = of.report.capabilities.map(|sets| {
        // The bounding set grants nothing by itself.
        let held = sets.permitted | sets.effective | sets.ambient;
        let seen = names::capabilities(held);
        let equal_to_root = names::capability_set(&EQUAL_TO_ROOT) & held;
        match held {
            0 => Verdict::ok(seen, "it has no right of root"),
            _ if !of.is_ordinary_user() => Verdict::ok(seen, "root has them"),
            _ if equal_to_root != 0 => Verdict::finding(
                seen,
                format!(
                    "whoever takes the daemon over becomes root by {}",
                    names::capabilities(equal_to_root)
                ),
            ),
            _ if sets.ambient != 0 => Verdict::ok(
                seen,
                "none makes it root; programs that it executes get the ambient ones",
            ),
            _ => Verdict::ok(seen, "none makes it root"),
        }
    });
    Verdict::from(capabilities).into()
}

/// With each of them a process can get the others: see capabilities(7).
const EQUAL_TO_ROOT: [&str; 13] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "SETGID",
    "SETUID",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_PTRACE",
    "SYS_ADMIN",
    "MKNOD",
    "SETFCAP",
    "BPF",
];

pub(super) fn no_new_privileges(of: &Inspected) -> Verdict {
    let no_new_privileges = of.report.no_new_privileges.map(|is_set| match is_set {
        true => Verdict::ok("set", "no program that it executes gains privileges"),
        false => Verdict::ok(
            "not set",
            "daemon(7) does not ask for it; set-user-ID programs that it executes gain privileges",
        ),
    });
    no_new_privileges.into()
}

pub(super) fn threads(of: &Inspected) -> Verdict {
    let Some(threads) = &of.facts.threads else {
        return match of.report.threads {
            Some(1) => Verdict::ok("1", "it is the only one"),
            Some(number) => Verdict::unknown(
                number.to_string(),
                "whether each has the same ids is not visible",
            ),
            None => Verdict::unseen(),
        };
    };
    let seen = threads.len().to_string();
    let Some((first, others)) = threads.split_first() else {
        return Verdict::unseen();
    };
    let differing = others.iter().find_map(|thread| {
        let mut pairs = thread.privileges.iter().zip(&first.privileges);
        let (own, _) = pairs.find(|(own, firsts)| own != firsts)?;
        Some(format!(
            "thread {} differs from the first: {own}",
            thread.id
        ))
    });
    match differing {
        Some(reason) => Verdict::finding(seen, reason),
        None if others.is_empty() => Verdict::ok(seen, "it is the only one"),
        None => Verdict::ok(seen, "all have the same ids, groups and capabilities"),
    }
}
