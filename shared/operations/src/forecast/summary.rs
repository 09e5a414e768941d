//! Forecasts put together: how many dead letters of a kind would come to what.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use orderfleet_domain::{FailureFingerprint, StepName};
use serde::Serialize;

use super::Forecast;
use crate::replay::Planned;

/// Dead letters that failed in the same way and have the same forecast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForecastGroup {
    /// How they failed.
    #[serde(rename = "failure_fingerprint")]
    pub fingerprint: FailureFingerprint,
    /// Where they are.
    pub queue: String,
    /// At which step they failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// What kind of failure it was.
    pub class: String,
    /// How many.
    pub count: usize,
    /// What they would come to, one stable word.
    pub verdict: &'static str,
    /// The same for people.
    pub what: String,
    /// The id of one of them, the first.
    pub example: String,
}

/// Counts forecasts by failure and verdict, the largest group first. Forecasts for other dead letters than these are left out.
#[must_use]
pub fn summary(items: &[Planned], forecasts: &[(String, Forecast)]) -> Vec<ForecastGroup> {
    let letters: HashMap<_, _> = items.iter().map(|item| (item.letter.id.as_str(), &item.letter)).collect();
    let mut groups = BTreeMap::new();
    for (id, forecast) in forecasts {
        let Some(letter) = letters.get(id.as_str()) else { continue };
        let key = (letter.fingerprint.clone(), letter.queue_name(), forecast.to_string());
        let group = groups.entry(key).or_insert_with(|| ForecastGroup {
            fingerprint: letter.fingerprint.clone(),
            queue: letter.queue_name(),
            step: letter.step.clone(),
            class: letter.class.clone(),
            count: 0,
            verdict: forecast.as_str(),
            what: forecast.to_string(),
            example: id.clone(),
        });
        group.count += 1;
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| Reverse(group.count));
    groups
}
