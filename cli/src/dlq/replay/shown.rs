//! What `orderfleet dlq replay` prints on stdout: plans, forecasts, results.

use orderfleet_domain::{FailureFingerprint, StepName};
use orderfleet_operations::forecast::ForecastGroup;
use orderfleet_operations::replay::{Group, Plan, Progress};
use orderfleet_storage::{Replay, ReplayItem, Store};
use serde::Serialize;

use crate::dlq::failed;
use crate::output::{Output, Row, table};

/// As of `dlq stats`, as far as they have the same columns.
const GROUP_HEADER: &[&str] = &["FINGERPRINT", "QUEUE", "CLASS", "COUNT", "WOULD"];

#[derive(Serialize)]
struct Planned<'a> {
    database: &'a str,
    plan: &'a str,
    count: usize,
    groups: &'a [Group],
}

#[derive(Serialize)]
struct Ended<'a> {
    database: &'a str,
    replay: &'a str,
    #[serde(flatten)]
    progress: &'a Progress,
}

#[derive(Serialize)]
struct ItemRow {
    letter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
    state: &'static str,
    #[serde(rename = "gen")]
    generation: u32,
    note: String,
}

/// What a plan would do, group by group.
///
/// # Errors
/// Stdout cannot be written.
pub(super) fn plan(output: Output, database: &str, plan: &Plan) -> anyhow::Result<()> {
    let groups = plan.groups();
    let rows = table(Group::HEADER, groups.iter().map(Group::cells));
    output.print(&Planned { database, plan: &plan.id, count: plan.items.len(), groups: &groups }, &rows)
}

/// How many items of a replay stand where.
///
/// # Errors
/// Stdout cannot be written.
pub(super) fn ended(output: Output, database: &str, replay: &str, progress: &Progress) -> anyhow::Result<()> {
    let Progress { waiting, begun, done, failed, refused } = progress;
    let counts = [done, failed, refused, begun, waiting].map(ToString::to_string);
    let row = [replay.to_owned()].into_iter().chain(counts).collect();
    let header = ["REPLAY", "DONE", "FAILED", "REFUSED", "BEGUN", "WAITING"];
    output.print(&Ended { database, replay, progress }, &table(&header, [row]))
}

/// What became of each item of a replay.
///
/// # Errors
/// The database does not answer, or stdout cannot be written.
pub(super) async fn results(store: &Store, replay: &Replay, output: Output) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    loop {
        let page = store.replay_items(&replay.id, u32::try_from(rows.len())?).await;
        let page = page.map_err(|error| failed(error.into()))?;
        if page.is_empty() {
            return output.print_rows(&rows);
        }
        rows.extend(page.into_iter().map(ItemRow::from));
    }
}

impl From<ReplayItem> for ItemRow {
    fn from(item: ReplayItem) -> Self {
        Self {
            letter: item.letter,
            order_id: item.order_id.map(|id| id.to_string()),
            state: item.state.as_str(),
            generation: item.generation,
            note: item.note,
        }
    }
}

impl Row for ItemRow {
    const HEADER: &'static [&'static str] = &["LETTER", "STATE", "RUN", "NOTE"];

    fn cells(&self) -> Vec<String> {
        vec![self.letter.clone(), self.state.into(), self.generation.to_string(), self.note.clone()]
    }
}

impl Row for ForecastGroup {
    const HEADER: &'static [&'static str] = GROUP_HEADER;

    fn cells(&self) -> Vec<String> {
        let Self { fingerprint, queue, step, class, count, what, .. } = self;
        group_cells(fingerprint, queue, step.as_ref(), class, *count, what)
    }
}

impl Row for Group {
    const HEADER: &'static [&'static str] = GROUP_HEADER;

    fn cells(&self) -> Vec<String> {
        let Self { fingerprint, queue, step, class, count, what, .. } = self;
        group_cells(fingerprint, queue, step.as_ref(), class, *count, what)
    }
}

fn group_cells(
    fingerprint: &FailureFingerprint,
    queue: &str,
    step: Option<&StepName>,
    class: &str,
    count: usize,
    what: &str,
) -> Vec<String> {
    let queue = match step {
        Some(step) if step.as_str() != queue => format!("{queue}/{step}"),
        _ => queue.to_owned(),
    };
    vec![fingerprint.to_string(), queue, class.to_owned(), count.to_string(), what.to_owned()]
}
