//! A structure that the kernel has written, read field by field.

#[cfg(target_os = "freebsd")]
use std::ffi::c_long;
use std::io;

/// The bytes of a structure. It may be shorter than its declaration: a kernel may leave out the
/// last fields.
#[derive(Clone, Copy)]
pub(super) struct Record<'bytes>(pub &'bytes [u8]);

impl<'bytes> Record<'bytes> {
    fn field<const N: usize>(self, at: usize) -> io::Result<[u8; N]> {
        let field = self
            .0
            .get(at..at + N)
            .and_then(|bytes| bytes.try_into().ok());
        field.ok_or_else(|| {
            let length = self.0.len();
            io::Error::other(format!(
                "a structure of {length} bytes has no field at {at}"
            ))
        })
    }

    pub(super) fn u8(self, at: usize) -> io::Result<u8> {
        self.field(at).map(u8::from_ne_bytes)
    }

    pub(super) fn u16(self, at: usize) -> io::Result<u16> {
        self.field(at).map(u16::from_ne_bytes)
    }

    pub(super) fn i32(self, at: usize) -> io::Result<i32> {
        self.field(at).map(i32::from_ne_bytes)
    }

    pub(super) fn u32(self, at: usize) -> io::Result<u32> {
        self.field(at).map(u32::from_ne_bytes)
    }

    pub(super) fn u64(self, at: usize) -> io::Result<u64> {
        self.field(at).map(u64::from_ne_bytes)
    }

    #[cfg(target_os = "freebsd")]
    pub(super) fn long(self, at: usize) -> io::Result<c_long> {
        self.field(at).map(c_long::from_ne_bytes)
    }

    /// A string that ends in a NUL or with the structure.
    pub(super) fn text(self, at: usize) -> &'bytes [u8] {
        let rest = self.0.get(at..).unwrap_or_default();
        rest.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}
