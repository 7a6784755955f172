//! Standard output of the commands.

use std::io::{self, ErrorKind, Write};

/// A writer that discards output once the reader has closed the pipe, as `head`
/// does. The command still ends with its own exit code.
#[derive(Debug)]
pub struct PipeOutput<W>(pub W);

impl<W: Write> Write for PipeOutput<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}
