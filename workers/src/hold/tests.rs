use orderfleet_domain::{
    Decision, Fingerprint, Order, OrderId,
    saga::{Cause, CauseClass, Phase, StepSettings},
};

use super::*;

const NOW: Millis = 1_000_000;
const LEASE_MS: Millis = 30_000;

fn policy() -> Policy {
    Policy::new(StepSettings::defaults(), LEASE_MS).unwrap()
}

fn record() -> Record {
    let first = Record::first(fp('1'), policy().step_names(), WorkerId("w".into()), 0, Nonce(1));
    Record { cur: 1, hi: 1, rev: 7, epoch: 3, ..first }
}

fn fp(digit: char) -> Fingerprint {
    format!("01{}", digit.to_string().repeat(64)).parse().unwrap()
}

fn command(kind: CommandKind) -> Command {
    let account = "demo".parse().unwrap();
    let order_id = OrderId::derive(&"eu1".parse().unwrap(), &account, &"k".parse().unwrap());
    Command { order_id, account, generation: 1, fp: Some(fp('1')), kind }
}

fn place() -> Command {
    let order: Order = serde_json::from_str(
        r#"{"channel":"retail","currency":"GBP","payment_ref":"p","ship_to":{},"lines":[{"sku":"A","quantity":1,"unit_price":"1"}]}"#,
    )
    .unwrap();
    command(CommandKind::Place { order: Box::new(order), accepted_at: jiff::Timestamp::UNIX_EPOCH })
}

fn resume() -> Command {
    command(CommandKind::Resume {})
}

fn compensate() -> Command {
    let step = policy().last_step().clone();
    let cause = Cause { class: CauseClass::Refused, step, code: None, message: String::new(), rev: 2 };
    command(CommandKind::Compensate { cause, undo: Vec::new() })
}

fn run() -> Command {
    Command { generation: 2, fp: None, ..command(CommandKind::Run { order: None }) }
}

fn resolve() -> Command {
    let kind = CommandKind::Resolve { hold: "h".into(), decision: Decision::Release, reason: String::new() };
    Command { fp: None, ..command(kind) }
}

fn cancel() -> Command {
    Command { fp: None, ..command(CommandKind::Cancel { requested_at: jiff::Timestamp::UNIX_EPOCH }) }
}

fn verdict(found: Option<&Record>, command: &Command) -> Verdict {
    judge(found, &Crashed { command, reason: "crashed" }, &policy(), NOW, Nonce(2))
}

fn held_by(record: &Record, command: &Command) -> Write {
    match verdict(Some(record), command) {
        Verdict::Change(Change::Hold(write)) => *write,
        other => panic!("not held: {other:?}"),
    }
}

#[test]
fn an_order_that_crashed_workers_is_claimed_and_held_at_its_step() {
    for phase in [Phase::Run, Phase::Comp] {
        let owner = Some(WorkerId("w".into()));
        let record = Record { phase, lease_until: NOW, owner, cancel: true, evp: true, ..record() };
        let write = held_by(&record, &resume());
        let expected = Expect { generation: 1, epoch: 3, rev: 7, uncancelled: false };
        assert_eq!((write.expect, write.owes), (expected, false));
        let hold = write.next.hold.clone().unwrap();
        assert_eq!((hold.step.as_str(), hold.reason.as_str(), hold.at), ("fulfilment", "crashed", NOW));
        let claimed = Record { epoch: 4, rev: 8, nonce: Nonce(2), owner: None, lease_until: 0, ..record };
        assert_eq!(Record { hold: None, ..write.next }, claimed);
    }
}

#[test]
fn every_message_that_works_the_run_the_order_is_in_holds_it() {
    for command in [place(), resume(), compensate(), resolve()] {
        held_by(&record(), &command);
    }
    held_by(&Record { generation: 2, ..record() }, &run());
}

#[test]
fn two_holds_by_one_message_have_two_ids() {
    let id = |rev| held_by(&Record { rev, ..record() }, &resume()).next.hold.unwrap().id;
    assert_ne!(id(7), id(8));
}

#[test]
fn an_order_in_hand_is_waited_for_unless_its_lease_cannot_be_right() {
    let leased = |lease_until| Record { lease_until, ..record() };
    let wait = Verdict::Wait(Duration::from_millis(6));
    assert_eq!(verdict(Some(&leased(NOW + 5)), &resume()), wait);
    held_by(&leased(NOW), &resume());
    held_by(&leased(NOW + 2 * LEASE_MS + 1), &resume());
}

#[test]
fn an_order_that_has_ended_owes_its_event_again_whatever_the_message_asked_for() {
    let other_body = Command { fp: Some(fp('2')), ..place() };
    for phase in [Phase::Done, Phase::Undone] {
        let ended = Record { phase, ..record() };
        for command in [place(), other_body.clone(), resume(), compensate(), run(), resolve(), cancel()] {
            let owed = Note::Owed { generation: 1, rev: 7, owed: true };
            assert_eq!(verdict(Some(&ended), &command), Verdict::Change(Change::Owe(owed)));
        }
    }
}

#[test]
fn an_order_without_a_document_gets_one_that_is_held() {
    let place = place();
    let Verdict::Change(Change::InsertHeld(record)) = verdict(None, &place) else { panic!("not inserted") };
    let hold = record.hold.clone().unwrap();
    assert_eq!((hold.step.as_str(), hold.reason.as_str(), hold.at), ("inventory", "crashed", NOW));
    let first = Record::first(fp('1'), policy().step_names(), WorkerId(String::new()), 0, Nonce(2));
    assert_eq!(Record { hold: None, ..*record }, Record { owner: None, hi: 0, ..first });
    for other in [resume(), compensate(), run(), resolve(), cancel()] {
        assert_eq!(verdict(None, &other), Verdict::LeaveAlone);
    }
}

#[test]
fn a_document_of_a_newer_version_is_left_to_newer_builds() {
    for phase in [Phase::Run, Phase::Done] {
        let newer = Record { sv: DOCUMENT_VERSION + 1, phase, ..record() };
        for command in [place(), cancel()] {
            assert_eq!(verdict(Some(&newer), &command), Verdict::LeaveToNewer);
        }
    }
}

#[test]
fn everything_else_is_left_alone() {
    let hold = Hold { id: "h".into(), step: "a".parse().unwrap(), reason: String::new(), at: 0 };
    let records = [
        Record { hold: Some(hold), ..record() },
        Record { generation: 2, ..record() },
        Record { cur: 3, ..record() },
    ];
    for record in records {
        assert_eq!(verdict(Some(&record), &resume()), Verdict::LeaveAlone, "{record:?}");
    }
    let other_body = Command { fp: Some(fp('2')), ..resume() };
    for command in [other_body, run(), cancel()] {
        assert_eq!(verdict(Some(&record()), &command), Verdict::LeaveAlone, "{command:?}");
    }
}
