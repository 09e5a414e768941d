//! Group commit: what many orders write within the same moment goes to the database as one command, and one flush of the
//! journal and one round of replication serve them all. Orders wait for each other's flush, never for each other's logic.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::TryStreamExt as _;
use mongodb::{
    Database,
    bson::{self, Document, RawArrayBuf, RawDocumentBuf, cstr, doc},
};
use orderfleet_domain::saga::Nonce;
use tokio::sync::oneshot;

use crate::{
    failure::{DUPLICATE_KEY, is_refused},
    meters,
    store::{ORDERS, call_within},
};

/// Documents or statements of one command.
const COUNT_MAX: usize = 100;
/// Of one command, far below the 48 MB that a server takes.
const BYTES_MAX: usize = 4 << 20;
/// Commands of one kind under way at once: one is flushed while the next is gathered.
const FLIGHTS: usize = 2;
/// After a group was not answered everybody goes alone for so long: of a cluster a single shard may be what does not answer,
/// and only orders that are on it should wait for it.
const APART: Duration = Duration::from_secs(30);

/// What a group does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Members are whole documents.
    Insert,
    /// Members are update statements (`q`, `u`), each of one document.
    Write,
}

/// What became of one member of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Applied,
    /// No document matches.
    NoMatch,
    /// There is a document of this id already.
    Exists,
    /// It may have been applied or not: to be sent once more, alone, where it meets its own shard and is told of by itself.
    Alone,
}

/// Members of one kind, gathered while others are under way.
#[derive(Debug)]
pub(crate) struct Group {
    kind: Kind,
    database: Database,
    timeout: Duration,
    gathering: Mutex<Gathering>,
}

#[derive(Debug, Default)]
struct Gathering {
    waiting: VecDeque<Member>,
    flights: usize,
    apart_until: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    id: String,
    /// Of a deciding write: what the document says once it is applied.
    nonce: Nonce,
    statement: RawDocumentBuf,
    answer: oneshot::Sender<Answer>,
}

impl Group {
    pub(crate) fn new(kind: Kind, database: &Database, timeout: Duration) -> Arc<Self> {
        let gathering = Mutex::default();
        Arc::new(Self { kind, database: database.clone(), timeout, gathering })
    }

