//! A file of the kernel's that is read again and again: the descriptor stays open, a look reads it from its beginning.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file that is read again and again.
#[derive(Debug)]
pub(crate) struct Watched {
    file: File,
    path: PathBuf,
}

impl Watched {
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        match File::open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(told(&path, &error)),
        }
    }

    pub(crate) fn read<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b str> {
        let length = self.file.read_at(buffer, 0).map_err(|error| told(&self.path, &error))?;
        std::str::from_utf8(&buffer[..length]).map_err(|_| self.garbage())
    }

    pub(crate) fn parse<T>(&self, buffer: &mut [u8], parse: impl FnOnce(&str) -> Option<T>) -> io::Result<T> {
        parse(self.read(buffer)?).ok_or_else(|| self.garbage())
    }

    fn garbage(&self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} holds garbage", self.path.display()))
    }
}

/// The error, with the file that it concerns.
pub(crate) fn told(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A path of the machine's below the directory that stands for its root.
pub(crate) fn below(root: &Path, absolute: &str) -> PathBuf {
    root.join(absolute.trim_start_matches('/'))
}
