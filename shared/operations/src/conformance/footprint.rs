//! What a check may have left at the service.

use std::collections::BTreeMap;

use super::{
    answer::Meaning,
    call::{Ask, Call, Instance},
};

/// Every step instance that may be done, from before its do is sent until it was undone for sure.
#[derive(Default)]
pub(super) struct Footprint(BTreeMap<String, Touched>);

/// One of them.
#[derive(Clone)]
pub(super) struct Touched {
    pub(super) instance: Instance,
    /// The highest that was sent.
    pub(super) fence: u64,
    /// A do was sent since an undo was last answered.
    dirty: bool,
    /// The service broke a rule here, so its word alone is not enough.
    pub(super) in_doubt: bool,
}

impl Footprint {
    /// Before a call is sent.
    pub(super) fn sending(&mut self, call: &Call) {
        if call.ask == Ask::Look {
            return;
        }
        let touched = self.0.entry(call.instance.name()).or_insert_with(|| Touched {
            instance: call.instance.clone(),
            fence: 0,
            dirty: false,
            in_doubt: false,
        });
        touched.fence = touched.fence.max(call.fence.unwrap_or_default());
        touched.dirty |= call.ask == Ask::Do;
    }

    /// After it was answered.
    pub(super) fn answered(&mut self, call: &Call, meaning: &Meaning) {
        let undone =
            matches!((call.ask, meaning), (Ask::Undo, Meaning::Result(..)) | (Ask::Do, Meaning::Cancelled));
        if undone && let Some(touched) = self.0.get_mut(&call.instance.name()) {
            touched.dirty = false;
        }
    }

    /// Nothing that was said about the instances of now is relied on.
    pub(super) fn doubt(&mut self) {
        for touched in self.0.values_mut() {
            touched.in_doubt = true;
        }
    }

    /// One that is to be undone; the same again until it is forgotten.
    pub(super) fn next(&self) -> Option<Touched> {
        self.0.values().find(|touched| touched.dirty || touched.in_doubt).cloned()
    }

    pub(super) fn forget(&mut self, touched: &Touched) {
        self.0.remove(&touched.instance.name());
    }

    /// Those that were undone for sure.
    pub(super) fn forget_clean(&mut self) {
        self.0.retain(|_, touched| touched.dirty || touched.in_doubt);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
