//! Reading the small files that an agent leaves for Maestro.
//!
//! The agent chooses what lies at these paths. A link, a pipe that nobody writes to, a device or a folder
//! must neither hang the worker nor lead it elsewhere, and a large file must not fill its memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Why such a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum OwnFileError {
    /// A link, folder, pipe, socket or device.
    #[error("it is not a regular file")]
    NotRegular,
    /// More than was asked for.
    #[error("it has more than {max} bytes")]
    TooLarge {
        /// The most that would have been taken.
        max: usize,
    },
    /// The host failed.
    #[error(transparent)]
    Host(#[from] io::Error),
}

/// Reads a regular file of at most `max` bytes, or none if there is no such file.
///
/// # Errors
/// See [`OwnFileError`].
pub fn read_own_file(path: &Path, max: usize) -> Result<Option<Vec<u8>>, OwnFileError> {
    let Some(file) = open_regular(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max { Err(OwnFileError::TooLarge { max }) } else { Ok(Some(bytes)) }
}

/// Reads the first `max` bytes of a regular file; none if there is no such file or it is something else.
pub(crate) fn read_own_head(path: &Path, max: usize) -> Option<Vec<u8>> {
    let file = open_regular(path).ok()??;
    let mut bytes = Vec::new();
    file.take(max as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn open_regular(path: &Path) -> Result<Option<File>, OwnFileError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        // A link, a socket.
        Err(Errno::LOOP | Errno::NXIO) => return Err(OwnFileError::NotRegular),
        Err(errno) => return Err(OwnFileError::Host(errno.into())),
    };
    if file.metadata()?.is_file() { Ok(Some(file)) } else { Err(OwnFileError::NotRegular) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_regular_file_of_bounded_size_is_read() {
        let place = tempfile::tempdir().expect("a folder");
        let file = |name: &str| place.path().join(name);
        fs::write(file("plain"), "12345").expect("a file");
        assert_eq!(read_own_file(&file("plain"), 5).expect("it fits"), Some(b"12345".to_vec()));
        assert!(matches!(read_own_file(&file("plain"), 4), Err(OwnFileError::TooLarge { max: 4 })));
        assert_eq!(read_own_head(&file("plain"), 4), Some(b"1234".to_vec()));
        assert!(read_own_file(&file("none"), 5).expect("no error").is_none());

        symlink(file("plain"), file("link")).expect("a link");
        rustix::fs::mkfifoat(rustix::fs::CWD, file("pipe"), Mode::RWXU).expect("a pipe");
        fs::create_dir(file("folder")).expect("a folder");
        let _listener = UnixListener::bind(file("socket")).expect("a socket");
        for odd in ["link", "pipe", "folder", "socket"] {
            let refused = read_own_file(&file(odd), 5);
            assert!(matches!(refused, Err(OwnFileError::NotRegular)), "{odd}: {refused:?}");
        }
    }
}
