//! The daemon has exactly the configured identity, and no way back to its former one.

/// `ambient_capabilities` are passed on to the programs that the daemon executes.
mod ambient_capabilities;
/// A change of identity leaves no capability in any set.
mod capabilities;
/// Large, damaged, unreadable and missing user databases are handled as such.
mod database;
/// `dumpable` lets other processes of the user trace the daemon.
mod dumpable;
/// `group` changes all group ids, and replaces the user's primary group.
mod group;
/// `keep_capabilities` keeps these capabilities, and no other.
mod kept_capabilities;
/// A name that cannot be looked up is reported before any fork.
mod lookup;
/// `no_new_privileges` keeps execve(2) from granting anything.
mod no_new_privileges;
/// An ordinary user may keep its own identity, and needs privileges for any other.
mod ordinary_user;
/// No former id can be regained.
mod regain;
/// The id 4294967295, which means 'unchanged' to the kernel, is refused.
mod reserved_id;
/// A launcher that is set-user-ID or set-group-ID drops what the bits granted.
mod set_id;
mod setup;
/// `supplementary_groups` sets, keeps or looks up the groups, and never cuts their list.
mod supplementary_groups;
/// Every thread of the daemon has dropped its privileges.
mod threads;
/// `user` changes all user ids, and by default takes the groups of that user.
mod user;
/// Identities change within a user namespace as far as its ids reach.
mod user_namespace;

tester::modules!(
    ambient_capabilities,
    capabilities,
    database,
    dumpable,
    group,
    kept_capabilities,
    lookup,
    no_new_privileges,
    ordinary_user,
    regain,
    reserved_id,
    set_id,
    supplementary_groups,
    threads,
    user,
    user_namespace
);
