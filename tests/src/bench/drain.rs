//! How fast a backlog is worked: between the moments when a twentieth and nineteen twentieths of it have ended, so that
//! neither the start of a process nor a last straggler counts.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::time::sleep;

use super::{
    load::count,
    usage::{Cost, Usage},
};

const METRIC: &str = "orderfleet_orders_ended_total";
/// A look costs a worker about a millisecond.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// With nothing ended for so long, something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a backlog was worked.
#[derive(Debug, Clone)]
pub(super) struct Drained {
    /// Orders per second.
    pub(super) rate: f64,
    /// What they have cost.
    pub(super) cost: Cost,
    /// Share of the processors that others have used meanwhile.
    pub(super) others: f64,
}

/// Follows what these processes tell under `/metrics` until so many orders have ended.
///
/// # Errors
/// When nothing ends for a minute, or a process does not answer.
pub(super) async fn follow(
    http: &reqwest::Client,
    urls: &[String],
    orders: usize,
) -> anyhow::Result<Drained> {
    let followed = Instant::now();
    let (low, high) = (orders / 20, orders - orders / 20);
    let (mut begin, mut end) = (None, None);
    let (mut before, mut moved) = (0, Instant::now());
    loop {
        let mut ended = 0;
        for url in urls {
            let text = http.get(format!("{url}/metrics")).send().await?.text().await?;
            ended += ended_by(&text).with_context(|| format!("{url} does not count orders"))?;
        }
        if begin.is_none() && ended >= low.max(1) {
            begin = Some((Usage::now()?, ended));
        }
        if end.is_none() && ended >= high {
            end = Some((Usage::now()?, ended));
        }
        if ended >= orders {
            break;
        }
        if ended > before {
            (before, moved) = (ended, Instant::now());
        }
        ensure!(moved.elapsed() < PATIENCE, "only {ended} of {orders} orders have ended");
        sleep(LOOK_EVERY).await;
    }
    let ((began, first), (ended, last)) = begin.zip(end).context("both have been seen")?;
    // A few fast ones, as to warm up, can have ended between two looks.
    let (worked, took) = match last - first {
        0 => (count(orders), followed.elapsed()),
        worked => (count(worked), ended.at - began.at),
    };
    let rate = worked / took.as_secs_f64();
    Ok(Drained { rate, cost: ended.cost_since(&began, worked), others: ended.others_since(&began) })
}

/// Orders that have ended, whatever the outcome.
fn ended_by(metrics: &str) -> Option<usize> {
    let values = metrics.lines().filter(|line| line.starts_with(METRIC));
    let values: Vec<usize> = values.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect();
    (!values.is_empty()).then(|| values.into_iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_an_end() {
        let text = "# HELP orderfleet_orders_ended_total runs that have ended\n\
                    orderfleet_orders_ended_total{outcome=\"done\"} 7\n\
                    orderfleet_orders_ended_total{outcome=\"refused\"} 2\nother 5\n";
        assert_eq!(ended_by(text), Some(9));
        assert_eq!(ended_by("other 5\n"), None);
    }
}
