//! The format of messages, which any process may send: a header, then a validated rkyv archive.

use std::fmt;

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

/// Opens every message. The last byte counts the versions of the format.
const MAGIC: &[u8; 8] = b"tester\0\x01";

/// The size of the magic bytes and of the length of the payload. An archive is read from its end,
/// so without the length, appended bytes would be part of it.
const HEADER: usize = 16;

/// The size of the longest message: far above the need of a test, and small enough to read at once.
pub const LIMIT: usize = 1 << 20;

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireError {
    Empty,
    TooLong,
    /// The bytes have another format, or another version of it.
    BadMagic,
    /// The stated length and the real one differ.
    WrongLength {
        /// The length in the header, in bytes.
        stated: u64,
        /// The length of the payload, in bytes.
        found: usize,
    },
    /// The payload is not a valid archive of the expected type.
    Invalid(String),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "no bytes"),
            Self::TooLong => write!(f, "more than {LIMIT} bytes"),
            Self::BadMagic => write!(f, "not a message of this tester"),
            Self::WrongLength { stated, found } => {
                write!(f, "{stated} bytes announced, {found} found")
            }
            Self::Invalid(cause) => write!(f, "invalid archive: {cause}"),
        }
    }
}

impl std::error::Error for WireError {}

/// Serializes `value` with its header.
///
/// # Panics
///
/// When the value cannot be serialized, which only lack of memory can cause.
pub fn encode<T>(value: &T) -> Vec<u8>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
{
    let payload = rkyv::to_bytes::<rancor::Error>(value).expect("owned data can be archived");
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes
}

/// Reads a message of [`encode`], and trusts no byte of it.
///
/// # Errors
///
/// When the bytes are not exactly one valid message.
pub fn decode<T>(bytes: &[u8]) -> Result<T, WireError>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
        + Deserialize<T, HighDeserializer<rancor::Error>>,
{
    if bytes.is_empty() {
        return Err(WireError::Empty);
    }
    if bytes.len() > LIMIT {
        return Err(WireError::TooLong);
    }
    let Some((header, payload)) = bytes.split_at_checked(HEADER) else {
        return Err(WireError::BadMagic);
    };
    let (magic, length) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(WireError::BadMagic);
    }
    let stated = u64::from_le_bytes(length.try_into().expect("the header's second half"));
    if usize::try_from(stated) != Ok(payload.len()) {
        return Err(WireError::WrongLength {
            stated,
            found: payload.len(),
        });
    }
    // An archive is only valid at its alignment, which the buffer of the caller may not have.
    let mut aligned: AlignedVec = AlignedVec::with_capacity(payload.len());
    aligned.extend_from_slice(payload);
    rkyv::from_bytes::<T, rancor::Error>(&aligned)
        .map_err(|error| WireError::Invalid(error.to_string().replace('\n', "; ")))
}
