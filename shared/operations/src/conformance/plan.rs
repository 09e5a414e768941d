//! What a check is going to do, said before it does anything.

use serde::Serialize;

use super::{
    check::Settings,
    rules::{self, Rule},
};

/// What a check is going to do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Base URL of the service.
    pub url: String,
    /// The account that the calls name.
    pub account: String,
    /// The step that the calls name.
    pub step: String,
    /// How many lines the order has. It is posted with few changes, once with 2,000 lines made of these.
    pub order_lines: usize,
    /// What the order ids begin with; another run has others.
    pub order_ids: String,
    /// Step instances, each done and undone at most.
    pub instances: u32,
    /// How many of them are rounds of the race of a do with its undo.
    pub races: u32,
    /// The rules that are checked.
    pub rules: Vec<&'static str>,
    /// The rules that are not checked, for want of what they need.
    pub skipped: Vec<&'static str>,
}

impl Plan {
    pub(super) fn new(settings: &Settings, order_ids: &str, restart: bool) -> Self {
        let lacks = |rule: &Rule| {
            (rule == &rules::REFUSAL && settings.refused.is_none()) || (rule == &rules::RESTART && !restart)
        };
        let (skipped, checked): (Vec<&Rule>, Vec<&Rule>) =
            rules::ALL.iter().copied().partition(|rule| lacks(rule));
        let rounds = |rule: &Rule| if rule == &rules::RACE { settings.races } else { 1 };
        // One more is looked at first, to see whether the service is there.
        let instances = checked.iter().map(|rule| rule.instances * rounds(rule)).sum::<u32>() + 1;
        Self {
            url: settings.url.to_string(),
            account: settings.account.to_string(),
            step: settings.step.to_string(),
            order_lines: settings.order.lines.len(),
            order_ids: order_ids.to_owned(),
            instances,
            races: settings.races,
            rules: checked.iter().map(|rule| rule.name).collect(),
            skipped: skipped.iter().map(|rule| rule.name).collect(),
        }
    }
}
