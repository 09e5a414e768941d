//! What the processes of a run cost: processor time and memory, by what they are, as the kernel counts them.

use std::{
    collections::BTreeMap,
    fs,
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::load::count;

use crate::proc;

/// Processor time of all processes at a moment, by what they are.
#[derive(Debug, Clone)]
pub(super) struct Usage {
    pub(super) at: Instant,
    /// Processor time of everything on this machine.
    busy: Duration,
    computed: BTreeMap<&'static str, Duration>,
}

/// CPU seconds per 1,000 orders, by what processes are.
pub(super) type Cost = BTreeMap<&'static str, f64>;

/// Memory of a process in MB (10^6 bytes).
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// Resident, shared pages among them.
    pub(super) resident: f64,
    /// The most that was ever resident.
    pub(super) peak: f64,
    /// Shared pages by their share.
    pub(super) proportional: f64,
    /// Pages of its own.
    pub(super) private: f64,
}

impl Usage {
    /// As it is now.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub(super) fn now() -> anyhow::Result<Self> {
        let mut computed = BTreeMap::new();
        for (_, name, time) in proc::family()? {
            *computed.entry(role(&name)).or_insert(Duration::ZERO) += time;
        }
        Ok(Self { at: Instant::now(), busy: proc::busy()?, computed })
    }

    /// Share of the processors that processes which are no part of the run have used since: what they had, the run had not.
    pub(super) fn others_since(&self, earlier: &Self) -> f64 {
        let sum = |usage: &Self| usage.computed.values().sum::<Duration>();
        let ours = sum(self).saturating_sub(sum(earlier));
        let others = (self.busy.saturating_sub(earlier.busy)).saturating_sub(ours);
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        others.as_secs_f64() / (self.at - earlier.at).as_secs_f64() / count(processors)
    }

    /// What so many orders have cost since. Whoever has begun since has computed nothing before.
    pub(super) fn cost_since(&self, earlier: &Self, orders: f64) -> Cost {
        let spent = |(role, now): (&&'static str, &Duration)| {
            let before = earlier.computed.get(*role).copied().unwrap_or_default();
            (*role, now.saturating_sub(before).as_secs_f64() / orders * 1_000.0)
        };
        self.computed.iter().map(spent).collect()
    }
}

/// Memory of every running process that is this.
///
/// # Errors
/// When the kernel does not say.
pub(super) fn memory(of: &str) -> anyhow::Result<Vec<Memory>> {
    let pids = proc::family()?.into_iter().filter(|(_, name, _)| role(name) == of).map(|(pid, ..)| pid);
    pids.map(|pid| {
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).context("a process's memory");
        let (status, maps) = (read("status")?, read("smaps_rollup")?);
        Ok(Memory {
            resident: megabytes(&status, &["VmRSS:"]),
            peak: megabytes(&status, &["VmHWM:"]),
            proportional: megabytes(&maps, &["Pss:"]),
            private: megabytes(&maps, &["Private_Clean:", "Private_Dirty:"]),
        })
    })
    .collect()
}

/// The sum of these fields, which the kernel gives in units of 1,024 bytes.
fn megabytes(text: &str, fields: &[&str]) -> f64 {
    let value = |line: &str| {
        let field = fields.iter().find(|field| line.starts_with(**field))?;
        line[field.len()..].split_whitespace().next()?.parse::<f64>().ok()
    };
    text.lines().filter_map(value).sum::<f64>() * 1_024.0 / 1_000_000.0
}

/// What a process is, by its name.
fn role(name: &str) -> &'static str {
    match name {
        "mongod" => "mongod",
        "orderfleet-prod" => "producer",
        "orderfleet-work" => "workers",
        "orderfleet-sand" => "sandbox",
        "orderfleet-bare" => "bare",
        "orderfleet-benc" => "client",
        // The broker is one, with small helpers of many names.
        _ => "rabbitmq",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_those_between_two_looks_by_role() {
        let at = Instant::now();
        let usage = |bare, mongod| Usage {
            at,
            busy: Duration::ZERO,
            computed: BTreeMap::from([
                ("bare", Duration::from_millis(bare)),
                ("mongod", Duration::from_millis(mongod)),
            ]),
        };
        let mut earlier = usage(100, 1_000);
        assert_eq!(
            usage(600, 1_000).cost_since(&earlier, 500.0),
            Cost::from([("bare", 1.0), ("mongod", 0.0)])
        );
        earlier.computed.remove("bare");
        assert_eq!(
            usage(600, 1_250).cost_since(&earlier, 500.0),
            Cost::from([("bare", 1.2), ("mongod", 0.5)])
        );
    }

    #[test]
    fn memory_is_summed_over_the_fields_that_are_asked_for() {
        let text = "Pss:  2000 kB\nPrivate_Clean:   1000 kB\nPrivate_Dirty:  250 kB\nPrivate_Hugetlb: 9 kB\n";
        let megabytes = megabytes(text, &["Private_Clean:", "Private_Dirty:"]);
        assert!((megabytes - 1.28).abs() < 1e-9, "{megabytes}");
    }
}
