//! A service manager, as far as a start needs one.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;

/// Reads whatever it is sent at `NOTIFY_SOCKET`, which a launcher waits for.
#[derive(Debug)]
pub struct Manager(PathBuf);

impl Manager {
    const END: &'static [u8] = b"end";

    /// One that listens there, until it is dropped.
    ///
    /// # Panics
    ///
    /// When the socket cannot be made.
    pub fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("bind the manager's socket");
        thread::spawn(move || {
            let mut message = [0; 256];
            while let Ok(length) = socket.recv(&mut message) {
                if &message[..length] == Self::END {
                    break;
                }
            }
        });
        Self(path.to_owned())
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Where its folder is gone, so is whoever would have sent something.
        let _ = UnixDatagram::unbound().and_then(|own| own.send_to(Self::END, &self.0));
    }
}
