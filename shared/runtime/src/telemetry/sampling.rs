//! Which traces are recorded. The decision is made once, where a trace begins, and followed from there on.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt as _, TraceId},
};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, Sampler, SamplingResult, ShouldSample};

/// So many requests in a second are recorded because whoever sent them said so; more only by the ratio. Clients are
/// strangers: without a bound one of them could have everything recorded.
const STRANGERS_PER_S: u32 = 100;

/// Follows the parent, and has its own ratio for what begins here.
#[derive(Debug, Clone)]
pub(super) struct Sampling {
    by_ratio: Sampler,
    by_parent: Sampler,
    strangers: Arc<Mutex<Allowance>>,
}

impl Sampling {
    /// `ratio` is between 0 and 1.
    pub(super) fn new(ratio: f64) -> Self {
        let by_ratio = Sampler::TraceIdRatioBased(ratio);
        let by_parent = Sampler::ParentBased(Box::new(by_ratio.clone()));
        Self { by_ratio, by_parent, strangers: Arc::default() }
    }

    /// Only requests over HTTP come from strangers; messages come from us.
    fn is_too_much(&self, parent: Option<&Context>, kind: &SpanKind) -> bool {
        let is_asked_for = parent.is_some_and(|parent| {
            let (span, remote) = (parent.span(), *kind == SpanKind::Server);
            remote && span.span_context().is_remote() && span.span_context().is_sampled()
        });
        is_asked_for && !self.strangers.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
    }
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if self.is_too_much(parent, kind) {
            // By an id of our own: a stranger could choose one that is always recorded.
            let ours = RandomIdGenerator::default().new_trace_id();
            return self.by_ratio.should_sample(None, ours, name, kind, attributes, links);
        }
        self.by_parent.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

/// What is left of this second.
#[derive(Debug, Default)]
struct Allowance {
    since: Option<Instant>,
    taken: u32,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            *self = Self { since: Some(now), taken: 0 };
        }
        self.taken = self.taken.saturating_add(1);
        self.taken <= STRANGERS_PER_S
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};
    use opentelemetry_sdk::trace::SamplingDecision;

    use super::*;

    fn parent(flags: TraceFlags) -> Context {
        let (trace, span) = (TraceId::from(7), SpanId::from(8));
        Context::new().with_remote_span_context(SpanContext::new(
            trace,
            span,
            flags,
            true,
            TraceState::default(),
        ))
    }

    fn is_recorded(sampling: &Sampling, parent: Option<&Context>, kind: &SpanKind) -> bool {
        let sampled = sampling.should_sample(parent, TraceId::from(7), "name", kind, &[], &[]);
        sampled.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn what_strangers_ask_for_is_recorded_so_often_in_a_second_and_what_we_decided_always() {
        let sampling = Sampling::new(0.0);
        let asked_for = parent(TraceFlags::SAMPLED);
        let many = STRANGERS_PER_S * 10;
        let recorded =
            |kind: &SpanKind| (0..many).filter(|_| is_recorded(&sampling, Some(&asked_for), kind)).count();
        assert_eq!(recorded(&SpanKind::Consumer), many as usize);
        // The clock may tick on to another second meanwhile.
        let strangers = recorded(&SpanKind::Server);
        let most = STRANGERS_PER_S as usize;
        assert!((most..most * 10).contains(&strangers), "{strangers}");
    }

    #[test]
    fn without_a_parent_the_ratio_decides_and_a_parents_no_is_a_no() {
        for (ratio, wanted) in [(0.0, false), (1.0, true)] {
            let sampling = Sampling::new(ratio);
            assert_eq!(is_recorded(&sampling, None, &SpanKind::Server), wanted);
            assert!(!is_recorded(&sampling, Some(&parent(TraceFlags::NOT_SAMPLED)), &SpanKind::Server));
        }
        let all = Sampling::new(1.0);
        let asked_for = parent(TraceFlags::SAMPLED);
        assert!((0..STRANGERS_PER_S * 2).all(|_| is_recorded(&all, Some(&asked_for), &SpanKind::Server)));
    }

    #[test]
    fn a_new_second_has_a_new_allowance() {
        let (mut allowance, now) = (Allowance::default(), Instant::now());
        assert!((0..STRANGERS_PER_S).all(|_| allowance.take(now)));
        assert!(!allowance.take(now + Duration::from_millis(999)));
        assert!(allowance.take(now + Duration::from_secs(1)));
    }
}