    /// Its name in traces and metrics.
    pub(crate) fn operation(&self) -> &'static str {
        match self.kind {
            Kind::Insert => "insert",
            Kind::Write => "write",
        }
    }

    /// Does this to the order of this id, together with what others want done meanwhile; answers in twice the time that a call
    /// may take, unless more than two whole groups wait before it. Who stops waiting has an unknown outcome.
    pub(crate) async fn join(self: &Arc<Self>, id: &str, nonce: Nonce, statement: RawDocumentBuf) -> Answer {
        let ((answer, answered), _waiting) = (oneshot::channel(), meters::in_group(self.kind));
        let takes_off = {
            let mut gathering = self.gathering();
            if gathering.apart_until.is_some_and(|until| Instant::now() < until) {
                return Answer::Alone;
            }
            gathering.waiting.push_back(Member { id: id.to_owned(), nonce, statement, answer });
            let takes_off = gathering.flights < FLIGHTS;
            gathering.flights += usize::from(takes_off);
            takes_off
        };
        if takes_off {
            // A task of its own: who asked for it may stop waiting, and the others' writes must not end with that.
            tokio::spawn(Arc::clone(self).fly());
        }
        answered.await.unwrap_or(Answer::Alone)
    }

    /// Sends group after group until nothing waits.
    async fn fly(self: Arc<Self>) {
        loop {
            // Whoever is ready just now gets aboard.
            tokio::task::yield_now().await;
            let Some(members) = self.gathering().next() else { return };
            // A panic is the end of its group alone, whose members get no answer.
            let _ = tokio::spawn(Arc::clone(&self).send(members)).await;
        }
    }

    async fn send(self: Arc<Self>, mut members: Vec<Member>) {
        meters::grouped(self.operation(), members.len());
        let answers = match self.command(&mut members) {
            Ok(command) => self.answers(command, &members).await,
            Err(error) => {
                tracing::error!(%error, "the write concern cannot be encoded");
                return;
            }
        };
        for (member, answer) in members.into_iter().zip(answers) {
            // Whoever does not wait any more takes it for unknown.
            let _ = member.answer.send(answer);
        }
    }

    /// The command, with what the driver adds to its own: the barrier and its limit. The driver does not repeat it when its
    /// connection is lost, as it does its own writes: then each member goes alone.
    fn command(&self, members: &mut [Member]) -> Result<RawDocumentBuf, bson::error::Error> {
        let mut statements = RawArrayBuf::new();
        for member in members {
            statements.push(mem::take(&mut member.statement));
        }
        let (command, list) = match self.kind {
            Kind::Insert => (cstr!("insert"), cstr!("documents")),
            Kind::Write => (cstr!("update"), cstr!("updates")),
        };
        let mut raw = RawDocumentBuf::new();
        raw.append(command, ORDERS);
        raw.append(list, statements);
        raw.append(cstr!("ordered"), false);
        if let Some(concern) = self.database.write_concern() {
            raw.append(cstr!("writeConcern"), bson::serialize_to_raw_document_buf(concern)?);
        }
        Ok(raw)
    }

    async fn answers(&self, command: RawDocumentBuf, members: &[Member]) -> Vec<Answer> {
        let (operation, count) = (self.operation(), members.len());
        let call = self.database.run_raw_command(command);
        let reply = match call_within(self.timeout, operation, call).await {
            Ok(reply) => reply,
            Err(error) => {
                if !is_refused(&error) {
                    tracing::warn!(operation, members = count, %error, "a group of writes was not answered");
                    self.gathering().part();
                }
                return vec![Answer::Alone; count];
            }
        };
        if let Ok(concern) = reply.get_document("writeConcernError") {
            let code = concern.get_i32("code").unwrap_or_default();
            tracing::warn!(operation, members = count, code, "a group of writes is not known to be durable");
            self.gathering().part();
            return vec![Answer::Alone; count];
        }
        match told(self.kind, &reply, count) {
            Some(answers) => answers,
            None if count > 1 => self.look(members).await,
            None => vec![Answer::Alone],
        }
    }

    /// Looks which of these writes the documents tell of, when the reply does not say which of them it means. A document that
    /// tells of another may have had this one before.
    async fn look(&self, members: &[Member]) -> Vec<Answer> {
        let ids: Vec<_> = members.iter().map(|member| member.id.as_str()).collect();
        let looking = async {
            let orders = self.database.collection::<RawDocumentBuf>(ORDERS);
            let found = orders.find(doc! { "_id": { "$in": ids } }).projection(doc! { "nonce": 1 });
            // Majority, as all reads of this client: what is applied and answered is in it.
            found.await?.try_collect::<Vec<_>>().await
        };
        let found = call_within(self.timeout, "look", looking).await.unwrap_or_default();
        let nonce = |document: &RawDocumentBuf| {
            let nonce = document.get_binary("nonce").ok()?.bytes.try_into().ok()?;
            Some((document.get_str("_id").ok()?.to_owned(), Nonce(u128::from_be_bytes(nonce))))
        };
        let nonces: HashMap<_, _> = found.iter().filter_map(nonce).collect();
        let is_there = |member: &Member| nonces.get(&member.id) == Some(&member.nonce);
        let answer = |member| if is_there(member) { Answer::Applied } else { Answer::Alone };
        members.iter().map(answer).collect()
    }

    fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathering {
    /// Sends everybody alone for a while, also those who wait already: they get no answer.
    fn part(&mut self) {
        self.apart_until = Some(Instant::now() + APART);
        self.waiting.clear();
    }

    /// Takes the next group: as many as fit, each order once. `None` when nothing waits: then this flight is over.
    fn next(&mut self) -> Option<Vec<Member>> {
        if self.waiting.is_empty() {
            self.flights -= 1;
            return None;
        }
        let (mut members, mut ids, mut bytes) = (Vec::new(), HashSet::new(), 0);
        let mut later = Vec::new();
        while members.len() < COUNT_MAX
            && let Some(member) = self.waiting.pop_front()
        {
            let length = member.statement.as_bytes().len();
            if !members.is_empty() && bytes + length > BYTES_MAX {
                later.push(member);
                break;
            }
            if ids.insert(member.id.clone()) {
                bytes += length;
                members.push(member);
            } else {
                later.push(member);
            }
        }
        for member in later.into_iter().rev() {
            self.waiting.push_front(member);
        }
        Some(members)
    }
}

