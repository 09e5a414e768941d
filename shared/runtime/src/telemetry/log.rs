//! What is logged, changeable while the process runs, and how a line looks where people read it.

use std::{fmt, fmt::Write as _};

use tracing::{Level, Metadata, field::Field};
use tracing_subscriber::{
    EnvFilter, Registry,
    field::MakeExt as _,
    fmt::{
        FormatFields,
        format::{Writer, debug_fn},
    },
    reload,
};

/// Longest filter in bytes.
pub const FILTER_BYTES_MAX: usize = 1_024;

/// A filter that cannot be used; the message names the part that is at fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadFilter(String);

/// The filter of a process's log. Clones are the same one.
#[derive(Debug, Clone)]
pub struct LogFilter {
    /// That of the settings.
    configured: String,
    live: reload::Handle<EnvFilter, Registry>,
}

impl LogFilter {
    /// The filter of the settings, and the part of the logger that obeys it.
    pub(super) fn new(configured: &str) -> Result<(reload::Layer<EnvFilter, Registry>, Self), BadFilter> {
        let (obeying, live) = reload::Layer::new(parse(configured)?);
        Ok((obeying, Self { configured: configured.to_owned(), live }))
    }

    /// What is logged now.
    #[must_use]
    pub fn now(&self) -> String {
        self.live.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Logs something else from now on, until it is changed again or the process ends.
    ///
    /// # Errors
    /// No filter; nothing is changed then.
    pub fn set(&self, filter: &str) -> Result<(), BadFilter> {
        let before = self.now();
        self.live.reload(parse(filter)?).map_err(|error| BadFilter(error.to_string()))?;
        tracing::warn!(log.before = before, log.now = self.now(), "what is logged was changed");
        Ok(())
    }

    /// Logs what the settings say again. A second call changes nothing.
    ///
    /// # Errors
    /// The logger is gone.
    pub fn reset(&self) -> Result<(), BadFilter> {
        self.set(&self.configured)
    }
}

/// Directives one by one, since the parser does not say which of several it stumbles over.
fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    if filter.trim().is_empty() {
        return Err(BadFilter("the filter is empty; write one such as: info,orderfleet_worker=debug".into()));
    }
    if filter.len() > FILTER_BYTES_MAX {
        return Err(BadFilter(format!("the filter is longer than {FILTER_BYTES_MAX} bytes")));
    }
    // Values of fields are compared as texts: a regular expression could take any time.
    let parser = EnvFilter::builder().with_regex(false);
    for directive in filter.split(',').map(str::trim) {
        // Fields in braces may hold commas.
        let part = if filter.contains('{') { filter } else { directive };
        parser.parse(part).map_err(|error| {
            let shown = part.escape_debug();
            BadFilter(format!(
                "`{shown}` is no log directive: {error}; write one such as: orderfleet_worker=debug"
            ))
        })?;
    }
    parser.parse(filter).map_err(|error| BadFilter(error.to_string()))
}

/// Where lapin (4.12) warns of each message that the broker returns, and writes out all of it.
const RETURNED_MESSAGES: &str = "lapin::returned_messages";

/// Whether an event may be logged, whatever the filter says. At the lowest level libraries tell what goes through them: lapin (4.12)
/// writes out frames, and so passwords and addresses.
pub(super) fn is_safe(event: &Metadata<'_>) -> bool {
    let target = event.target();
    target.starts_with("orderfleet") || (*event.level() != Level::TRACE && target != RETURNED_MESSAGES)
}

/// Fields for people: `message name=value …`, control characters escaped, so that an event is one line and moves no cursor.
pub(super) fn text_fields() -> impl for<'a> FormatFields<'a> + Send + Sync + 'static {
    debug_fn(|out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        if field.name() != "message" {
            write!(out, "{}=", field.name())?;
        }
        write!(Escaping(out), "{value:?}")
    })
    .delimited(" ")
}

struct Escaping<'a, 'b>(&'a mut Writer<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|char| match char.is_control() {
            true => write!(self.0, "{}", char.escape_default()),
            false => self.0.write_char(char),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{Layer as _, fmt, layer::SubscriberExt as _};

    use super::*;

    /// A log in memory.
    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_filter_changes_at_once_and_comes_back() {
        let lines = Lines::default();
        let output = lines.clone();
        let (obeying, filter) = LogFilter::new("warn").unwrap();
        let layer = fmt::layer().with_writer(move || output.clone()).with_filter(obeying);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::debug!("first");
            filter.set("debug,other=error").unwrap();
            assert_eq!(filter.now(), "other=error,debug");
            tracing::debug!("second");
            filter.reset().unwrap();
            assert_eq!(filter.now(), "warn");
            tracing::debug!("third");
        });
        let text = lines.text();
        assert!(!text.contains("first") && text.contains("second") && !text.contains("third"), "{text}");
        assert!(text.contains("what is logged was changed"), "{text}");
    }

    #[test]
    fn a_bad_filter_is_named_and_changes_nothing() {
        let (_obeying, filter) = LogFilter::new("info").unwrap();
        for (bad, named) in [
            ("info,lapin=loud,mongodb=debug", "`lapin=loud`"),
            ("", "empty"),
            (" ", "empty"),
            ("a=b=c", "`a=b=c`"),
            ("[", "`[`"),
            (&"x".repeat(2_000), "1024 bytes"),
        ] {
            let error = filter.set(bad).unwrap_err().to_string();
            assert!(error.contains(named), "{bad}: {error}");
            assert_eq!(filter.now(), "info");
        }
    }

    #[test]
    fn an_event_is_one_line_for_people_and_for_programs() {
        let (text, json) = (Lines::default(), Lines::default());
        let (to_text, to_json) = (text.clone(), json.clone());
        let for_people =
            fmt::layer().fmt_fields(text_fields()).with_ansi(false).with_writer(move || to_text.clone());
        let for_programs = fmt::layer().json().flatten_event(true).with_writer(move || to_json.clone());
        let wicked = "a\nb\u{1b}[2J\u{9b}c\r\td";
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(for_people).with(for_programs),
            || tracing::error!(error = %wicked, order.id = wicked, "it is {wicked}"),
        );
        for lines in [text.text(), json.text()] {
            assert_eq!(lines.lines().count(), 1, "{lines:?}");
            assert!(!lines.trim_end_matches('\n').contains(['\n', '\r', '\t', '\u{1b}']), "{lines:?}");
        }
        assert!(text.text().contains(r"error=a\nb\u{1b}[2J\u{9b}c\r\td"), "{}", text.text());
        let event: serde_json::Value = serde_json::from_str(&json.text()).unwrap();
        assert_eq!(event["order.id"], wicked);
    }
}
