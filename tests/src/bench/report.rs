//! What was measured, beside what it should be: for people as a table, for programs as JSON.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::usage::Cost;

/// A value over the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The one in the middle; of an even number of rounds the mean of two.
    pub median: f64,
    /// The most.
    pub max: f64,
}

/// What a line should show.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Target {
    /// Which of the medians is judged.
    pub of: Judged,
    /// At least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// At most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// What a target is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judged {
    /// What the fleet does.
    Fleet,
    /// The fleet's value by the one it is compared with.
    Ratio,
}

/// One thing that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The part of the benchmark.
    pub part: &'static str,
    /// What was measured.
    pub what: String,
    /// In what.
    pub unit: &'static str,
    /// What the fleet is compared with: the bare figure, if nothing else is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bare: Option<Spread>,
    /// What the fleet does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Spread>,
    /// Fleet by bare, each taken within a round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Spread>,
    /// What it should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
    /// Whether every target is met; absent without targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
}

/// What a measurement has cost all processes of the run, the mean of its rounds.
#[derive(Debug, Clone, Serialize)]
pub struct CostLine {
    /// The part of the benchmark.
    pub part: &'static str,
    /// What was measured.
    pub what: String,
    /// CPU seconds per 1,000 orders by process.
    pub by_process: BTreeMap<&'static str, f64>,
    /// Of all processes.
    pub total: f64,
}

/// Where and how it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Surroundings {
    /// The processor's model.
    pub processor: String,
    /// How many there are.
    pub processors: usize,
    /// Main memory in GB.
    pub memory_gb: f64,
    /// The kernel.
    pub kernel: String,
    /// The broker.
    pub rabbitmq: String,
    /// The database.
    pub mongodb: String,
    /// `release` or `development`, of which only the first says anything.
    pub build: &'static str,
    /// The orders of real size.
    pub orders: String,
    /// Load of the machine in the minute before the run, in processes: what others did.
    pub load_before: String,
}

/// What came of every order that was accepted.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Accounts {
    /// Answered 202.
    pub accepted: u64,
    /// Ended DONE.
    pub done: u64,
    /// Ended UNDONE.
    pub undone: u64,
    /// HELD for a person.
    pub held: u64,
    /// Posted where no worker ran, and taken out of the queue by the benchmark.
    pub queued: u64,
    /// None of these at the end: lost.
    pub missing: u64,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where and how.
    pub surroundings: Surroundings,
    /// How often each was measured.
    pub rounds: usize,
    /// Share of the processors that processes outside the run used during its measurements: figures of a busy machine say little.
    pub others_percent: Option<Spread>,
    /// What was measured.
    pub lines: Vec<Line>,
    /// What it has cost.
    pub costs: Vec<CostLine>,
    /// What came of the orders.
    pub accounts: Accounts,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl Spread {
    /// Of the rounds' values; none without any.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { min, median, max })
    }

    /// Of the quotients within each round.
    #[must_use]
    pub fn of_ratios(fleet: &[f64], bare: &[f64]) -> Option<Self> {
        Self::of(&fleet.iter().zip(bare).map(|(fleet, bare)| fleet / bare).collect::<Vec<_>>())
    }
}

impl Target {
    /// The fleet's value is at least this.
    #[must_use]
    pub fn at_least(min: f64) -> Self {
        Self { of: Judged::Fleet, min: Some(min), max: None }
    }

    /// The fleet's value is at most this.
    #[must_use]
    pub fn at_most(max: f64) -> Self {
        Self { of: Judged::Fleet, min: None, max: Some(max) }
    }

    /// The same for the ratio.
    #[must_use]
    pub fn as_ratio(self) -> Self {
        Self { of: Judged::Ratio, ..self }
    }

    fn is_met(&self, line: &Line) -> Option<bool> {
        let judged = match self.of {
            Judged::Fleet => line.fleet,
            Judged::Ratio => line.ratio,
        };
        let median = judged?.median;
        Some(self.min.is_none_or(|min| median >= min) && self.max.is_none_or(|max| median <= max))
    }

    fn shown(&self) -> String {
        let bound = match (self.min, self.max) {
            (Some(min), Some(max)) => format!("{min} to {max}"),
            (Some(min), None) => format!(">= {min}"),
            (None, Some(max)) => format!("<= {max}"),
            (None, None) => String::new(),
        };
        if self.of == Judged::Ratio { format!("ratio {bound}") } else { bound }
    }
}

impl Line {
    /// Of the values of each round; what was not measured is empty.
    #[must_use]
    pub fn new(
        part: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        bare: &[f64],
        fleet: &[f64],
    ) -> Self {
        Self {
            part,
            what: what.into(),
            unit,
            bare: Spread::of(bare),
            fleet: Spread::of(fleet),
            ratio: Spread::of_ratios(fleet, bare),
            targets: Vec::new(),
            met: None,
        }
    }

