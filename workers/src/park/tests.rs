//! The parker against a database of its own.

use jiff::Timestamp;
use orderfleet_domain::{
    AccountId, CommandKind, Fingerprint, Order, OrderId,
    saga::{
        Cause, CauseClass, Claim, ClaimKind, DOCUMENT_VERSION, Nonce, Phase, Phases, Record, StepSettings,
        StoreReply, WorkerId,
    },
};
use orderfleet_messaging::Headers;
use orderfleet_native::{Mongo, MongoOptions, TempFolder};
use orderfleet_storage::{DatabaseSettings, Unread};

use super::{care::Care, *};
use crate::driver::fresh_nonce;

const LEASE_MS: i64 = 30_000;

/// A parker, and the database it parks in, which leaves nothing behind.
struct Fixture {
    parker: Parker,
    headers: Headers,
    _server: Mongo,
    _folder: TempFolder,
}

impl Fixture {
    async fn start() -> Self {
        let folder = TempFolder::new().unwrap();
        let server = Mongo::start(folder.path(), MongoOptions::default()).await.unwrap();
        let settings = DatabaseSettings {
            uri: server.uri(),
            timeout_ms: 60_000,
            write_concern_timeout_ms: 50_000,
            ..DatabaseSettings::default()
        };
        let store = Store::connect(&settings, "test").await.unwrap();
        store.prepare().await.unwrap();
        let policy = Policy::new(StepSettings::defaults(), LEASE_MS).unwrap();
        let parker = Parker::new(store, policy, CancellationToken::new());
        Self { parker, headers: Headers::default(), _server: server, _folder: folder }
    }

    fn store(&self) -> &Store {
        &self.parker.store
    }

    fn arrival<'a>(&'a self, body: &'a [u8]) -> Arrival<'a> {
        Arrival { queue: &DeadLetterQueue::Poison, headers: &self.headers, body, is_suspect: false }
    }

    async fn park(&self, command: &Command) {
        assert_eq!(self.parker.park(&self.arrival(&command.encode())).await.unwrap(), Parked::Done);
    }

    /// A letter over which so many workers were gone, and that has waited so often.
    async fn suspected(&self, unread: &Unread, gone: usize, waits: usize) {
        for _ in 0..gone {
            self.store().begin_reading(unread, fresh_nonce(), now()).await.unwrap();
        }
        self.store().note_wait(unread, waits).await.unwrap();
    }

    /// How many readings of a letter were begun and not ended.
    async fn readings(&self, unread: &Unread) -> usize {
        let one = fresh_nonce();
        let readings = self.store().begin_reading(unread, one, now()).await.unwrap();
        self.store().take_reading_back(unread, one).await.unwrap();
        readings.count - 1
    }

    async fn stored(&self, order_id: &OrderId) -> Option<Record> {
        match self.store().read(order_id).await {
            StoreReply::Found(found) => found.map(|record| *record),
            other => panic!("{other:?}"),
        }
    }

    /// An order that stands like this.
    async fn given(&self, command: &Command, change: impl FnOnce(Record) -> Record) -> Record {
        let CommandKind::Place { order, accepted_at } = &command.kind else { panic!("no order") };
        let steps = self.parker.policy.step_names();
        let fp = command.fp.clone().unwrap();
        let record = change(Record::first(fp, steps, WorkerId("slow".into()), 0, Nonce(1)));
        let inserted =
            self.store().insert(&command.order_id, &command.account, order, *accepted_at, &record).await;
        assert_eq!(inserted, StoreReply::Applied);
        record
    }

    async fn claim(&self, command: &Command, kind: ClaimKind) -> StoreReply {
        let now = now();
        let claim = Claim {
            kind,
            generation: 1,
            fp: None,
            redelivered: true,
            now,
            owner: WorkerId("w".into()),
            lease_until: now + LEASE_MS,
            nonce: Nonce(9),
        };
        self.store().claim(&command.order_id, &claim).await.0
    }
}

