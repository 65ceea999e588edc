//! The databases of users and groups.

use std::collections::BTreeMap;
use std::process::Command;

use crate::suite::TEST_USER;
use crate::sys;

/// A user that every system has, and that owns nothing.
pub(crate) const NOBODY: &str = "nobody";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    pub uid: u32,
    pub gid: u32,
    pub group: String,
    pub groups: Vec<u32>,
    /// Whether the group database names the user in the primary group, as FreeBSD names root in
    /// wheel.
    pub is_named_in_group: bool,
    pub home: String,
    pub shell: String,
}

/// The line of a user in `passwd`, or of a group in `group`, as getent(1) prints it. macOS lacks
/// getent(1); its files in /etc have the users and groups of the system.
fn line_of(name: &str, database: &str) -> Option<String> {
    let program = match cfg!(target_os = "macos") {
        true => ["grep", &format!("^{name}:"), &format!("/etc/{database}")].map(str::to_owned),
        false => ["getent", database, name].map(str::to_owned),
    };
    let output = Command::new(&program[0]).args(&program[1..]).output();
    String::from_utf8(output.ok()?.stdout).ok()
}

/// The users and groups that combinations name, as id(1) and getent(1) report them. No other user or group
/// exists to the model.
#[derive(Debug, Clone)]
pub struct Databases {
    users: BTreeMap<String, UserEntry>,
    own: Vec<u32>,
}

impl Databases {
    /// Runs id(1).
    ///
    /// # Panics
    ///
    /// When the program does not exist.
    pub fn read() -> Self {
        let id = |arguments: &[&str]| {
            let output = Command::new("id")
                .args(arguments)
                .output()
                .expect("run id(1)");
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            output.status.success().then_some(text)
        };
        let numbers = |text: String| -> Vec<u32> {
            text.split_ascii_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect()
        };
        let own_name = id(&["-un"]).unwrap_or_default();
        let mut users = BTreeMap::new();
        for name in [NOBODY, TEST_USER, "root", own_name.as_str()] {
            let entry = || {
                let line = line_of(name, "passwd")?;
                let mut fields = line.trim_end().split(':').skip(5).map(str::to_owned);
                let group = id(&["-gn", name])?;
                let group_line = line_of(&group, "group").unwrap_or_default();
                let members = group_line.trim_end().rsplit(':').next();
                let is_named = |members: &str| members.split(',').any(|member| member == name);
                Some(UserEntry {
                    is_named_in_group: members.is_some_and(is_named),
                    uid: id(&["-u", name])?.parse().ok()?,
                    gid: id(&["-g", name])?.parse().ok()?,
                    group,
                    groups: numbers(id(&["-G", name])?),
                    home: fields.next()?,
                    shell: fields.next()?,
                })
            };
            if let Some(entry) = entry() {
                users.insert(name.to_owned(), entry);
            }
        }
        Self {
            users,
            own: numbers(id(&["-G"]).unwrap_or_default()),
        }
    }

    pub fn user(&self, name: &str) -> Option<&UserEntry> {
        self.users.get(name)
    }

    /// The name of the primary group of [`NOBODY`].
    pub(crate) fn ordinary_group(&self) -> &str {
        self.user(NOBODY).map_or(NOBODY, |entry| &entry.group)
    }

    /// Whether the user that runs the tests has groups beside the primary one.
    pub fn own_groups_are_many(&self) -> bool {
        self.own
            .iter()
            .any(|&gid| gid != sys::group_ids().effective)
    }

    pub(crate) fn user_by_id(&self, uid: u32) -> Option<&UserEntry> {
        self.users.values().find(|entry| entry.uid == uid)
    }

    /// The first name of this uid.
    pub(crate) fn name_of(&self, uid: u32) -> Option<&str> {
        let mut users = self.users.iter();
        users.find_map(|(name, entry)| (entry.uid == uid).then_some(name.as_str()))
    }

    pub(crate) fn group(&self, name: &str) -> Option<u32> {
        let mut users = self.users.values();
        users.find_map(|entry| (entry.group == name).then_some(entry.gid))
    }
}
