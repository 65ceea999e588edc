//! The names of ids.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr;

/// An entry of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: Vec<u8>,
    pub group: u32,
    pub home: Vec<u8>,
}

/// getpwuid_r(3); `None` if the user is not found, for whatever reason.
pub fn user_of_id(uid: u32) -> Option<User> {
    look_up(libc::getpwuid_r, uid, |entry: &libc::passwd| User {
        name: text(entry.pw_name),
        group: entry.pw_gid,
        home: text(entry.pw_dir),
    })
}

/// getgrgid_r(3); the name of a group, or `None` if the group is not found, for whatever reason.
pub fn group_of_id(gid: u32) -> Option<Vec<u8>> {
    look_up(libc::getgrgid_r, gid, |entry: &libc::group| {
        text(entry.gr_name)
    })
}

fn text(text: *const libc::c_char) -> Vec<u8> {
    // SAFETY: the look-up has succeeded, so that its strings end in a NUL, and its buffer exists
    // until the entry has been read.
    unsafe { CStr::from_ptr(text) }.to_bytes().to_owned()
}

type LookUp<Entry> =
    unsafe extern "C" fn(u32, *mut Entry, *mut libc::c_char, usize, *mut *mut Entry) -> libc::c_int;

fn look_up<Entry, Found>(
    call: LookUp<Entry>,
    id: u32,
    read: impl FnOnce(&Entry) -> Found,
) -> Option<Found> {
    const LARGEST: usize = 64 << 20;
    let mut buffer = vec![0 as libc::c_char; 4096];
    loop {
        let mut entry = MaybeUninit::<Entry>::uninit();
        let mut found = ptr::null_mut();
        let (place, start) = (entry.as_mut_ptr(), buffer.as_mut_ptr());
        // SAFETY: the pointers are valid for writes of their sizes.
        match unsafe { call(id, place, start, buffer.len(), &raw mut found) } {
            // SAFETY: the call has succeeded, so that `found` is null or points to the entry,
            // whose strings are in `buffer`.
            0 => return unsafe { found.as_ref() }.map(read),
            libc::EINTR => {}
            libc::ERANGE if buffer.len() < LARGEST => buffer.resize(buffer.len() * 4, 0),
            _ => return None,
        }
    }
}