/// What the reply says of each member, if it does. Of inserts it names those that failed; of updates it counts what matched.
fn told(kind: Kind, reply: &Document, members: usize) -> Option<Vec<Answer>> {
    let count = |name| reply.get_i32(name).ok().and_then(|count| usize::try_from(count).ok());
    let applied = count("n").unwrap_or_default();
    let errors = reply.get_array("writeErrors").map_or(&[][..], Vec::as_slice);
    match kind {
        _ if applied == members && errors.is_empty() => Some(vec![Answer::Applied; members]),
        Kind::Insert if applied + errors.len() == members => {
            let mut answers = vec![Answer::Applied; members];
            for error in errors {
                let (index, answer) = told_of_one(error)?;
                *answers.get_mut(index)? = answer;
            }
            Some(answers)
        }
        Kind::Write if members == 1 && errors.is_empty() => Some(vec![Answer::NoMatch]),
        _ => None,
    }
}

/// Which member failed, and how.
fn told_of_one(error: &bson::Bson) -> Option<(usize, Answer)> {
    let error = error.as_document()?;
    let index = usize::try_from(error.get_i32("index").ok()?).ok()?;
    let is_duplicate = error.get_i32("code").is_ok_and(|code| code == DUPLICATE_KEY);
    Some((index, if is_duplicate { Answer::Exists } else { Answer::Alone }))
}

#[cfg(test)]
mod tests {
    use mongodb::bson::rawdoc;

    use super::*;

    fn member(id: &str, bytes: usize) -> Member {
        let statement = rawdoc! { "of": id, "padding": "x".repeat(bytes) };
        Member { id: id.into(), nonce: Nonce(0), statement, answer: oneshot::channel().0 }
    }

    fn groups(members: impl IntoIterator<Item = Member>) -> Vec<Vec<String>> {
        let mut gathering =
            Gathering { waiting: members.into_iter().collect(), flights: 1, apart_until: None };
        let ids = |group: Vec<Member>| group.into_iter().map(|member| member.id).collect();
        let groups = std::iter::from_fn(|| gathering.next()).map(ids).collect();
        assert_eq!(gathering.flights, 0, "the flight is over when nothing waits");
        groups
    }

    #[test]
    fn a_group_has_each_order_once_and_the_others_keep_their_turn() {
        let members = ["a", "b", "a", "c", "a"].map(|id| member(id, 0));
        assert_eq!(groups(members), [vec!["a", "b", "c"], vec!["a"], vec!["a"]]);
    }

    #[test]
    fn a_group_is_bounded_in_members_and_in_bytes_but_for_a_single_one() {
        let many = groups((0..COUNT_MAX + 1).map(|number| member(&number.to_string(), 0)));
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [COUNT_MAX, 1]);
        let large = [("a", BYTES_MAX / 2), ("b", BYTES_MAX / 3), ("c", BYTES_MAX / 3), ("d", 2 * BYTES_MAX)];
        assert_eq!(
            groups(large.map(|(id, bytes)| member(id, bytes))),
            [vec!["a", "b"], vec!["c"], vec!["d"]]
        );
    }

    #[test]
    fn of_inserts_each_is_told_and_of_updates_only_whether_all_were_applied() {
        use Answer::{Alone, Applied, Exists, NoMatch};
        let errors = |code: i32| doc! { "n": 2, "writeErrors": [{ "index": 1, "code": code }] };
        let told = |kind, reply, members| told(kind, &reply, members);
        assert_eq!(told(Kind::Insert, doc! { "n": 3 }, 3), Some(vec![Applied; 3]));
        assert_eq!(told(Kind::Insert, errors(11_000), 3), Some(vec![Applied, Exists, Applied]));
        assert_eq!(told(Kind::Insert, errors(121), 3), Some(vec![Applied, Alone, Applied]));
        assert_eq!(told(Kind::Insert, doc! { "n": 2 }, 3), None);
        assert_eq!(told(Kind::Write, doc! { "n": 3 }, 3), Some(vec![Applied; 3]));
        assert_eq!(told(Kind::Write, doc! { "n": 2 }, 3), None);
        assert_eq!(told(Kind::Write, errors(121), 3), None);
        assert_eq!(told(Kind::Write, doc! { "n": 0 }, 1), Some(vec![NoMatch]));
    }
}
