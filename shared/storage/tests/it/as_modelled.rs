//! The real database answers as the one in the model does, which the proofs about the saga rely on: random operations on one
//! document after the other, each performed on both.

use std::{collections::BTreeSet, sync::Arc};

use orderfleet_domain::{
    OrderId,
    saga::{
        Cause, CauseClass, Claim, ClaimKind, Effect, Expect, Hold, Millis, Note, Phase, Phases, Record,
        StepResult, StepState, StoreReply, Write,
    },
};
use orderfleet_model::{Database, Setup};
use tokio::task::JoinSet;

use crate::support::{Fixture, LEASE_MS, NOW, fp, in_database, order_id, other_fp, steps, worker};

const SEQUENCES: u64 = 120;
const OPERATIONS: usize = 40;
const AT_ONCE: usize = 12;
const DAY_MS: Millis = 86_400_000;

#[tokio::test]
async fn the_real_database_answers_as_the_modelled_one() {
    in_database(async |db| {
        let (mut running, mut owing, mut answers) = (JoinSet::new(), BTreeSet::new(), BTreeSet::new());
        for seed in 0..SEQUENCES {
            if running.len() == AT_ONCE {
                collect(running.join_next().await.unwrap().unwrap(), &mut owing, &mut answers);
            }
            running.spawn(sequence(db.clone(), seed));
        }
        while let Some(done) = running.join_next().await {
            collect(done.unwrap(), &mut owing, &mut answers);
        }
        let swept = db.store.overdue(NOW + 40 * DAY_MS, 10_000).await.unwrap();
        let swept: BTreeSet<_> = swept.into_iter().map(|overdue| overdue.order_id).collect();
        assert_eq!(swept, owing, "the sweeper finds what the model says is owed or waits");
        assert_eq!(answers.into_iter().collect::<Vec<_>>(), ALL_ANSWERS, "the sequences are not vacuous");
    })
    .await;
}

/// Each operation has met what it is for, and has missed it.
const ALL_ANSWERS: [&str; 11] = [
    "claim: Claimed",
    "claim: NoMatch",
    "insert: Applied",
    "insert: Exists",
    "new run: Claimed",
    "note: Applied",
    "note: NoMatch",
    "read: Found",
    "resolve: Claimed",
    "write: Applied",
    "write: NoMatch",
];

type Outcome = (OrderId, Option<Record>, BTreeSet<&'static str>);

fn collect((id, document, seen): Outcome, owing: &mut BTreeSet<OrderId>, all: &mut BTreeSet<&'static str>) {
    all.extend(seen);
    let waits =
        |record: &Record| !record.phase.is_terminal() && record.hold.is_none() && record.due_at.is_some();
    if document.is_some_and(|record| record.evp || waits(&record)) {
        owing.insert(id);
    }
}

async fn sequence(db: Arc<Fixture>, seed: u64) -> Outcome {
    let id = order_id(&format!("modelled-{seed}"));
    let scope = serde_json::json!({
        "steps": 3, "attempts_max": 1, "quick_retries": 0, "slots": 1, "timed": true, "budget": {}
    });
    let mut modelled = Database::empty(&Setup::new(serde_json::from_value(scope).unwrap()));
    let mut random = Random { rng: fastrand::Rng::with_seed(seed), db: db.clone(), seen: Vec::new() };
    let (mut done, mut answers) = (Vec::new(), BTreeSet::new());
    for _ in 0..OPERATIONS {
        let operation = random.operation();
        let expected = modelled.perform(&operation);
        let answer = perform(&db, &id, &operation).await;
        done.push(operation.clone());
        assert_eq!(answer, expected, "seed {seed}: {done:#?}");
        let stored = db.store.read(&id).await;
        let document = modelled.document().cloned();
        assert_eq!(stored, StoreReply::Found(document.clone().map(Box::new)), "seed {seed}: {done:#?}");
        answers.extend(answer_of(&operation, &answer));
        random.seen.extend(document);
    }
    (id, modelled.document().cloned(), answers)
}

async fn perform(db: &Fixture, id: &OrderId, operation: &Effect) -> StoreReply {
    match operation {
        Effect::Insert(record) => db.insert(id, record).await,
        Effect::Claim(claim) => db.store.claim(id, claim).await.0,
        Effect::Write(write) => db.store.write(id, write).await,
        Effect::Note(note) => db.store.note(id, note).await,
        Effect::Read => db.store.read(id).await,
        other => panic!("{other:?} is no operation of a database"),
    }
}

fn answer_of(operation: &Effect, answer: &StoreReply) -> Option<&'static str> {
    let what = match operation {
        Effect::Insert(_) => "insert",
        Effect::Claim(Claim { kind: ClaimKind::NewRun, .. }) => "new run",
        Effect::Claim(Claim { kind: ClaimKind::Resolve(_), .. }) => "resolve",
        Effect::Claim(_) => "claim",
        Effect::Write(_) => "write",
        Effect::Note(_) => "note",
        _ => "read",
    };
    let told = format!("{what}: {answer:?}");
    ALL_ANSWERS.into_iter().find(|known| told.starts_with(known))
}

/// Operations that often fit the document, and often just miss it.
struct Random {
    rng: fastrand::Rng,
    db: Arc<Fixture>,
    /// The document as it was after each operation.
    seen: Vec<Record>,
}

