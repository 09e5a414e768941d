//! The admin port: is the process alive, is it ready for work, what do its metrics say, and what does it log. Whoever reaches it
//! needs no key: it is for operators' networks alone.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, extract::DefaultBodyLimit, http::StatusCode, routing::get};

use crate::telemetry::{BadFilter, FILTER_BYTES_MAX, LogFilter, Telemetry};

/// State of the parts a process consists of. Alive means that every watched part makes progress, not that the process
/// has a socket open; ready means that every part said so. A dependency that is down makes a process unready, never dead:
/// a restart would not bring the dependency back.
#[derive(Debug)]
pub struct Health {
    parts: Mutex<BTreeMap<&'static str, Result<(), String>>>,
    notes: Mutex<BTreeMap<&'static str, String>>,
    beats: Mutex<BTreeMap<&'static str, (Instant, Duration)>>,
}

impl Health {
    /// A process of these parts, none of them ready yet.
    #[must_use]
    pub fn new(parts: &[&'static str]) -> Arc<Self> {
        let parts = parts.iter().map(|part| (*part, Err("starting".to_owned()))).collect();
        Arc::new(Self { parts: Mutex::new(parts), notes: Mutex::default(), beats: Mutex::default() })
    }

    /// A part is ready.
    pub fn ready(&self, part: &'static str) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(part, Ok(()));
    }

    /// A part is not ready, and why.
    pub fn not_ready(&self, part: &'static str, why: impl Into<String>) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(part, Err(why.into()));
    }

    /// Something that whoever looks should know and that is no trouble; `None` takes it back.
    pub fn note(&self, what: &'static str, text: Option<String>) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        match text {
            Some(text) => notes.insert(what, text),
            None => notes.remove(what),
        };
    }

    /// The notes, one line each.
    #[must_use]
    pub fn notes(&self) -> String {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        lines(notes.iter().map(|(what, text)| (*what, text.clone())))
    }

    /// A part has made progress and promises to do so again within `within`.
    pub fn beat(&self, part: &'static str, within: Duration) {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).insert(part, (Instant::now(), within));
    }

    /// Which parts are not ready, one line each; empty when all are.
    #[must_use]
    pub fn unready(&self) -> String {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        lines(parts.iter().filter_map(|(part, state)| Some((*part, state.as_ref().err()?.clone()))))
    }

    /// Which parts have stopped making progress, one line each; empty when none has.
    #[must_use]
    pub fn stalled(&self) -> String {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let late = beats.iter().filter(|(_, (at, within))| at.elapsed() > *within);
        lines(late.map(|(part, (at, _))| (*part, format!("no progress for {} s", at.elapsed().as_secs()))))
    }
}

fn lines(parts: impl Iterator<Item = (&'static str, String)>) -> String {
    parts.fold(String::new(), |mut text, (part, why)| {
        let _ = writeln!(text, "{part}: {why}");
        text
    })
}

/// `/healthz` (alive) and `/readyz` (ready) for a public port: 200, or 503 without a reason, which is nobody's business.
pub fn public_health_routes(health: &Arc<Health>) -> Router {
    let (live, ready) = (Arc::clone(health), Arc::clone(health));
    let brief = |problems: String| answer(if problems.is_empty() { problems } else { "no\n".to_owned() });
    Router::new()
        .route("/healthz", get(move || async move { brief(live.stalled()) }))
        .route("/readyz", get(move || async move { brief(ready.unready()) }))
}

/// The admin port's routes: `/healthz` and `/readyz` with a line per part that is not well, `/readyz` with the notes too,
/// `/metrics` in the Prometheus text format, and `/log`: GET tells the filter of the log, PUT changes it for as long as the process
/// lives, DELETE goes back to that of the settings.
pub fn routes(health: &Arc<Health>, telemetry: Telemetry) -> Router {
    let (live, ready) = (Arc::clone(health), Arc::clone(health));
    let Telemetry { metrics, log, .. } = telemetry;
    Router::new()
        .route("/healthz", get(move || async move { answer(live.stalled()) }))
        .route("/readyz", get(move || async move { with_notes(answer(ready.unready()), &ready) }))
        .route("/metrics", get(move || async move { metrics.render() }))
        .merge(log_routes(log))
}

fn log_routes(log: LogFilter) -> Router {
    let (changed, reset) = (log.clone(), log.clone());
    let put = move |filter: String| async move { told(&changed, changed.set(filter.trim())) };
    Router::new()
        .route(
            "/log",
            get(move || async move { told(&log, Ok(())) })
                .put(put)
                .delete(move || async move { told(&reset, reset.reset()) }),
        )
        // A little more, so that the filter's own answer says what is wrong.
        .layer(DefaultBodyLimit::max(2 * FILTER_BYTES_MAX))
}

fn told(log: &LogFilter, changed: Result<(), BadFilter>) -> (StatusCode, String) {
    match changed {
        Ok(()) => (StatusCode::OK, format!("{}\n", log.now())),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\nnothing was changed\n")),
    }
}

fn with_notes((status, text): (StatusCode, String), health: &Health) -> (StatusCode, String) {
    (status, text + &health.notes())
}

fn answer(problems: String) -> (StatusCode, String) {
    if problems.is_empty() {
        (StatusCode::OK, "ok\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_part_is() {
        let health = Health::new(&["broker", "database"]);
        health.ready("broker");
        assert_eq!(health.unready(), "database: starting\n");
        health.ready("database");
        assert_eq!(health.unready(), "");
        health.not_ready("broker", "connection lost");
        assert_eq!(health.unready(), "broker: connection lost\n");
    }

    #[test]
    fn a_note_is_told_and_is_no_trouble() {
        let health = Health::new(&[]);
        health.note("paused", Some("queue:new".to_owned()));
        let (status, text) = with_notes(answer(health.unready()), &health);
        assert_eq!((status, text.as_str()), (StatusCode::OK, "ok\npaused: queue:new\n"));
        health.note("paused", None);
        assert_eq!(with_notes(answer(health.unready()), &health).1, "ok\n");
    }

    #[test]
    fn a_part_without_progress_stalls_the_process() {
        let health = Health::new(&[]);
        health.beat("consumer", Duration::from_secs(60));
        assert_eq!(health.stalled(), "");
        health.beat("consumer", Duration::ZERO);
        assert!(health.stalled().starts_with("consumer: no progress"));
    }
}
