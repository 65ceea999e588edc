//! Users and groups: their look-up before the first fork, and the change to them.

use crate::axes::keep_capabilities::Kept;
use crate::config::{Identity, SupplementaryGroups};
use crate::model::credentials::{Credentials, Right, all};
use crate::model::failure::{Failure, refused_id};
use crate::model::start::{Side, Start};
use crate::report::{Capabilities, IdTriple};
use crate::sys;

/// The identity of the daemon.
pub(crate) struct NewIdentity {
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
}

impl Start<'_> {
    /// Resolves user and group, then the supplementary groups, then the owners of the pid file, if
    /// there is a pid file.
    pub(crate) fn look_up(&mut self) -> Result<Option<NewIdentity>, Failure> {
        let options = self.options;
        let user = options.user.as_ref();
        let uid = user.map(|user| self.uid(user, "SetUser")).transpose()?;
        let group = options.group.as_ref();
        let gid = group.map(|group| self.gid(group, "SetGroup")).transpose()?;
        let entry = user.and_then(|user| match user {
            Identity::Name(name) => self.initial_files.databases.user(name),
            Identity::Id(uid) => self.initial_files.databases.user_by_id(*uid),
        });
        let group = gid.or(entry.map(|entry| entry.gid));
        if let (Some(user), None) = (user, group) {
            return Err(Failure::new("PrimaryGroupUnknown", None)
                .with_subject(user)
                .with_reason("the user database has no such uid; set `group`"));
        }
        let groups = match (&options.supplementary_groups, group) {
            (Some(SupplementaryGroups::Keep), _) => None,
            (Some(SupplementaryGroups::Only(groups)), _) => {
                let groups = groups.iter();
                let resolved: Result<Vec<u32>, Failure> = groups
                    .map(|group| self.gid(group, "SetSupplementaryGroups"))
                    .collect();
                Some(resolved?)
            }
            (Some(SupplementaryGroups::FromDatabase) | None, None) => None,
            (Some(SupplementaryGroups::FromDatabase) | None, Some(group)) => {
                let listed = entry.map_or(&[][..], |entry| &entry.groups);
                let unnamed = entry.filter(|entry| !entry.is_named_in_group);
                let unnamed = unnamed.map(|entry| entry.gid);
                let others = listed.iter().filter(|&&gid| Some(gid) != unnamed);
                Some([group].into_iter().chain(others.copied()).collect())
            }
        };
        let new = NewIdentity {
            user: uid,
            group,
            groups,
        };
        self.check_kept_capabilities()?;
        let changes = new.user.is_some()
            || new.group.is_some()
            || new.groups.is_some()
            || self.kept_capabilities().is_some();
        let identity = changes.then_some(new);
        self.look_up_environment()?;
        if options.pid_file.is_some() {
            let user = options.chown_pid_file_user.as_ref();
            self.new_owner = user
                .map(|user| self.uid(user, "ChownPidfile"))
                .transpose()?;
            let group = options.chown_pid_file_group.as_ref();
            self.new_group = group
                .map(|group| self.gid(group, "ChownPidfile"))
                .transpose()?;
            if let Some(new) = identity.as_ref().filter(|_| options.chown_pid_file) {
                self.new_owner = self.new_owner.or(new.user);
                self.new_group = self.new_group.or(new.group);
            }
        }
        Ok(identity)
    }

    pub(crate) fn uid(&self, user: &Identity, refusal: &'static str) -> Result<u32, Failure> {
        match user {
            Identity::Id(u32::MAX) => Err(refused_id(refusal, user)),
            Identity::Id(uid) => Ok(*uid),
            Identity::Name(name) => match self.initial_files.databases.user(name) {
                Some(entry) => Ok(entry.uid),
                None => Err(Failure::new("UserNotFound", None).with_subject(user)),
            },
        }
    }

    pub(crate) fn gid(&self, group: &Identity, refusal: &'static str) -> Result<u32, Failure> {
        match group {
            Identity::Id(u32::MAX) => Err(refused_id(refusal, group)),
            Identity::Id(gid) => Ok(*gid),
            Identity::Name(name) => (self.initial_files.databases.group(name))
                .ok_or_else(|| Failure::new("GroupNotFound", None).with_subject(group)),
        }
    }

    /// Changes the groups, the gid, the uid, and then the capabilities.
    pub(crate) fn become_identity(&mut self, new: &NewIdentity) -> Result<(), Failure> {
        let before = self.credentials.clone();
        self.change_ids(new)?;
        let kept = self.kept_capabilities();
        if let Err(reason) = self.drop_capabilities(&before, kept) {
            (self.side, self.ends_at_once) = (Side::Gone, true);
            let user = self.options.user.as_ref();
            let failure = Failure::new("PrivilegesRetained", None).with_reason(reason);
            return Err(failure.with_subject(user.or(self.options.group.as_ref())));
        }
        self.process.uid = Some(self.credentials.uid);
        self.process.capabilities = self.credentials.capabilities;
        Ok(())
    }

    fn change_ids(&mut self, new: &NewIdentity) -> Result<(), Failure> {
        let (user, group) = (self.options.user.as_ref(), self.options.group.as_ref());
        let before = self.credentials.clone();
        let deed = match (user, group) {
            (Some(Identity::Name(name)), _) => format!("changing to user {name}"),
            (Some(Identity::Id(id)), _) => format!("changing to user {id}"),
            (None, Some(Identity::Name(name))) => format!("changing to group {name}"),
            (None, Some(Identity::Id(id))) => format!("changing to group {id}"),
            (None, None) => "changing the groups".to_owned(),
        };
        let refused = |kind| {
            let failure = Failure::new(kind, libc::EPERM);
            failure.refused(&before, &deed, "CAP_SETUID and CAP_SETGID")
        };
        let me = &mut self.credentials;
        let primary = new.group.unwrap_or(me.gid.effective);
        let with_primary = |groups: &[u32]| sorted(&[groups, &[primary]].concat());
        let mut kept_groups = Some(me.groups_after_setegid(primary));
        if let Some(groups) = new.groups.as_ref().map(|groups| sorted(groups)) {
            if me.has(Right::SetGroup) {
                me.groups = groups;
                kept_groups = None;
            } else if kept_groups.as_deref().map(with_primary) != Some(with_primary(&groups)) {
                return Err(refused("SetSupplementaryGroups").with_subject(user.or(group)));
            }
        }
        self.process.groups = Some(me.groups.clone());
        let holds =
            |ids: IdTriple, id| id == ids.real || id == ids.effective || ids.saved == Some(id);
        if let Some(gid) = new.group {
            if !me.has(Right::SetGroup) && !holds(me.gid, gid) {
                let failure = refused("SetGroup");
                return Err(match group {
                    Some(_) => failure.with_subject(group),
                    None => failure.with_subject(user).of_user(),
                });
            }
            me.gid = all(me.gid, gid);
            self.process.gid = Some(me.gid);
            if let Some(groups) = kept_groups {
                me.groups = groups;
                self.process.groups = Some(me.groups.clone());
            }
        }
        if let Some(uid) = new.user {
            if !me.has(Right::SetUser) && !holds(me.uid, uid) {
                return Err(refused("SetUser").with_subject(user));
            }
            let keeps = self.kept_capabilities().map_or(0, |_| sys::KEEP_CAPS);
            let secure_bits = self.config.initial.secure_bits.unwrap_or(0);
            self.credentials.become_user(uid, secure_bits | keeps);
        }
        Ok(())
    }

    /// Does to the capabilities what the library does. An error is the reason why privileges are
    /// retained.
    fn drop_capabilities(
        &mut self,
        before: &Credentials,
        kept: Option<Kept>,
    ) -> Result<(), &'static str> {
        let others = self.capabilities_of_other_threads(before);
        let me = &mut self.credentials;
        let is_changed = (me.uid, me.gid, sorted(&me.groups))
            != (before.uid, before.gid, sorted(&before.groups));
        let is_root = me.uid.effective == 0;
        if kept.is_none() && (is_root || !is_changed) {
            return Ok(());
        }
        let wanted = kept.unwrap_or(Kept {
            permitted: 0,
            ambient: 0,
        });
        me.capabilities = me.capabilities.map(|sets| Capabilities {
            inheritable: wanted.ambient,
            permitted: wanted.permitted,
            effective: wanted.permitted,
            ambient: wanted.ambient,
            ..sets
        });
        // Each thread gives up its own capabilities.
        let has_another = |sets: &Capabilities| {
            (sets.permitted | sets.effective) & !wanted.permitted != 0
                || sets.inheritable & !wanted.ambient != 0
        };
        if others.iter().any(has_another) {
            return Err(match wanted.permitted {
                0 => "this thread or another still has capabilities",
                _ => "this thread or another still has other capabilities",
            });
        }
        if kept.is_some() && !is_root {
            if me.uid.real == 0 || me.uid.saved == Some(0) {
                return Err("its real or saved user is still root: set `user`");
            }
            if wanted.permitted & sys::CAP_SETUID != 0 {
                return Err("it keeps CAP_SETUID, and could regain a former user id");
            }
        }
        Ok(())
    }

    /// The capabilities of the other threads after the change of ids.
    fn capabilities_of_other_threads(&self, before: &Credentials) -> Vec<Capabilities> {
        let uid = self.credentials.uid;
        let mut others = Vec::new();
        if self.has_made_thread {
            let secure_bits = self.config.initial.secure_bits.unwrap_or(0);
            let mut thread = before.clone();
            if uid != before.uid {
                thread.become_user(uid.effective, secure_bits);
            }
            others.extend(thread.capabilities);
        }
        let has_root =
            |uid: IdTriple| [Some(uid.real), Some(uid.effective), uid.saved].contains(&Some(0));
        // The initial state reduces only the capabilities of the first thread. Only root has some to
        // begin with.
        if self.is_foreground()
            && self.config.initial.extra_threads > 0
            && has_root(before.uid)
            && has_root(uid)
        {
            others.extend(before.capabilities.map(|sets| Capabilities {
                permitted: sets.bounding,
                ..sets
            }));
        }
        others
    }
}

fn sorted(groups: &[u32]) -> Vec<u32> {
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    groups.dedup();
    groups
}
