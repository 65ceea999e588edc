//! The sockets that a service manager has passed, by the rules of sd_listen_fds(3).

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::fd::RawFd;

use super::send;
use crate::control::Message;
use crate::sys;

const FIRST: RawFd = 3;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The sockets with their names: none unless LISTEN_PID names this process.
fn listen_fds() -> io::Result<Vec<(RawFd, String)>> {
    let number = |text: String| text.parse::<i32>().map_err(io::Error::other);
    let Some(pid) = variable("LISTEN_PID") else {
        return Ok(Vec::new());
    };
    // The tester never sets the inode of its own pidfd.
    let is_other = variable("LISTEN_PIDFDID").is_some();
    if u32::try_from(number(pid)?) != Ok(std::process::id()) || is_other {
        return Ok(Vec::new());
    }
    let count = number(variable("LISTEN_FDS").unwrap_or_default())?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    (FIRST..FIRST + count)
        .map(|descriptor| {
            sys::set_close_on_exec(descriptor)?;
            Ok((descriptor, names.next().unwrap_or_default()))
        })
        .collect()
}

/// Serves one client on each socket. Returns the names of the sockets.
pub(super) fn serve_activated() -> io::Result<String> {
    let mut names = Vec::new();
    for (descriptor, name) in listen_fds()? {
        let listener = TcpListener::from(sys::take_over(descriptor));
        send(Message::Listening(listener.local_addr()?.port()));
        let (mut client, _) = listener.accept()?;
        write!(client, "{name} {}", std::process::id())?;
        names.push(name);
    }
    Ok(names.join(" "))
}
