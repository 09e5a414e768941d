//! Leaves the service as it was found, as far as it lets us.

use super::Suite;
use crate::conformance::{
    answer::{Answer, Meaning},
    call::Call,
    case::Seen,
    footprint::Touched,
    report::{LeftBehind, Progress},
};

impl Suite<'_> {
    /// Undoes what may be done. What cannot be undone is listed, once.
    pub(super) async fn clean_up(&self) {
        loop {
            let touched = self.state().footprint.next();
            let Some(touched) = touched else { break };
            let left = self.undo(&touched).await.err();
            let mut state = self.state();
            state.left_behind.extend(left);
            state.footprint.forget(&touched);
        }
        self.forget_clean();
    }

    /// Undoes everything of the rule that was being checked when the check was stopped.
    pub(in crate::conformance) async fn abandon(&self) {
        let instances = {
            let mut state = self.state();
            state.footprint.doubt();
            state.footprint.len()
        };
        (self.tell)(Progress::Undoing { instances });
        self.clean_up().await;
    }

    /// Under its usual key, and where that was used up by an undo before, under another one.
    async fn undo(&self, touched: &Touched) -> Result<(), LeftBehind> {
        let usual = Call::to_undo(&touched.instance).with_fence(touched.fence);
        let answer = self.persist(&usual, Answer::is_definite, |_| {}).await;
        if self.is_undone(touched, &answer, touched.in_doubt).await {
            return Ok(());
        }
        let left_behind = |answer: &Answer| {
            let why = format!("the undo was answered: {}", answer.words());
            LeftBehind { instance: touched.instance.name(), why }
        };
        if answer.status.is_none() {
            return Err(left_behind(&answer));
        }
        let answer = self.persist(&usual.with_another_key(), Answer::is_definite, |_| {}).await;
        if self.is_undone(touched, &answer, false).await { Ok(()) } else { Err(left_behind(&answer)) }
    }

    /// What a look shows counts; where looks are wrong, the answer to the undo does.
    async fn is_undone(&self, touched: &Touched, answer: &Answer, in_doubt: bool) -> bool {
        let succeeded = matches!(answer.meaning, Meaning::Result(..));
        if !self.looks_are_right() {
            return succeeded && !in_doubt;
        }
        if answer.status.is_none() {
            return false;
        }
        let look = Call::to_look(&touched.instance);
        let look = self.persist(&look, Seen::is_enough, |_| {}).await;
        Seen::read(&look).is_some_and(|seen| seen.state == "undone" || (succeeded && seen.state != "done"))
    }
}
