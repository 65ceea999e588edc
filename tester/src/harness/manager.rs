//! A service manager that only reads its notifications.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// Reads the messages at `NOTIFY_SOCKET`, and closes the descriptors that come with a message. A
/// launcher waits for that.
#[derive(Debug)]
pub struct FakeServiceManager {
    path: PathBuf,
    /// `None` after [`lines`](Self::lines).
    reader: Option<JoinHandle<String>>,
}

impl FakeServiceManager {
    const END: &'static [u8] = b"end";

    /// Listens at this path, to any user, until it is dropped.
    pub fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("bind the manager's socket");
        let permissions = Permissions::from_mode(0o777);
        fs::set_permissions(path, permissions).expect("open the socket for all");
        let reader = thread::spawn(move || {
            let mut text = String::new();
            let mut message = [0; 256];
            while let Ok(length) = socket.recv(&mut message) {
                match &message[..length] {
                    Self::END => break,
                    message => text += &String::from_utf8_lossy(message),
                }
            }
            text
        });
        Self {
            path: path.to_owned(),
            reader: Some(reader),
        }
    }

    /// The messages, line by line.
    pub fn lines(mut self) -> Vec<String> {
        self.end().expect("end the service manager");
        let reader = self.reader.take().expect("it was ended by nobody else");
        let text = reader.join().expect("the service manager ends");
        text.lines().map(str::to_owned).collect()
    }

    fn end(&self) -> io::Result<usize> {
        UnixDatagram::unbound()?.send_to(Self::END, &self.path)
    }
}

impl Drop for FakeServiceManager {
    fn drop(&mut self) {
        // If the directory is gone, so is every process that could send a message.
        let _ = self.end();
    }
}
