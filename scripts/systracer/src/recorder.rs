//! Copies st-probe's stream, compressed, to a recording on its way to st-decode.

use crate::compressor::Compressor;
use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use st_probe::sys::poll::poll;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// How much is copied at once, and how much each pipe holds where that is allowed: bytes.
const PIPE: usize = 1 << 20;

/// From a pipe to a file and another pipe. It waits for neither pipe.
pub struct Recorder {
    /// None once it has ended, or once nobody wants it.
    input: Option<File>,
    /// None once its reader has gone or it has all that there is.
    output: Option<File>,
    /// None once it could not be written to.
    recording: Option<Compressor>,
    path: PathBuf,
    /// What was read last; from `written` to `read` it is still to be written to `output`, from
    /// `recorded` to the recording.
    buffer: Vec<u8>,
    written: usize,
    recorded: usize,
    read: usize,
    reader_gone: bool,
    trouble: Option<String>,
}

impl Recorder {
    /// To the file `recording`, which `path` names, and to `output`.
    pub fn new(
        input: OwnedFd,
        output: OwnedFd,
        (path, recording): (PathBuf, File),
    ) -> Result<Self> {
        // These are no descriptions of the stages': each end of a pipe has its own.
        for pipe in [&input, &output] {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("cannot set up a pipe")?;
            // More than the user may have is refused: then it is what it is.
            let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE as i32));
        }
        let recording = Compressor::new(recording).context("cannot compress a recording")?;
        Ok(Self {
            input: Some(input.into()),
            output: Some(output.into()),
            recording: Some(recording),
            path,
            buffer: vec![0; PIPE],
            written: 0,
            recorded: 0,
            read: 0,
            reader_gone: false,
            trouble: None,
        })
    }

    /// What to poll for before the next turn; nothing once it is done.
    pub fn awaited(&self) -> Vec<PollFd<'_>> {
        match (&self.input, &self.output) {
            (_, Some(output)) if self.written < self.read => {
                vec![PollFd::new(output.as_fd(), PollFlags::POLLOUT)]
            }
            (Some(input), output) => {
                let input = PollFd::new(input.as_fd(), PollFlags::POLLIN);
                // The reader may go while there is nothing to be written.
                let output =
                    (output.as_ref()).map(|output| PollFd::new(output.as_fd(), PollFlags::empty()));
                [input].into_iter().chain(output).collect()
            }
            (None, _) => Vec::new(),
        }
    }

    /// How long to wait for that: then the next turn writes to the recording what it does not have
    /// yet.
    pub fn patience(&self) -> Duration {
        (self.recording.as_ref()).map_or(Duration::MAX, Compressor::patience)
    }

    /// Whether whoever reads its output has gone, while the recording goes on.
    pub fn reader_is_gone(&self) -> bool {
        self.reader_gone
    }

    /// Why the recording could not be written any further, once.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// Copies what can be copied without waiting, and not much at once.
    pub fn turn(&mut self) -> Result<()> {
        self.write()?;
        if self.written == self.read {
            self.look_for_reader()?;
            self.read()?;
            // The reader is not to wait for the compression.
            self.write()?;
        }
        self.record();
        Ok(())
    }

    /// Finds out whether whoever reads its output has gone.
    fn look_for_reader(&mut self) -> Result<()> {
        if let Some(output) = &self.output {
            let mut output = [PollFd::new(output.as_fd(), PollFlags::empty())];
            let told = poll(&mut output, Duration::ZERO).context("cannot poll")?;
            if told > 0 {
                self.lose_reader();
            }
        }
        Ok(())
    }

    fn lose_reader(&mut self) {
        self.output = None;
        self.reader_gone = true;
        self.end_if_unwanted();
    }

    /// Reads what is there.
    fn read(&mut self) -> Result<()> {
        let Some(input) = &mut self.input else {
            return Ok(());
        };
        (self.written, self.recorded, self.read) = (0, 0, 0);
        match input.read(&mut self.buffer) {
            Ok(0) => (self.input, self.output) = (None, None),
            Ok(count) => self.read = count,
            Err(error) if is_passing(error.kind()) => {}
            Err(error) => return Err(error).context("cannot read from st-probe"),
        }
        Ok(())
    }

    /// Records what was read, and ends the recording once that is all.
    fn record(&mut self) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let bytes = &self.buffer[self.recorded..self.read];
        self.recorded = self.read;
        let over = self.input.is_none();
        let recorded = recording.write(bytes).and_then(|()| match over {
            true => recording.finish(),
            false => recording.flush_if_due(),
        });
        if let Err(error) = &recorded {
            let path = self.path.display();
            let trouble = format!("cannot write to '{path}', which ends here: {error}");
            self.trouble = Some(trouble);
        }
        if over || recorded.is_err() {
            self.recording = None;
            self.end_if_unwanted();
        }
    }

    /// Writes what was read, as far as the pipe takes it.
    fn write(&mut self) -> Result<()> {
        while let (Some(output), true) = (&mut self.output, self.written < self.read) {
            match output.write(&self.buffer[self.written..self.read]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::BrokenPipe => self.lose_reader(),
                Err(error) => return Err(error).context("cannot write to st-decode"),
            }
        }
        if self.output.is_none() {
            self.written = self.read;
        }
        self.end_if_unwanted();
        Ok(())
    }

    /// Closes the pipe from st-probe, which notices that, once nobody wants what it writes.
    fn end_if_unwanted(&mut self) {
        if self.output.is_none() && self.recording.is_none() {
            self.input = None;
        }
    }
}

