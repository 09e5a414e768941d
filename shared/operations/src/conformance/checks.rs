//! The checks behind the rules, in the order in which a service is best mended.

mod basics;
mod batching;
mod bodies;
mod overall;
mod racing;
mod refusing;
mod repeating;
mod restarting;
mod tombstones;

use super::{case::Case, check::Restarted, rules, suite::Suite};

/// Checks every rule. Where the calls that all else is made of do not work, the rest is skipped, so that one cause has one
/// failure.
pub(super) async fn all(suite: &Suite<'_>, restarted: Option<Restarted>) {
    if !suite.judge(&rules::LOOK_UNKNOWN, basics::look_unknown).await {
        suite.ignore_looks();
    }
    if !suite.judge(&rules::DO, basics::do_once).await {
        suite.stop("the do does not work, and every other rule needs it");
    }
    if !suite.judge(&rules::UNDO, basics::undo_once).await {
        suite.stop("the undo does not work, so nothing more is done here");
    }
    if !suite.judge(&rules::LOOK, basics::look).await {
        suite.ignore_looks();
    }
    suite.judge(&rules::DO_REPEATED, repeating::do_repeated).await;
    suite.judge(&rules::DO_JUDGED_ONCE, repeating::do_judged_once).await;
    suite.judge(&rules::DO_CONCURRENT, repeating::do_concurrent).await;
    suite.judge(&rules::DO_OTHER_KEY, repeating::do_other_key).await;
    suite.judge(&rules::UNDO_REPEATED, repeating::undo_repeated).await;
    suite.judge(&rules::UNDO_CONCURRENT, repeating::undo_concurrent).await;
    suite.judge(&rules::DO_AFTER_UNDO, tombstones::do_after_undo).await;
    suite.judge(&rules::UNDO_BEFORE_DO, tombstones::undo_before_do).await;
    let races = suite.settings.races;
    suite.judge(&rules::RACE, async move |case: &Case<'_>| racing::race(case, races).await).await;
    suite.judge(&rules::NEW_RUN, tombstones::new_run).await;
    suite.judge(&rules::FENCE_LOWER, tombstones::fence_lower).await;
    suite.judge(&rules::UNKNOWN_FIELDS, bodies::unknown_fields).await;
    suite.judge(&rules::LARGE_ORDER, bodies::large_order).await;
    suite.judge(&rules::MALFORMED_BODY, bodies::malformed_body).await;
    suite.judge(&rules::WRONG_PATH, bodies::wrong_path).await;
    suite.judge(&rules::BOUNDS, bodies::bounds).await;
    suite.judge(&rules::BATCH_ANSWERS, batching::batch_answers).await;
    suite.judge(&rules::BATCH_RULES, batching::batch_rules).await;
    let refused = suite.settings.refused.as_ref();
    suite.judge(&rules::REFUSAL, async move |case: &Case<'_>| refusing::refusal(case, refused).await).await;
    suite
        .judge(&rules::RESTART, async move |case: &Case<'_>| restarting::restart(case, restarted).await)
        .await;
    suite.judge(&rules::SMALL_RESULTS, overall::small_results).await;
    suite.judge(&rules::IN_TIME, overall::in_time).await;
    suite.judge(&rules::DEFINITE_ANSWERS, overall::definite_answers).await;
}
