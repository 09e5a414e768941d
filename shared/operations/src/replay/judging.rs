//! How the orders of some dead letters stand, read at once, and what to do about each.

use std::{collections::HashMap, slice};

use orderfleet_domain::{
    OrderId,
    saga::{DeadLetterQueue, Record},
};
use orderfleet_storage::{CorrectedLetter, Letter, Store, StoreError};

use crate::replay::{Correction, Course, Nothing, Planned, course};

/// What to do about one dead letter, as its order stands now.
pub(crate) async fn judge(store: &Store, letter: Letter) -> Result<Planned, StoreError> {
    Orders::of(store, slice::from_ref(&letter)).await?.judge(store, letter).await
}

/// Orders as they stand now.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// None for one that this build cannot read.
    records: HashMap<OrderId, Option<Record>>,
    /// Oldest first.
    corrected: Vec<CorrectedLetter>,
}

impl Orders {
    /// Those of these dead letters, some hundred at most.
    pub(super) async fn of(store: &Store, letters: &[Letter]) -> Result<Self, StoreError> {
        let ids: Vec<_> = letters.iter().filter_map(|letter| letter.order_id.clone()).collect();
        let (records, corrected) = tokio::try_join!(store.records(&ids), store.corrected_letters(&ids))?;
        Ok(Self { records, corrected })
    }

    /// What to do about one of the dead letters.
    pub(super) async fn judge(&self, store: &Store, letter: Letter) -> Result<Planned, StoreError> {
        let found = letter.order_id.as_ref().and_then(|order_id| self.records.get(order_id));
        if let Some(None) = found {
            // One such order must not be in the way of all others.
            return Ok(Planned { letter, course: Course::Nothing(Nothing::NewerOrder) });
        }
        let record = found.and_then(Option::as_ref);
        let content = match record {
            Some(_) => None,
            // Not looked into.
            None if letter.is_unread() || letter.queue == DeadLetterQueue::Conflict => None,
            None => match store.letter(&letter.id).await {
                Err(StoreError::Malformed { .. }) => {
                    return Ok(Planned { letter, course: Course::Nothing(Nothing::NewerCorrection) });
                }
                found => found?.map(|(_, content)| content),
            },
        };
        let course = match (course(&letter, content.as_ref(), record), record) {
            (Course::Run { generation, .. }, Some(record)) => self.run(generation, &letter, record),
            (course, _) => course,
        };
        Ok(Planned { letter, course })
    }

    fn run(&self, generation: u32, letter: &Letter, record: &Record) -> Course {
        let Some(kept) = self.correction(letter, record) else {
            return Course::Run { generation, correction: None };
        };
        match &kept.fp {
            None => Course::Nothing(Nothing::NewerCorrection),
            Some(fp) => {
                let correction = Some(Correction { letter: kept.id.clone(), fp: fp.clone() });
                Course::Run { generation, correction }
            }
        }
    }

    /// The correction that the next run is to work on: the one kept with this dead letter, or else with the newest of the
    /// order's last run, or of the next one, should that have come to nothing. One that was replayed counts while that run has
    /// not begun: its message may be overtaken.
    fn correction(&self, letter: &Letter, record: &Record) -> Option<&CorrectedLetter> {
        let is_for_next = |known: &&CorrectedLetter| {
            let is_of_run = known.generation.map_or(known.is_open, |run| run >= record.generation);
            letter.order_id.as_ref() == Some(&known.order_id) && is_of_run
        };
        let mut known = self.corrected.iter().filter(is_for_next);
        let own = known.clone().find(|known| known.id == letter.id);
        own.or_else(|| known.next_back())
    }
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::{Fingerprint, saga::CauseClass};

    use super::*;
    use crate::replay::fixtures::{letter, order, order_id, undone};

    fn corrected(id: &str, generation: Option<u32>, is_open: bool) -> CorrectedLetter {
        let fp = Some(Fingerprint::of(&order()));
        CorrectedLetter { id: id.into(), order_id: order_id(), generation, is_open, fp }
    }

    #[test]
    fn a_run_works_on_the_correction_whichever_dead_letter_of_the_order_it_is_kept_with() {
        let record = Record { generation: 2, ..undone(CauseClass::AttemptsExhausted, None) };
        let own = letter("fulfilment");
        let cases = [
            (vec![], None),
            (vec![corrected("other", Some(2), true)], Some("other")),
            (vec![corrected("replayed", Some(2), false)], Some("replayed")),
            (vec![corrected("of an earlier run", Some(1), true)], None),
            (
                vec![corrected("of a run that did not begin", Some(3), true)],
                Some("of a run that did not begin"),
            ),
            (vec![corrected("of no run", None, true)], Some("of no run")),
            (vec![corrected("of no run, replayed", None, false)], None),
            (vec![corrected("older", Some(2), true), corrected("newer", Some(2), true)], Some("newer")),
            (
                vec![corrected(&own.id, Some(2), true), corrected("newer", Some(2), true)],
                Some(own.id.as_str()),
            ),
        ];
        for (corrected, expected) in cases {
            let orders = Orders { corrected, ..Orders::default() };
            let found = orders.correction(&own, &record).map(|kept| kept.id.as_str());
            assert_eq!(found, expected, "{orders:?}");
        }
        let stranger = Letter { order_id: None, ..own };
        let orders = Orders { corrected: vec![corrected("other", Some(2), true)], ..Orders::default() };
        assert_eq!(orders.correction(&stranger, &record), None);
    }

    #[test]
    fn a_run_whose_correction_this_build_cannot_read_is_left_to_a_newer_one() {
        let (own, record) = (letter("fulfilment"), undone(CauseClass::AttemptsExhausted, None));
        let newer = CorrectedLetter { fp: None, ..corrected("newer", Some(1), true) };
        let orders =
            |kept: CorrectedLetter| Orders { corrected: vec![newer.clone(), kept], ..Orders::default() };
        let found = orders(newer.clone()).run(2, &own, &record);
        assert_eq!(found, Course::Nothing(Nothing::NewerCorrection));
        let found = orders(corrected(&own.id, Some(1), true)).run(2, &own, &record);
        assert_eq!(found.correction(), Some(own.id.as_str()), "it is not the one that counts");
    }
}
