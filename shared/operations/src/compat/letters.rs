//! Open dead letters in the database: whether this build could replay them.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use orderfleet_domain::{Command, DecodeError, failure::FailureClass, saga::DeadLetterQueue};
use orderfleet_storage::{Condition, Content, Letter, LetterFilter, LetterState, StoreError};

use super::{
    Candidate,
    finding::{Kind, Reason, Tally},
    orders::chain,
};

const NAME: &str = "dead letters";

pub(super) async fn examine(candidate: &Candidate<'_>, tell: &mut impl FnMut(&str, u64)) -> Kind {
    let mut tally = Tally::new(NAME);
    if let Err(error) = judge_all(candidate, &mut tally, |seen| tell(NAME, seen)).await {
        tally.unknown(format!("not read to the end: {}", chain(&error)));
    }
    tally.end()
}

async fn judge_all(
    candidate: &Candidate<'_>,
    tally: &mut Tally,
    mut tell: impl FnMut(u64),
) -> Result<(), StoreError> {
    let open = LetterFilter::With(Condition::State(LetterState::Open));
    let limit = candidate.documents_max;
    let mut letters = pin!(candidate.store.export_letters(&open, Some(limit)).await?);
    let mut seen = 0;
    while let Some((id, letter)) = letters.try_next().await? {
        let reason = match &letter {
            Some((letter, content)) => judge(letter, content),
            None => Some(Reason::UnreadableLetter),
        };
        // The id of a letter begins with that of its order; the letter's own says which of its letters it is.
        seen = tally.see(Some(&id), reason);
        tell(seen);
    }
    if seen >= u64::from(limit) {
        tally.unknown(format!("the first {seen}; there may be more"));
    }
    Ok(())
}

fn judge(letter: &Letter, content: &Content) -> Option<Reason> {
    // Workers ended over its message: this build does not read it either.
    if letter.is_unread() {
        return None;
    }
    match Command::decode(&content.body) {
        Ok(_) => None,
        Err(DecodeError::Newer(version)) => Some(Reason::NewerMessage(version)),
        Err(DecodeError::Malformed(_)) if was_unreadable(letter) => None,
        Err(DecodeError::Malformed(why)) => Some(Reason::UnreadableMessage(why)),
    }
}

/// No build has read it so far, or letters of its time do not tell.
fn was_unreadable(letter: &Letter) -> bool {
    let unreadable = [FailureClass::Unreadable, FailureClass::Unknown].map(FailureClass::as_str);
    letter.queue == DeadLetterQueue::Poison && unreadable.contains(&letter.class.as_str())
}