fn place(key: &str) -> Command {
    let order: Order = serde_json::from_str(
        r#"{"channel":"retail","currency":"GBP","payment_ref":"p","ship_to":{},"lines":[{"sku":"A","quantity":1,"unit_price":"1"}]}"#,
    )
    .unwrap();
    let account: AccountId = "demo".parse().unwrap();
    Command {
        order_id: OrderId::derive(&"eu1".parse().unwrap(), &account, &key.parse().unwrap()),
        account,
        generation: 1,
        fp: Some(Fingerprint::of(&order)),
        kind: CommandKind::Place { order: Box::new(order), accepted_at: Timestamp::UNIX_EPOCH },
    }
}

fn cancel(place: &Command) -> Command {
    let kind = CommandKind::Cancel { requested_at: Timestamp::UNIX_EPOCH };
    Command { fp: None, kind, ..place.clone() }
}

#[tokio::test]
async fn a_posted_order_without_a_document_is_inserted_held_and_nobody_else_begins_it() {
    let fixture = Fixture::start().await;
    let place = place("a");
    fixture.park(&cancel(&place)).await;
    assert_eq!(fixture.stored(&place.order_id).await, None, "only a posted order can be inserted");
    for _ in 0..2 {
        fixture.park(&place).await;
        let record = fixture.stored(&place.order_id).await.unwrap();
        assert_eq!((record.phase, record.epoch, record.rev), (Phase::Run, 1, 1));
        assert_eq!((record.owner, record.lease_until), (None, 0));
    }
    let go_on = fixture.claim(&place, ClaimKind::Continue(Phases::Run)).await;
    assert_eq!(go_on, StoreReply::NoMatch);
    let hold = fixture.stored(&place.order_id).await.unwrap().hold.unwrap();
    let decided = fixture.claim(&place, ClaimKind::Resolve(hold.id)).await;
    assert!(matches!(decided, StoreReply::Claimed(_)), "{decided:?}");
}

#[tokio::test]
async fn a_hold_fences_an_owner_whose_lease_is_over() {
    let fixture = Fixture::start().await;
    let place = place("a");
    let before = fixture.given(&place, |record| Record { epoch: 3, rev: 7, ..record }).await;
    fixture.park(&place).await;
    let held = fixture.stored(&place.order_id).await.unwrap();
    assert!(held.hold.is_some());
    assert_eq!((held.epoch, held.rev, held.owner), (4, 8, None));
    assert_ne!(held.nonce, before.nonce);
}

#[tokio::test]
async fn a_hold_that_the_database_refuses_comes_again_until_it_can_be_set() {
    let fixture = Fixture::start().await;
    let place = place("a");
    let before = fixture.given(&place, |record| record).await;
    let too_long = "x".repeat(17 << 20);
    let refused = fixture.parker.see_to_order(&Crashed { command: &place, reason: &too_long }).await;
    assert_eq!(refused.unwrap(), Parked::Later(Why::Refused));
    assert_eq!(fixture.stored(&place.order_id).await, Some(before));
    let mended = fixture.parker.see_to_order(&Crashed { command: &place, reason: "short" }).await;
    assert_eq!(mended.unwrap(), Parked::Done);
    assert!(fixture.stored(&place.order_id).await.unwrap().hold.is_some());
}

#[tokio::test]
async fn an_order_that_has_ended_is_swept_for_its_event_again() {
    let fixture = Fixture::start().await;
    let place = place("a");
    let ended = fixture.given(&place, |record| Record { phase: Phase::Done, rev: 7, ..record }).await;
    fixture.park(&cancel(&place)).await;
    let owing = fixture.stored(&place.order_id).await.unwrap();
    assert_eq!(owing, Record { evp: true, ..ended });
    let swept = fixture.store().overdue(now(), 10).await.unwrap();
    assert!(swept.iter().any(|swept| swept.order_id == place.order_id && swept.owes), "{swept:?}");
}

