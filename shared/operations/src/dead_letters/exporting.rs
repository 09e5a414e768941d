//! Dead letters as JSON lines: everything about them, personal data included, so that another database can have the same.

use std::{
    io::{BufRead, Read as _, Write},
    iter, mem,
    pin::pin,
};

use data_encoding::BASE64;
use futures_util::{TryStreamExt as _, stream};
use orderfleet_domain::Order;
use orderfleet_storage::{Content, Letter, LetterFilter};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Asked, DeadLetterError, DeadLetters};

/// Version of a line's shape.
const VERSION: u32 = 1;
/// Letters imported at once: each may be as long as a line.
const IMPORTS_AT_ONCE: usize = 8;
/// Ids looked up by one call.
const IDS_PER_CALL: usize = 500;
/// Longest line that is read: a document has 16 MiB, of which base64 makes a third more.
const LINE_BYTES_MAX: u64 = 32 << 20;

/// A message with its personal data, for one who may see it.
#[derive(Clone, Serialize)]
pub struct Revealed {
    /// The body, where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// The body in base64, where it is no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// The order as a person corrected it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correction: Option<Order>,
}

impl From<&Content> for Revealed {
    fn from(content: &Content) -> Self {
        let body: Option<Value> = serde_json::from_slice(&content.body).ok();
        let body_base64 = body.is_none().then(|| BASE64.encode(&content.body));
        Self { body, body_base64, correction: content.correction.clone() }
    }
}

/// What came of an export.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// How many letters were written.
    pub letters: u64,
    /// Ids of documents that match and that this build cannot read.
    pub unreadable: Vec<String>,
}

/// What came of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Letters that were missing.
    pub new: u64,
    /// Letters that were there, and stay as they are.
    pub known: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    v: u32,
    letter: Letter,
    headers: Vec<(String, String)>,
    /// Base64.
    body: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correction: Option<Order>,
}

impl DeadLetters {
    /// Writes the dead letters that a filter chooses, `limit` at most, one JSON value per line, oldest first; tells how many are
    /// written. Each holds personal data; that they were exported is recorded before. Leases are left out. Memory is bounded,
    /// however many they are.
    ///
    /// # Errors
    /// The database failed, `out` cannot be written, or the operator log refused the record.
    pub async fn export(
        &self,
        filter: &LetterFilter,
        limit: Option<u32>,
        selection: &str,
        asked: &Asked,
        out: &mut impl Write,
        tell: impl FnMut(u64),
    ) -> Result<Exported, DeadLetterError> {
        let act = Self::act(asked, "dlq.export", format!("dead letters: {selection}"));
        let act = self.log.begin(&act).await?;
        let exported = self.write_lines(filter, limit, out, tell).await;
        let result = match &exported {
            Ok(Exported { letters, .. }) => format!("{letters} exported"),
            Err(error) => format!("broke off: {error}"),
        };
        self.log.end(&act, &result).await?;
        exported
    }

    async fn write_lines(
        &self,
        filter: &LetterFilter,
        limit: Option<u32>,
        out: &mut impl Write,
        mut tell: impl FnMut(u64),
    ) -> Result<Exported, DeadLetterError> {
        let mut letters = pin!(self.store.export_letters(filter, limit).await?);
        let mut exported = Exported::default();
        while let Some((id, found)) = letters.try_next().await? {
            let Some((letter, content)) = found else {
                exported.unreadable.push(id);
                continue;
            };
            let line = Line {
                v: VERSION,
                letter: Letter { lease: None, ..letter },
                headers: content.headers,
                body: BASE64.encode(&content.body),
                correction: content.correction,
            };
            serde_json::to_writer(&mut *out, &line).map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
            exported.letters += 1;
            tell(exported.letters);
        }
        out.flush()?;
        Ok(exported)
    }

