//! What all calls of the check show together.

use crate::conformance::case::{Case, Checked, Finding, require};

/// Of larger results, the order's document keeps only the size.
const RESULT_BYTES_MAX: usize = 1_024;

pub(in crate::conformance) async fn small_results(case: &Case<'_>) -> Checked {
    let bytes = case.figures().result_bytes_max;
    let found = format!("the largest result had {bytes} bytes");
    Ok(if bytes > RESULT_BYTES_MAX { Finding::Doubtful(found) } else { Finding::Told(found) })
}

pub(in crate::conformance) async fn in_time(case: &Case<'_>) -> Checked {
    let figures = case.figures();
    let timeout = case.timeout();
    require(figures.timeouts == 0, || {
        format!("{} of {} calls were not answered within {timeout:?}", figures.timeouts, figures.calls)
    })?;
    let found = format!("the slowest of {} calls took {} ms", figures.calls, figures.slowest.as_millis());
    Ok(if figures.slowest > timeout / 2 { Finding::Doubtful(found) } else { Finding::Told(found) })
}

pub(in crate::conformance) async fn definite_answers(case: &Case<'_>) -> Checked {
    let figures = case.figures();
    if figures.unknown == 0 {
        return Ok(Finding::Kept);
    }
    let found = format!("{} of {} calls had an unknown outcome", figures.unknown, figures.calls);
    Ok(Finding::Doubtful(found))
}
