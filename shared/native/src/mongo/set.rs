//! A MongoDB replica set of three members on one machine, and what can befall it. Every action returns evidence of
//! what it did. Members are watched at their own ports, so that a faulted proxy between them hides nothing.
//!
//! For a set behind a fault proxy: [`MongoSet::start_members`], one proxy in front of each of [`MongoSet::ports`],
//! then [`MongoSet::initiate`] with the proxies' addresses.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio::{join, try_join};

use super::replica_set::{self, accepted, ask};
use super::server::Server;
use super::wire::Document;
use super::{MemberState, MemberStatus, MongoRole, MongoSetOptions, status};
use crate::ready::until;
use crate::{Error, Signal};

/// How long a primary that stepped down stays out of elections; longer than the successor may take to catch up.
const STEP_DOWN_SECS: i32 = 10;
const CATCH_UP_SECS: i32 = 5;
const COMMAND_TIMEOUT: Duration = Duration::from_secs(15);

/// Three members of one replica set, `enableTestCommands` on. Dropping it kills them, and so does the end of this
/// process. Members are numbered from 0; a method that is given another number than 0, 1 or 2 panics.
#[derive(Debug)]
pub struct MongoSet {
    servers: [Server; 3],
    advertised: [SocketAddr; 3],
    options: MongoSetOptions,
}

/// Evidence of a [`MongoSet::step_down`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepDown {
    /// Who stepped down, as it was before.
    pub old: MemberStatus,
    /// Who takes writes now; its term is higher.
    pub new: MemberStatus,
    /// From the command to the new primary.
    pub took: Duration,
}

/// Evidence of a [`MongoSet::kill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Killed {
    /// The member as it was just before.
    pub was: MemberStatus,
    /// How it ended: 137 (128 + SIGKILL), or what it had ended with before.
    pub status: ExitStatus,
}

impl MongoSet {
    /// Starts three members in folders of `dir`, which is made if need be, and makes them a set that reaches its
    /// members directly. Data and ports stay in `dir`: a later start continues there.
    ///
    /// # Errors
    /// As [`MongoSet::start_members`] and [`MongoSet::initiate`].
    pub async fn start(dir: &Path, options: MongoSetOptions) -> Result<Self, Error> {
        let mut set = Self::start_members(dir, options).await?;
        set.initiate(set.ports().map(replica_set::address)).await?;
        Ok(set)
    }

    /// Starts three members that do not know of each other yet and only wait for [`MongoSet::initiate`].
    ///
    /// # Errors
    /// When `mongod` is not found, another server runs in `dir`, or a member ends or does not answer in time; the
    /// error carries its last log lines.
    pub async fn start_members(dir: &Path, options: MongoSetOptions) -> Result<Self, Error> {
        let server = |member: usize| {
            let folder: PathBuf = dir.join(format!("member-{member}"));
            let options = options.for_one();
            async move { Server::start(&folder, options).await }
        };
        let (a, b, c) = try_join!(server(0), server(1), server(2))?;
        let servers = [a, b, c];
        let advertised = servers.each_ref().map(|server| replica_set::address(server.port));
        Ok(Self { servers, advertised, options })
    }

    /// Makes the members one set under these addresses and waits until there is a writable primary with two
    /// secondaries. Drivers and members will reach member n only through `advertised[n]`, which must lead to its
    /// port, from now on and for the member itself too: `mongod` finds itself in the configuration by connecting to
    /// each address and asking who is there. A later call, or one on older data, replaces the addresses by force.
    ///
    /// # Errors
    /// When an address does not lead to its member, or there is no such primary in time.
    pub async fn initiate(&mut self, advertised: [SocketAddr; 3]) -> Result<(), Error> {
        let first = self.servers[0].port;
        let founding = replica_set::found(first, &advertised, self.options.election_timeout);
        in_time(founding).await.map_err(refused("initiate the replica set"))?;
        self.advertised = advertised;
        self.until_whole().await.map(drop)
    }

    /// The ports on which the members themselves listen, on 127.0.0.1. The same over restarts.
    pub fn ports(&self) -> [u16; 3] {
        self.servers.each_ref().map(|server| server.port)
    }

    /// Connection string with the advertised addresses. The same over restarts and changes of primary.
    pub fn uri(&self) -> String {
        replica_set::uri(&self.advertised, MongoRole::Alone)
    }

    /// Where a member's output goes.
    pub fn log(&self, member: usize) -> &Path {
        &self.servers[member].log
    }

    /// All members as they are now.
    pub async fn members(&self) -> [MemberStatus; 3] {
        join!(self.member(0), self.member(1), self.member(2)).into()
    }

    /// The member that takes writes, if there is one. A deposed primary may not know it yet: the newest term counts.
    pub async fn primary(&self) -> Option<MemberStatus> {
        let primaries = self.members().await.into_iter().filter(|it| it.state == MemberState::Primary);
        primaries.max_by_key(|primary| primary.term)
    }

