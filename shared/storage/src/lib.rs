//! Order documents and dead letters in MongoDB 6.0 or newer, on a replica set or a sharded cluster. The only user of `mongodb`.
//!
//! One document per order is its idempotency record, saga log, fence and outbox at once. Decisions are made by the saga
//! core and become compare-and-sets here; every answer is mapped to what the core expects in one place.

mod address;
mod balance;
mod claim;
mod connect;
mod dead_letter;
mod document;
mod error;
mod failure;
mod group;
mod inspection;
mod listing;
mod meters;
mod operator_log;
mod order;
mod pause;
mod reading;
mod replay;
mod saga;
mod scatter;
mod schema;
mod settings;
mod sharding;
mod store;
mod survey;
mod sweep;
mod tally;
mod unread;
mod uri;
mod view;
mod worker_status;

pub use address::AddressInUse;
pub use balance::{RunEnd, Standing, UnderWay};
pub use dead_letter::{
    Attempt, Condition, Content, CorrectedLetter, DeadLetter, Ended, GROUPS_MAX, How, LETTERS_MAX, Lease,
    Leased, Letter, LetterCursor, LetterFilter, LetterGroup, LetterPage, LetterState, LetterStats,
    ParkedOrder, Subject, queue_of_word, queue_word,
};
pub use error::StoreError;
pub use failure::{BadDocument, Failure};
pub use inspection::{ClusterKind, Member, Members, Resources, SchemaDifference, ServerState, ShardKey};
pub use listing::{
    LetterOfOrder, ListedHold, ListedOrder, OrderCursor, OrderFilter, OrderPage, OrderStatus, Span,
};
pub use operator_log::{ActPhase, BadLogEntry, BadLogHead, LogEntry, LogHead, LogPage, LogRecord};
pub use pause::{BadTarget, PAUSE_REASON_CHARS_MAX, PAUSES_MAX, Pause, PauseTarget, WorkedQueue};
pub use reading::AtHand;
pub use replay::{ItemState, Replay, ReplayItem, ReplayState};
pub use scatter::{SCATTERED, check_targeting};
pub use settings::{DatabaseSettings, ZoneSettings};
pub use sharding::{
    Balancer, Bound, Cluster, PLACEMENTS, Placed, Placement, RANGES_MAX, SeenFrom, Shard, ShardedCollection,
    Zoned, sharded_collections,
};
pub use store::Store;
pub use survey::{Open, SurveyedOrder};
pub use sweep::Overdue;
pub use unread::{Readings, Unread};
pub use view::OrderView;
pub use worker_status::{CircuitState, QueueLoad, WORKERS_MAX, WorkerStatus};