    /// Says what an import would do, and whether every line is an exported letter.
    ///
    /// # Errors
    /// The database failed, or a line is none; the message says which.
    pub async fn plan_import(&self, lines: &mut impl BufRead) -> Result<Imported, DeadLetterError> {
        let mut planned = Imported::default();
        let (mut number, mut ids) = (0, Vec::with_capacity(IDS_PER_CALL));
        while let Some((letter, _)) = next_letter(lines, &mut number)? {
            ids.push(letter.id);
            if ids.len() == IDS_PER_CALL {
                self.look_up(mem::take(&mut ids), &mut planned).await?;
            }
        }
        self.look_up(ids, &mut planned).await?;
        Ok(planned)
    }

    async fn look_up(&self, mut ids: Vec<String>, planned: &mut Imported) -> Result<(), DeadLetterError> {
        let all = ids.len() as u64;
        ids.sort_unstable();
        ids.dedup();
        let new = (ids.len() as u64).saturating_sub(self.store.known_letters(&ids).await?);
        planned.new += new;
        planned.known += all - new;
        Ok(())
    }

    /// Puts exported letters back, some at a time, and records it; tells how far it has come. A letter that is there stays as it
    /// is, so that the same lines can be imported again: after a crash, or an error, that brings the rest.
    ///
    /// # Errors
    /// As [`DeadLetters::plan_import`], or the operator log refused the record. Of the letters before the error all but the last
    /// few are imported.
    pub async fn import(
        &self,
        lines: &mut impl BufRead,
        source: &str,
        asked: &Asked,
        tell: impl FnMut(&Imported),
    ) -> Result<Imported, DeadLetterError> {
        let act = self.log.begin(&Self::act(asked, "dlq.import", source.to_owned())).await?;
        let mut imported = Imported::default();
        let outcome = self.read_lines(lines, &mut imported, tell).await;
        let Imported { new, known } = imported;
        let result = match &outcome {
            Ok(()) => format!("{new} imported, {known} were there"),
            Err(error) => format!("broke off after {new} imported: {error}"),
        };
        self.log.end(&act, &result).await?;
        outcome.map(|()| imported)
    }

    async fn read_lines(
        &self,
        lines: &mut impl BufRead,
        imported: &mut Imported,
        mut tell: impl FnMut(&Imported),
    ) -> Result<(), DeadLetterError> {
        let mut number = 0;
        let letters = iter::from_fn(|| next_letter(lines, &mut number).transpose());
        let imports = stream::iter(letters).map_ok(|(letter, content)| async move {
            self.store.import_letter(&letter, &content).await.map_err(DeadLetterError::from)
        });
        let mut arrivals = pin!(imports.try_buffer_unordered(IMPORTS_AT_ONCE));
        while let Some(is_new) = arrivals.try_next().await? {
            *if is_new { &mut imported.new } else { &mut imported.known } += 1;
            tell(imported);
        }
        Ok(())
    }
}

/// The letter of the next line that is not empty.
fn next_letter(
    lines: &mut impl BufRead,
    number: &mut u64,
) -> Result<Option<(Letter, Content)>, DeadLetterError> {
    loop {
        let mut line = Vec::new();
        lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        *number += 1;
        if !line.trim_ascii().is_empty() {
            let bad = |why| DeadLetterError::BadLine { number: *number, why };
            return letter(&line).map(Some).map_err(bad);
        }
    }
}

fn letter(line: &[u8]) -> Result<(Letter, Content), String> {
    // The parser's own words could repeat what it reads.
    let place = |error: serde_json::Error| format!("wrong shape or value at column {}", error.column());
    let Line { v, letter, headers, body, correction } = serde_json::from_slice(line).map_err(place)?;
    if v != VERSION {
        return Err(format!("its version is {v}, and this build reads {VERSION}"));
    }
    if letter.order_id.as_ref().is_some_and(|order_id| !letter.id.starts_with(&format!("{order_id}."))) {
        return Err("its id does not begin with that of its order".into());
    }
    let body = BASE64.decode(body.as_bytes()).map_err(|_| "its body is not base64".to_owned())?;
    Ok((Letter { lease: None, ..letter }, Content { headers, body, correction }))
}