#[tokio::test]
async fn a_dead_letter_carries_what_its_orders_document_tells_of_its_own_run() {
    let mut fixture = Fixture::start().await;
    fixture.headers = Headers::new("place").dead_letter_id("letter").reason("deadline_passed").build("b1");
    let queue = DeadLetterQueue::Step("fulfilment".parse().unwrap());
    for (key, generation, answer) in [("same", 1, "503 Service Unavailable"), ("later", 2, "deadline_passed")]
    {
        let place = place(key);
        let cause = Cause {
            class: CauseClass::DeadlinePassed,
            step: "fulfilment".parse().unwrap(),
            code: None,
            message: "503 Service Unavailable".into(),
            rev: 5,
        };
        let failed = |record| Record { generation, phase: Phase::Undone, cause: Some(cause), ..record };
        fixture.given(&place, failed).await;
        let body = place.encode();
        let arrival = Arrival { queue: &queue, ..fixture.arrival(&body) };
        assert_eq!(fixture.parker.park(&arrival).await.unwrap(), Parked::Done);
        let letters = fixture.store().all_letters_of(&place.order_id).await.unwrap();
        let letter = &letters[0];
        assert_eq!((letter.class.as_str(), letter.answer.as_str()), ("deadline_passed", answer));
        assert_eq!(
            (letter.step.as_ref().unwrap().as_str(), letter.build.as_deref()),
            ("fulfilment", Some("b1"))
        );
    }
}

#[tokio::test]
async fn a_dead_letter_whose_parking_panics_is_stored_unread() {
    let fixture = Fixture::start().await;
    let place = place("a");
    let body = place.encode();
    let arrival = fixture.arrival(&body);
    fixture.parker.store_unread(&arrival, "a place".into()).await.unwrap();
    assert_eq!(fixture.readings(&arrival.unread("")).await, 0);
    assert_eq!(fixture.stored(&place.order_id).await, None);
    assert_eq!(fixture.store().find_parked(&place.order_id, &place.account).await.unwrap(), None);
}

#[tokio::test]
async fn a_dead_letter_that_was_delivered_before_is_read_unless_workers_ended_over_it() {
    let fixture = Fixture::start().await;
    let wait = |number, tier| Care::Wait(Wait { number, tier });
    for (gone, waits, care) in [
        (0, 0, Care::Read),
        (2, 0, Care::Read),
        (3, 0, wait(1, Tier::S30)),
        (3, 1, Care::Read),
        (6, 1, wait(2, Tier::M2)),
        (9, 2, Care::LeaveUnread),
    ] {
        let place = place(&format!("{gone}-gone-{waits}-waits"));
        let body = place.encode();
        let arrival = Arrival { is_suspect: true, ..fixture.arrival(&body) };
        let unread = arrival.unread("");
        fixture.suspected(&unread, gone, waits).await;
        let parked = fixture.parker.park(&arrival).await.unwrap();
        let (wanted, left) = match care {
            Care::Read => (Parked::Done, 0),
            Care::Wait(wait) => (Parked::Later(Why::WorkersEnded(wait)), gone),
            Care::LeaveUnread => (Parked::Done, gone + 1),
        };
        assert_eq!(parked, wanted, "{gone} gone, {waits} waits");
        let is_read = care == Care::Read;
        assert_eq!(fixture.stored(&place.order_id).await.is_some(), is_read, "{gone} gone, {waits} waits");
        assert_eq!(fixture.readings(&unread).await, left, "{gone} gone, {waits} waits: a wait is no reading");
    }
}

/// Parks a letter, and shuts down once so many readings of it are begun.
async fn park_until_it_shuts_down(fixture: &Fixture, arrival: &Arrival<'_>, begun: usize) {
    let unread = arrival.unread("");
    let shutting_down = async {
        while fixture.readings(&unread).await < begun {
            tokio::task::yield_now().await;
        }
        fixture.parker.draining.cancel();
    };
    let parking = async { tokio::join!(fixture.parker.park(arrival), shutting_down).0 };
    let parked = tokio::time::timeout(Duration::from_secs(60), parking).await.expect("an end in time");
    assert!(parked.is_err(), "{parked:?}");
}

#[tokio::test]
async fn a_worker_that_shuts_down_in_order_takes_back_the_reading_that_it_has_begun() {
    let fixture = Fixture::start().await;
    // The database never takes it.
    let vast = vec![b'x'; 17 << 20];
    let arrival = Arrival { is_suspect: true, ..fixture.arrival(&vast) };
    let unread = arrival.unread("");
    fixture.suspected(&unread, 9, 2).await;
    park_until_it_shuts_down(&fixture, &arrival, 10).await;
    assert_eq!(fixture.readings(&unread).await, 9);
}