/// Whether to try again later.
fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::pipe2;
    use st_probe::compressed::Plain;
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use std::thread;

    /// A recorder, the end that it reads from, the one that it writes to, and the recording's path.
    fn recorder(name: &str) -> (Recorder, File, File, PathBuf) {
        let name = format!("systracer-copy-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let recording = File::create(&path).unwrap();
        let (input, feed) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (drain, output) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let recorder = Recorder::new(input, output, (path.clone(), recording)).unwrap();
        (recorder, feed.into(), drain.into(), path)
    }

    /// Turns until it is done.
    fn finish(recorder: &mut Recorder) {
        loop {
            let mut awaited = recorder.awaited();
            if awaited.is_empty() {
                break;
            }
            poll(&mut awaited, recorder.patience()).unwrap();
            recorder.turn().unwrap();
        }
    }

    /// What a recording holds, and whether it is whole.
    fn recorded(path: &Path) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let read = Plain::new(File::open(path).unwrap()).read_to_end(&mut bytes);
        (bytes, read.is_ok())
    }

    fn full() -> Option<Compressor> {
        let file = File::options().write(true).open("/dev/full").unwrap();
        Some(Compressor::new(file).unwrap())
    }

    fn bytes() -> Vec<u8> {
        (0..5_000_000u32).map(|number| (number / 3) as u8).collect()
    }

    #[test]
    fn everything_goes_both_ways() {
        let (mut recorder, mut feed, mut drain, path) = recorder("both");
        thread::scope(|scope| {
            scope.spawn(|| {
                feed.write_all(&bytes()).unwrap();
                drop(feed);
            });
            let read = scope.spawn(move || {
                let mut read = Vec::new();
                drain.read_to_end(&mut read).unwrap();
                read
            });
            finish(&mut recorder);
            assert!(read.join().unwrap() == bytes());
        });
        assert!(recorded(&path) == (bytes(), true));
        assert!(!recorder.reader_is_gone() && recorder.take_trouble().is_none());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_recording_gets_everything_though_the_reader_goes() {
        let (mut recorder, mut feed, drain, path) = recorder("gone");
        drop(drain);
        thread::scope(|scope| {
            scope.spawn(|| {
                feed.write_all(&bytes()).unwrap();
                drop(feed);
            });
            finish(&mut recorder);
        });
        assert!(recorder.reader_is_gone() && recorder.take_trouble().is_none());
        assert!(recorded(&path) == (bytes(), true));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn it_notices_that_the_reader_goes_while_nothing_comes() {
        let (mut recorder, mut feed, drain, path) = recorder("silence");
        feed.write_all(b"some").unwrap();
        poll(&mut recorder.awaited(), Duration::MAX).unwrap();
        recorder.turn().unwrap();
        drop(drain);
        poll(&mut recorder.awaited(), Duration::MAX).unwrap();
        recorder.turn().unwrap();
        assert!(recorder.reader_is_gone());
        feed.write_all(b"more").unwrap();
        drop(feed);
        finish(&mut recorder);
        assert_eq!(recorded(&path), (b"somemore".to_vec(), true));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_reader_gets_everything_though_the_disk_is_full() {
        let (mut recorder, mut feed, mut drain, path) = recorder("full");
        recorder.recording = full();
        feed.write_all(b"all of it").unwrap();
        drop(feed);
        finish(&mut recorder);
        let mut read = Vec::new();
        drain.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"all of it");
        assert!(!recorder.reader_is_gone());
        let trouble = recorder.take_trouble().unwrap();
        assert!(trouble.contains(path.to_str().unwrap()), "{trouble}");
        assert!(trouble.contains("No space left"), "{trouble}");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn with_neither_it_ends_and_its_writer_notices() {
        let (mut recorder, mut feed, drain, path) = recorder("neither");
        recorder.recording = full();
        drop(drain);
        feed.write_all(b"some").unwrap();
        finish(&mut recorder);
        let refused = feed.write_all(b"more").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_comes_is_in_the_recording_soon_though_nothing_follows() {
        let (mut recorder, mut feed, drain, path) = recorder("soon");
        drop(drain);
        assert_eq!(recorder.patience(), Duration::MAX);
        for (part, all) in [("some", "some"), ("more", "somemore")] {
            feed.write_all(part.as_bytes()).unwrap();
            while recorded(&path).0 != all.as_bytes() {
                poll(&mut recorder.awaited(), recorder.patience()).unwrap();
                recorder.turn().unwrap();
            }
            // It can be read, but is not over.
            assert!(!recorded(&path).1);
            // Nothing is to be done until more comes.
            assert_eq!(recorder.patience(), Duration::MAX);
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn zstdcat_restores_the_stream() {
        let (mut recorder, mut feed, drain, path) = recorder("zstdcat");
        drop(drain);
        // More than one frame.
        let bytes = bytes().repeat(4);
        thread::scope(|scope| {
            scope.spawn(|| {
                feed.write_all(&bytes).unwrap();
                drop(feed);
            });
            finish(&mut recorder);
        });
        let output = Command::new("zstdcat").arg(&path).output().unwrap();
        assert!(output.status.success() && output.stdout == bytes);
        fs::remove_file(path).unwrap();
    }
}