    /// One more target.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.targets.push(target);
        self.met = self
            .targets
            .iter()
            .map(|target| target.is_met(&self))
            .collect::<Option<Vec<_>>>()
            .map(|met| met.into_iter().all(|met| met));
        self
    }
}

impl CostLine {
    /// The mean of the rounds.
    #[must_use]
    pub fn new(part: &'static str, what: impl Into<String>, rounds: &[Cost]) -> Self {
        let mut by_process = BTreeMap::new();
        for (process, cost) in rounds.iter().flatten() {
            *by_process.entry(*process).or_insert(0.0) += cost / super::load::count(rounds.len());
        }
        // Whoever took no part may have looked at a clock.
        by_process.retain(|_, cost| *cost > 0.0005);
        Self { part, what: what.into(), total: by_process.values().sum(), by_process }
    }
}

impl Report {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.surroundings.text();
        if let Some(others) = &self.others_percent {
            let _ = writeln!(text, "of the processors, other programs used meanwhile: {} %", shown(others));
        }
        let rows = self.lines.iter().map(Line::row).collect();
        let heads = ["part", "measured", "unit", "bare", "fleet", "fleet/bare", "target", ""];
        let _ = write!(text, "\nmedian (least–most) of {} rounds\n{}", self.rounds, table(&heads, rows));
        let rows = self.costs.iter().map(CostLine::row).collect();
        let _ = write!(
            text,
            "\nCPU seconds per 1,000 orders\n{}",
            table(&["part", "measured", "all", "by process"], rows)
        );
        let Accounts { accepted, done, undone, held, queued, missing } = self.accounts;
        let _ = writeln!(
            text,
            "\n{accepted} orders accepted: {done} DONE, {undone} UNDONE, {held} HELD, {queued} in the queue where no worker ran, \
             {missing} not accounted for"
        );
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }
}

impl Surroundings {
    fn text(&self) -> String {
        let Self { processor, processors, memory_gb, kernel, rabbitmq, mongodb, build, orders, load_before } =
            self;
        format!(
            "{processors} x {processor}, {memory_gb:.0} GB, Linux {kernel}, RabbitMQ {rabbitmq}, MongoDB {mongodb}, \
             {build} build\norders of real size: {orders}; load of the machine before: {load_before}\n"
        )
    }
}

impl Line {
    fn row(&self) -> Vec<String> {
        let spread = |spread: Option<Spread>| spread.map_or_else(String::new, |spread| shown(&spread));
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "NOT met",
            None => "",
        };
        let targets: Vec<_> = self.targets.iter().map(Target::shown).collect();
        vec![
            self.part.to_owned(),
            self.what.clone(),
            self.unit.to_owned(),
            spread(self.bare),
            spread(self.fleet),
            spread(self.ratio),
            targets.join(", "),
            met.to_owned(),
        ]
    }
}

impl CostLine {
    fn row(&self) -> Vec<String> {
        let by_process: Vec<_> =
            self.by_process.iter().map(|(process, cost)| format!("{process} {cost:.3}")).collect();
        vec![self.part.to_owned(), self.what.clone(), format!("{:.3}", self.total), by_process.join(", ")]
    }
}

fn shown(spread: &Spread) -> String {
    let number = |value: f64| match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    format!("{} ({}–{})", number(spread.median), number(spread.min), number(spread.max))
}

/// Columns as wide as they have to be.
fn table(heads: &[&str], rows: Vec<Vec<String>>) -> String {
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let columns = rows[0].len();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        let ratio = Spread::of_ratios(&[50.0, 900.0, 80.0], &[100.0, 1_000.0, 100.0]).unwrap();
        assert_eq!(ratio, Spread { min: 0.5, median: 0.8, max: 0.9 });
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
    }

    #[test]
    fn a_line_is_met_only_if_every_target_is() {
        let line = || Line::new("e2e", "rate", "/s", &[100.0], &[85.0]);
        assert_eq!(line().met, None);
        assert_eq!(line().target(Target::at_least(0.8).as_ratio()).met, Some(true));
        let both = line().target(Target::at_least(0.8).as_ratio()).target(Target::at_least(90.0));
        assert_eq!(both.met, Some(false));
        assert_eq!(line().target(Target::at_most(90.0)).met, Some(true));
        assert_eq!(Line::new("e2e", "rate", "/s", &[], &[]).target(Target::at_least(1.0)).met, None);
    }

    #[test]
    fn a_cost_is_the_mean_of_the_rounds() {
        let rounds = [Cost::from([("mongod", 0.2), ("bare", 0.0)]), Cost::from([("mongod", 0.4)])];
        let cost = CostLine::new("e2e", "small", &rounds);
        assert!((cost.total - 0.3).abs() < 1e-9 && cost.by_process.len() == 1, "{cost:?}");
    }
}