#[tokio::test]
async fn a_worker_that_shuts_down_waits_for_no_turn() {
    let fixture = Fixture::start().await;
    let arrival = Arrival { is_suspect: true, ..fixture.arrival(b"garbage") };
    let _turn = fixture.parker.turn.lock().await;
    park_until_it_shuts_down(&fixture, &arrival, 0).await;
    assert_eq!(fixture.readings(&arrival.unread("")).await, 0);
}

#[test]
fn what_has_waited_as_a_suspect_is_one_when_it_comes_back() {
    let queue = DeadLetterQueue::Poison;
    let is_suspect = |headers: &Headers| Arrival::of(&queue, headers, b"", false).is_suspect;
    assert!(!is_suspect(&Headers::new("place")));
    assert!(is_suspect(&Headers::new("place").suspected()));
}

#[tokio::test]
async fn an_unread_dead_letter_shows_the_order_that_its_headers_name() {
    let mut fixture = Fixture::start().await;
    let place = place("a");
    fixture.headers = Headers::new("place").order(&place.order_id, &place.account);
    let body = place.encode();
    fixture.parker.store_unread(&fixture.arrival(&body), "a place".into()).await.unwrap();
    let shown = fixture.store().find_parked(&place.order_id, &place.account).await.unwrap().unwrap();
    assert!(shown.reason.contains("a place"), "{}", shown.reason);
}

#[tokio::test]
async fn what_a_newer_build_wrote_is_left_to_newer_builds_and_nothing_is_stored_for_it() {
    let fixture = Fixture::start().await;
    let place = place("a");
    let newer = String::from_utf8(place.encode()).unwrap().replace(r#""v":1"#, r#""v":99"#);
    for is_suspect in [false, true] {
        let arrival = Arrival { is_suspect, ..fixture.arrival(newer.as_bytes()) };
        assert_eq!(fixture.parker.park(&arrival).await.unwrap(), Parked::Later(Why::NewerBuild));
        assert_eq!(fixture.readings(&arrival.unread("")).await, 0, "what was begun is forgotten");
    }
    let letter = fixture.arrival(newer.as_bytes()).read().0;
    assert!(fixture.store().park(&letter, now()).await.unwrap(), "it was not stored before");
    assert_eq!(fixture.stored(&place.order_id).await, None);
}

#[tokio::test]
async fn a_dead_letter_of_an_order_whose_document_is_newer_is_left_to_newer_builds() {
    let fixture = Fixture::start().await;
    let place = place("a");
    let newer = DOCUMENT_VERSION + 1;
    let before = fixture.given(&place, |record| Record { sv: newer, ..record }).await;
    for command in [&place, &cancel(&place)] {
        let body = command.encode();
        assert_eq!(
            fixture.parker.park(&fixture.arrival(&body)).await.unwrap(),
            Parked::Later(Why::NewerBuild)
        );
    }
    assert_eq!(fixture.stored(&place.order_id).await, Some(before), "the order is not touched");
}

#[tokio::test]
async fn a_cancel_of_another_account_leaves_the_order_alone() {
    let fixture = Fixture::start().await;
    let place = place("a");
    let ended = fixture.given(&place, |record| Record { phase: Phase::Done, rev: 7, ..record }).await;
    let foreign = Command { account: "other".parse().unwrap(), ..cancel(&place) };
    fixture.park(&foreign).await;
    assert_eq!(fixture.stored(&place.order_id).await, Some(ended));
}

#[tokio::test]
async fn a_dead_letter_that_the_database_never_takes_keeps_no_other_from_its_turn() {
    let fixture = Fixture::start().await;
    let (vast, garbage) = (vec![b'x'; 17 << 20], b"garbage");
    let redelivered = |body| Arrival { is_suspect: true, ..fixture.arrival(body) };
    let (never, soon) = (redelivered(&vast), redelivered(garbage));
    tokio::select! {
        biased;
        parked = fixture.parker.park(&never) => panic!("{parked:?}"),
        parked = fixture.parker.park(&soon) => assert_eq!(parked.unwrap(), Parked::Done),
    }
    assert!(!fixture.store().park(&soon.read().0, now()).await.unwrap(), "it was parked before");
}