    /// Waits for a primary that was elected after the one of `term`.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn until_primary_after(&self, term: i64) -> Result<MemberStatus, Error> {
        let newer = || async {
            let primary = self.primary().await.filter(|primary| primary.term > term);
            primary.ok_or_else(|| format!("no primary beyond term {term}"))
        };
        until("a new primary", self.options.patience, newer).await
    }

    /// Waits until one member is primary, the other two are secondaries, and all hold writes of its term. To be waited for
    /// between two faults: a secondary that has not come that far may still have to roll back, and if the primary stops
    /// meanwhile, there is no other until it goes on.
    ///
    /// # Errors
    /// When this is not so in time; the error says what the members are.
    pub async fn until_whole(&self) -> Result<[MemberStatus; 3], Error> {
        let look = || async {
            let members = self.members().await;
            is_whole(&members).then_some(members).ok_or_else(|| described(&members))
        };
        until("a primary and two secondaries that follow it", self.options.patience, look).await
    }

    /// Waits until a member is a primary or secondary. A member that starts learns who it is through its own advertised
    /// address: a fault there holds this up until it is over, since the member looks again at each heartbeat. Heartbeats
    /// come from the others: three that start at once behind such a fault need another [`MongoSet::initiate`].
    ///
    /// # Errors
    /// When it is neither in time.
    pub async fn until_settled(&self, member: usize) -> Result<MemberStatus, Error> {
        let settled = |state| matches!(state, MemberState::Primary | MemberState::Secondary);
        self.until_state(member, "a member to be primary or secondary", settled).await
    }

    /// Makes the primary step down and waits for the next. The old one stays out of elections for 10 s.
    ///
    /// # Errors
    /// When there is no primary, no secondary can follow it within 5 s, or no new one comes in time.
    pub async fn step_down(&self) -> Result<StepDown, Error> {
        let old =
            self.primary().await.ok_or_else(|| refused("step down")("there is no primary".to_owned()))?;
        let begun = Instant::now();
        let command = Document::default()
            .int("replSetStepDown", STEP_DOWN_SECS)
            .int("secondaryCatchUpPeriodSecs", CATCH_UP_SECS);
        let asked = in_time(async { accepted(&ask(old.port, command).await?) });
        asked.await.map_err(refused("step down"))?;
        let new = self.until_primary_after(old.term).await?;
        Ok(StepDown { old, new, took: begun.elapsed() })
    }

    /// Ends a member at once, as a crash would; its data stays for [`MongoSet::restart`]. A second call changes nothing.
    ///
    /// # Errors
    /// When the operating system cannot say whether it has ended.
    pub async fn kill(&mut self, member: usize) -> Result<Killed, Error> {
        let was = self.member(member).await;
        let status = self.servers[member].kill().await?;
        Ok(Killed { was, status })
    }

    /// Starts a member again on its data and port, stopping it before if it still runs, and waits until it answers,
    /// which is some time before it is settled: see [`MongoSet::until_settled`].
    ///
    /// # Errors
    /// When it ends or does not answer in time; then it is not running.
    pub async fn restart(&mut self, member: usize) -> Result<MemberStatus, Error> {
        self.servers[member].restart().await?;
        Ok(self.member(member).await)
    }

    /// Sends a member a signal and waits until it shows: after [`Signal::Stop`] it is silent, after
    /// [`Signal::Continue`] it is a primary or secondary, after the others it has ended. A primary that goes on may take
    /// itself for one for a moment longer: look at the term.
    ///
    /// # Errors
    /// When it does not show in time, or the operating system cannot say whether the member has ended.
    pub async fn signal(&mut self, member: usize, signal: Signal) -> Result<MemberStatus, Error> {
        self.servers[member].signal(signal);
        match signal {
            Signal::Stop => self.until_silent(member).await,
            Signal::Continue => self.until_settled(member).await,
            Signal::Term | Signal::Kill => {
                self.servers[member].wait().await?;
                Ok(self.member(member).await)
            }
        }
    }

    /// Stops all members in order; their data stays. A second call does nothing.
    ///
    /// # Errors
    /// When the operating system cannot say whether they have ended.
    pub async fn stop(&mut self) -> Result<(), Error> {
        let [a, b, c] = &mut self.servers;
        try_join!(a.stop(), b.stop(), c.stop()).map(drop)
    }

    async fn member(&self, member: usize) -> MemberStatus {
        status::of(member, self.servers[member].port, self.advertised[member]).await
    }

    async fn until_silent(&self, member: usize) -> Result<MemberStatus, Error> {
        self.until_state(member, "a member to fall silent", |state| state == MemberState::Silent).await
    }

    async fn until_state(
        &self,
        member: usize,
        awaited: &str,
        wanted: impl Fn(MemberState) -> bool,
    ) -> Result<MemberStatus, Error> {
        let look = || async {
            let status = self.member(member).await;
            if wanted(status.state) { Ok(status) } else { Err(status.state.to_string()) }
        };
        until(awaited, self.options.patience, look).await
    }
}

fn is_whole(members: &[MemberStatus; 3]) -> bool {
    let count = |state| members.iter().filter(|member| member.state == state).count();
    let newest = members.iter().map(|member| member.term).max();
    count(MemberState::Primary) == 1
        && count(MemberState::Secondary) == 2
        && members.iter().all(|member| Some(member.written_term) == newest)
}

fn described(members: &[MemberStatus; 3]) -> String {
    let one = |it: &MemberStatus| format!("{} in term {}, writes of {}", it.state, it.term, it.written_term);
    members.each_ref().map(one).join("; ")
}

async fn in_time(command: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    timeout(COMMAND_TIMEOUT, command).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

fn refused(attempt: &'static str) -> impl FnOnce(String) -> Error {
    move |reason| Error::Refused { attempt, reason }
}