impl Random {
    fn operation(&mut self) -> Effect {
        let Some(base) = self.base() else {
            return match self.rng.u8(0..6) {
                0 => Effect::Claim(self.claim(&self.db.first())),
                1 => Effect::Note(self.note(&self.db.first())),
                2 => Effect::Read,
                _ => Effect::Insert(Box::new(self.first())),
            };
        };
        match self.rng.u8(0..20) {
            0 => Effect::Insert(Box::new(self.first())),
            1..7 => Effect::Claim(self.claim(&base)),
            7..14 => Effect::Write(Box::new(self.write(&base))),
            14..19 => Effect::Note(self.note(&base)),
            _ => Effect::Read,
        }
    }

    /// The document as it is, or, now and then, as it was.
    fn base(&mut self) -> Option<Record> {
        let newest = self.seen.len().checked_sub(1)?;
        let age = if self.rng.u8(0..4) == 0 { self.rng.usize(0..4) } else { 0 };
        self.seen.get(newest.saturating_sub(age)).cloned()
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(..of.len())].clone()
    }

    fn time(&mut self) -> Millis {
        let near =
            [-DAY_MS, -LEASE_MS - 1, -LEASE_MS, -1, 0, 1, LEASE_MS, 2 * LEASE_MS, 2 * LEASE_MS + 1, DAY_MS];
        NOW + self.pick(&near)
    }

    fn first(&mut self) -> Record {
        let body = self.pick(&[fp(), other_fp(0)]);
        Record::first(body, steps(), worker("w1"), self.time(), self.db.nonce())
    }

    fn claim(&mut self, base: &Record) -> Claim {
        let mut kinds = [Phases::Run, Phases::Comp, Phases::Either].map(ClaimKind::Continue).to_vec();
        let hold = base.hold.as_ref().map_or("none", |hold| &hold.id);
        kinds.extend([
            ClaimKind::NewRun,
            ClaimKind::Resolve(hold.to_owned()),
            ClaimKind::Resolve("other".into()),
        ]);
        let generation = base.generation + u32::from(self.rng.u8(0..8) == 0);
        let (now, by, kind) = (self.time(), self.pick(&["w1", "w2"]), self.pick(&kinds));
        Claim {
            generation,
            fp: self.pick(&[None, Some(base.fp.clone()), Some(base.fp.clone()), Some(other_fp(1))]),
            redelivered: self.rng.bool(),
            now,
            lease_until: now + LEASE_MS,
            ..self.db.claim(by, kind)
        }
    }

    fn write(&mut self, base: &Record) -> Write {
        let Record { generation, epoch, rev, .. } = *base;
        let uncancelled = self.rng.bool();
        let expect = Expect { generation, epoch, rev, uncancelled };
        Write { expect, next: self.next(base), owes: self.rng.u8(0..4) == 0, entries: Vec::new() }
    }

    /// Any document that may follow, and `cancel` and `evp` as a writer must not write them.
    fn next(&mut self, base: &Record) -> Record {
        let some_time = |this: &mut Self| this.rng.bool().then(|| this.time());
        let hold =
            Hold { id: format!("h{}", base.rev), step: steps()[0].clone(), reason: "r".into(), at: NOW };
        let cause = Cause {
            class: self.pick(&[CauseClass::Refused, CauseClass::DeadlinePassed]),
            step: steps()[1].clone(),
            code: self.pick(&[None, Some("no".to_owned())]),
            message: "m".into(),
            rev: base.rev,
        };
        let result = StepResult {
            step: steps()[0].clone(),
            state: self.pick(&[StepState::Done, StepState::Undone, StepState::SettledByPerson]),
            result: "{}".into(),
            at: NOW,
        };
        let is_held = self.rng.u8(0..4) == 0;
        Record {
            epoch: base.epoch + u64::from(self.rng.u8(0..6) == 0),
            rev: base.rev + 1,
            nonce: self.db.nonce(),
            phase: self.pick(&[Phase::Run, Phase::Comp, Phase::Undone, Phase::Undone, Phase::Done]),
            is_final: self.rng.u8(0..4) == 0,
            cur: self.rng.u32(0..3),
            hi: self.rng.u32(0..3),
            att: self.rng.u32(0..9),
            waits: self.rng.u32(0..9),
            due_at: some_time(self),
            charged_at: some_time(self),
            excused_ms: self.rng.i64(0..DAY_MS),
            hold: is_held.then_some(hold),
            cancel: self.rng.bool(),
            evp: self.rng.bool(),
            owner: self.pick(&[None, Some(worker("w1")), Some(worker("w2"))]),
            lease_until: if self.rng.bool() { self.time() } else { 0 },
            cause: self.rng.bool().then_some(cause),
            results: if self.rng.bool() { vec![result] } else { Vec::new() },
            ..base.clone()
        }
    }

    fn note(&mut self, base: &Record) -> Note {
        let Record { generation, rev, .. } = *base;
        let owed = self.rng.bool();
        self.pick(&[
            Note::Conflict(other_fp(2)),
            Note::Cancel,
            Note::Cancel,
            Note::CancelTooLate(NOW),
            Note::Owed { generation, rev, owed },
            Note::Owed { generation, rev, owed },
            Note::Owed { generation: generation + 1, rev, owed },
        ])
    }
}
