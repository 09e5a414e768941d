//! One acceptance log, line by line, plain or gzip.

use std::{
    io::{self, BufRead, BufReader, Cursor, Read},
    mem,
    sync::atomic::Ordering,
};

use flate2::read::MultiGzDecoder;
use serde_json::error::Category;
use tokio::sync::mpsc;

use super::acceptances::{Acceptance, LogSeen, Malformed, Part, Progress};

/// The longest line that is read as a whole; an acceptance has some 250 bytes.
const LINE_BYTES_MAX: u64 = 4_096;
const READ_BYTES: usize = 64 << 10;
/// Lines handed over together.
const PART_LINES: usize = 1_000;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A log being read.
pub(super) struct Reading<'a> {
    seen: LogSeen,
    part: Part,
    progress: &'a Progress,
    parts: &'a mpsc::Sender<Part>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(log: String, progress: &'a Progress, parts: &'a mpsc::Sender<Part>) -> Self {
        let seen = LogSeen { log, lines: 0, malformed: 0, first: None, last: None, broken: None };
        Self { seen, part: Part::default(), progress, parts }
    }

    /// `None` when nobody takes the parts any more.
    pub(super) fn read(mut self, input: impl Read + Send + 'static) -> Option<()> {
        self.seen.broken = match decompressed(input) {
            Ok(input) => self.lines(input)?.err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        self.part.ended = Some(self.seen);
        self.parts.blocking_send(self.part).ok()
    }

    fn lines(&mut self, mut input: Box<dyn BufRead>) -> Option<io::Result<()>> {
        let mut line = Vec::new();
        loop {
            match next_line(&mut input, &mut line) {
                Ok(true) => self.line(&line),
                Ok(false) => return Some(Ok(())),
                Err(error) => return Some(Err(error)),
            }
            if self.part.acceptances.len() + self.part.malformed.len() >= PART_LINES {
                self.parts.blocking_send(mem::take(&mut self.part)).ok()?;
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.seen.lines += 1;
        self.progress.lines.fetch_add(1, Ordering::Relaxed);
        // After a write that failed, a producer begins a new line, whether there was a torn one or not.
        if line.trim_ascii().is_empty() {
            return;
        }
        match serde_json::from_slice::<Acceptance>(line.trim_ascii_end()) {
            Ok(acceptance) => {
                let at = acceptance.accepted_at;
                self.seen.first = Some(self.seen.first.map_or(at, |first| first.min(at)));
                self.seen.last = Some(self.seen.last.map_or(at, |last| last.max(at)));
                self.part.acceptances.push(acceptance);
            }
            Err(error) => {
                self.seen.malformed += 1;
                let (log, line) = (self.seen.log.clone(), self.seen.lines);
                self.part.malformed.push(Malformed { log, line, why: why(&error) });
            }
        }
    }
}

fn decompressed(mut input: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead>> {
    let mut head = Vec::new();
    input.by_ref().take(GZIP.len() as u64).read_to_end(&mut head)?;
    let is_gzip = head == GZIP;
    let whole = Cursor::new(head).chain(input);
    Ok(if is_gzip {
        Box::new(BufReader::with_capacity(READ_BYTES, MultiGzDecoder::new(whole)))
    } else {
        Box::new(BufReader::with_capacity(READ_BYTES, whole))
    })
}

/// Reads a line, or as much of it as any acceptance has; false behind the last one.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let bytes = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    if bytes as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        input.skip_until(b'\n')?;
    }
    Ok(bytes > 0)
}

/// The parser's own message could repeat what it stumbles over.
fn why(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        Category::Eof => "it is cut off",
        Category::Syntax | Category::Io => "it is no JSON",
        Category::Data => "it is no acceptance",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const LINE: &str = r#"{"time":"2026-01-02T03:04:05.6Z","order_id":"eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny","fingerprint":"01dd8a5556eaaaff1d1dcbf0d875c3ebb496fae12b02dedd55dfb9eebb4a81680f","account":"demo"}"#;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn read(log: impl Into<Vec<u8>>) -> (usize, Vec<Malformed>, LogSeen) {
        let (parts, mut taken) = mpsc::channel(100);
        Reading::new("log".into(), &Progress::default(), &parts).read(Cursor::new(log.into())).unwrap();
        let (mut acceptances, mut malformed) = (0, Vec::new());
        while let Some(part) = taken.blocking_recv() {
            acceptances += part.acceptances.len();
            malformed.extend(part.malformed);
            if let Some(seen) = part.ended {
                return (acceptances, malformed, seen);
            }
        }
        panic!("the log has an end");
    }

    #[test]
    fn lines_are_read_however_they_are_stored_and_torn_ones_are_named() {
        let torn = &LINE[..40];
        let log = format!("{LINE}\n\n{torn}\nno json\n{{\"time\":7}}\n{LINE}");
        for (stored, how) in [(log.clone().into_bytes(), "plain"), (gzip(&log), "gzip")] {
            let (acceptances, malformed, seen) = read(stored);
            assert_eq!((acceptances, seen.lines, seen.malformed, seen.broken), (2, 6, 3, None), "{how}");
            let named: Vec<_> = malformed.iter().map(|malformed| (malformed.line, malformed.why)).collect();
            assert_eq!(named, [(3, "it is cut off"), (4, "it is no JSON"), (5, "it is no acceptance")]);
            assert_eq!(seen.first.unwrap().to_string(), "2026-01-02T03:04:05.6Z");
        }
    }

    #[test]
    fn logs_that_were_compressed_one_by_one_are_one_log_when_put_together() {
        let line = gzip(&format!("{LINE}\n"));
        assert_eq!(read([line.clone(), line].concat()).0, 2);
    }

    #[test]
    fn a_compressed_log_that_is_cut_off_is_read_as_far_as_it_goes() {
        let mut log = gzip(&format!("{LINE}\n").repeat(5_000));
        log.truncate(log.len() / 2);
        let (acceptances, _, seen) = read(log);
        assert!(acceptances > 0 && seen.broken.is_some(), "{acceptances} {seen:?}");
    }

    #[test]
    fn a_line_without_end_takes_no_memory_and_is_one_malformed_line() {
        let log = format!("{{\"x\":\"{}\"}}\n{LINE}\n", "x".repeat(1 << 20));
        let (acceptances, malformed, seen) = read(log);
        assert_eq!((acceptances, malformed.len(), seen.lines), (1, 1, 2));
    }

    #[test]
    fn a_field_that_is_not_known_is_left_alone() {
        let newer = LINE.replace(r#""account""#, r#""producer":"p-1","account""#);
        assert_eq!(read(newer).0, 1);
    }
}
