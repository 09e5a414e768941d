//! Starts the parts of the fleet in order, and stops them in the reverse.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::{join_all, try_join_all};
use orderfleet_native::{Mongo, MongoOptions, RabbitMq, RabbitMqOptions};
use tokio::select;
use tokio::time::interval;

use super::child::{Child, Own};
use super::folder::{self, Folder};
use super::member::Member;
use super::say;
use super::scaling::{self, Scaling, WORKERS_MAX, Workers};
use super::settings::{Places, Services, place, url};
use super::usage::{Counting, Usage};
use super::wishes::{Wish, Wishes};
use crate::exit::Failure;

/// When this process is killed, broker and database have this long to close their files.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether another number of workers is wanted.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it is said how it is, although nothing has changed but how long workers have run.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// After so long, a worker that was given up is tried anew where the backlog decides: nobody may be there to ask for it.
const TRIED_ANEW_AFTER: Duration = Duration::from_secs(60);
/// Begins the names of workers; a number from 1 follows.
const WORKER: &str = "worker-";
/// What the fleet's processes must not inherit: their settings come from the folder.
const OWN_VARIABLES: [&str; 3] = ["ORDERFLEET_AMQP_URL", "ORDERFLEET_MONGODB_URI", "ORDERFLEET_MONGOD"];

/// The order of stopping: no new orders, finish those in hand, then what they were worked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Ingest,
    Work,
    Downstream,
    Storage,
}

const STAGES: [(Stage, &str); 4] = [
    (Stage::Ingest, "the producer"),
    (Stage::Work, "the workers and the query API"),
    (Stage::Downstream, "the sandbox"),
    (Stage::Storage, "the database and the broker"),
];

/// All that runs.
#[derive(Default)]
pub(super) struct Fleet {
    members: Vec<(Stage, Member)>,
    /// How many workers were wanted last.
    wanted: Option<u16>,
    counting: Option<Counting>,
    /// The settings file of the workers where it is not that of the folder.
    config: Option<PathBuf>,
}

impl Fleet {
    /// One of workers alone, which read this settings file and the environment.
    pub(super) fn of_workers(config: PathBuf) -> Self {
        Self { config: Some(config), ..Self::default() }
    }

    /// Starts broker and database, unless running ones are named.
    pub(super) async fn start_services(
        &mut self,
        folder: &Folder,
        amqp_url: Option<String>,
        mongodb_uri: Option<String>,
    ) -> anyhow::Result<Services> {
        say(&format!("starting in {}; logs are in its folder logs", folder.shown().display()));
        let ((amqp_url, broker), (mongodb_uri, database)) =
            tokio::try_join!(broker(folder, amqp_url), database(folder, mongodb_uri))?;
        let rabbitmqctl = broker.as_ref().map(|broker| broker.ctl_script().to_owned());
        if let Some(broker) = broker {
            self.add(Stage::Storage, "rabbitmq", Child::Broker(Box::new(broker)), None);
        }
        if let Some(database) = database {
            self.add(Stage::Storage, "mongodb", Child::Database(Box::new(database)), None);
        }
        Ok(Services { amqp_url, mongodb_uri, rabbitmqctl })
    }

    /// Starts our own processes and waits until all are ready.
    pub(super) async fn start_processes(
        &mut self,
        folder: &Folder,
        places: &Places,
        workers: u16,
    ) -> anyhow::Result<()> {
        let mut sandbox = Command::new(sibling("orderfleet-sandbox")?);
        sandbox.arg("--listen").arg(places.sandbox.to_string()).arg("--data").arg(folder.path("sandbox"));
        self.start(
            folder,
            Stage::Downstream,
            "sandbox",
            sandbox,
            format!("{}/healthz", url(places.sandbox)),
        )?;

        let readyz = |place| format!("{}/readyz", url(place));
        let producer = configured(folder, "orderfleet-producer")?;
        self.start(folder, Stage::Ingest, "producer", producer, readyz(places.producer_admin))?;
        let query = configured(folder, "orderfleet-query")?;
        self.start(folder, Stage::Work, "query", query, readyz(places.query_admin))?;
        for number in 1..=workers {
            self.start_worker(folder, number)?;
        }
        let started = self.members.iter_mut().filter(|(stage, _)| *stage != Stage::Storage);
        try_join_all(started.map(|(_, member)| member.until_ready())).await.map(drop)
    }

    /// Has as many workers as an operator asks for, else as the signal asks for, else as at the start, and says in the folder how
    /// many there are. What is stopped finishes what it has in hand; what was given up is missing until an operator asks again, be
    /// it for the same number, or for a minute where the signal asks. May be dropped at any point.
    ///
    /// Returns only where workers run alone and all that are wanted were given up: what has started this may start it again.
    pub(super) async fn obey(&mut self, folder: &Folder, mut wishes: Wishes) -> Failure {
        let (mut asked_at, mut before, mut trouble) = (None, None, String::new());
        let mut ticks = interval(LOOK_EVERY);
        loop {
            select! {
                _ = ticks.tick() => {}
                () = wishes.changed() => {}
            }
            let asked_last = scaling::asked_at(folder);
            if asked_at != asked_last {
                asked_at = asked_last;
                self.members.retain(|(_, member)| !member.is_given_up());
            }
            if wishes.is_range() {
                self.forget_given_up(TRIED_ANEW_AFTER);
            }
            let wish = wishes.wish(folder, self.wanted);
            self.tell_of_change(&wish);
            let scaled = self.scale(folder, wish.workers);
            let workers = self.workers(wish.workers);
            let told = self.tell(folder, &mut before, &wishes, workers, wish);
            match scaled.and(told) {
                Ok(()) => trouble.clear(),
                Err(error) if trouble != error.to_string() => {
                    trouble = error.to_string();
                    say(&format!("cannot scale to {} workers: {error:#}", workers.wanted));
                }
                Err(_) => {}
            }
            if self.config.is_some() && is_lost(workers) {
                return Failure::new("every worker was given up", "see above why they end");
            }
        }
    }

    /// Workers that were given up so long ago count as missing again.
    fn forget_given_up(&mut self, after: Duration) {
        self.members.retain(|(_, member)| {
            let is_worker = member.name().starts_with(WORKER);
            !(is_worker && member.given_up_for().is_some_and(|since| since >= after))
        });
    }

    /// One line for each change, with its reason.
    fn tell_of_change(&mut self, wish: &Wish) {
        let before = self.wanted.replace(wish.workers);
        if let Some(before) = before.filter(|before| *before != wish.workers) {
            say(&format!("workers: {before} to {} ({})", wish.workers, wish.reason));
        }
    }

    /// Says how it is, when that has changed and now and then besides.
    fn tell(
        &mut self,
        folder: &Folder,
        before: &mut Option<(Workers, Instant)>,
        wishes: &Wishes,
        workers: Workers,
        wish: Wish,
    ) -> anyhow::Result<()> {
        let usage = self.count(workers);
        if before.is_some_and(|(told, at)| told == workers && at.elapsed() < TELL_EVERY) {
            return Ok(());
        }
        let Wish { reason, fixed_by_operator, .. } = wish;
        let range = wishes.range();
        scaling::tell(folder, &Scaling { workers, reason, range, fixed_by_operator, usage })?;
        *before = Some((workers, Instant::now()));
        Ok(())
    }

    /// Says how it is before anybody is obeyed.
    pub(super) fn tell_first(&mut self, folder: &Folder, wishes: &Wishes) -> anyhow::Result<()> {
        let wish = wishes.wish(folder, self.wanted);
        let workers = self.workers(wish.workers);
        self.tell(folder, &mut None, wishes, workers, wish)
    }

    fn count(&mut self, workers: Workers) -> Usage {
        let Workers { ready, starting, stopping, .. } = workers;
        self.counting
            .as_mut()
            .map(|counting| counting.on(Instant::now(), ready + starting + stopping))
            .unwrap_or_default()
    }

    /// From now on it is counted how long workers run, against a fleet of so many.
    pub(super) fn count_from_now(&mut self, most: u16) {
        self.counting = Some(Counting::new(Instant::now(), most));
    }

    /// How long workers have run.
    pub(super) fn usage(&mut self) -> Usage {
        let workers = self.workers(0);
        self.count(workers)
    }

    /// Begins to stop the youngest that are too many, or starts those that are missing. Waits for nothing.
    fn scale(&mut self, folder: &Folder, wanted: u16) -> anyhow::Result<()> {
        self.members.retain(|(_, member)| !member.is_over());
        let (mut taken, mut running) = (BTreeSet::new(), BTreeSet::new());
        for (number, member) in self.numbered_workers() {
            taken.insert(number);
            if !member.is_stopping() {
                running.insert(number);
            }
        }
        while running.len() > usize::from(wanted) {
            let Some(last) = running.pop_last() else { break };
            let member = self.numbered_workers().find(|(number, _)| *number == last);
            if let Some((_, member)) = member {
                member.begin_stop();
            }
        }
        // The names of those that are stopping are theirs until they are gone.
        let free = (1..=2 * WORKERS_MAX).filter(|number| !taken.contains(number));
        for number in free.take(usize::from(wanted).saturating_sub(running.len())) {
            self.start_worker(folder, number)?;
        }
        Ok(())
    }

    fn workers(&self, wanted: u16) -> Workers {
        let mut workers = Workers { wanted, ..Workers::default() };
        for (_, member) in self.numbered_workers() {
            *match (member.is_given_up(), member.is_stopping(), member.is_ready()) {
                (true, ..) => &mut workers.given_up,
                (_, true, _) => &mut workers.stopping,
                (_, false, true) => &mut workers.ready,
                (_, false, false) => &mut workers.starting,
            } += 1;
        }
        workers
    }

    fn numbered_workers(&self) -> impl Iterator<Item = (u16, &Member)> {
        self.members.iter().filter_map(|(_, member)| {
            let number = member.name().strip_prefix(WORKER)?.parse().ok()?;
            Some((number, member))
        })
    }

    fn start_worker(&mut self, folder: &Folder, number: u16) -> anyhow::Result<()> {
        let name = format!("{WORKER}{number}");
        let admin = place(folder, &name)?;
        let mut worker = match &self.config {
            Some(config) => with_config("orderfleet-worker", config)?,
            None => configured(folder, "orderfleet-worker")?,
        };
        worker.arg("--set").arg(format!("worker.admin_listen={admin}"));
        self.start(folder, Stage::Work, &name, worker, format!("{}/readyz", url(admin)))
    }

    /// Stops everything, stage by stage. A second call finds nothing left to stop.
    pub(super) async fn stop(&mut self) {
        for (stage, name) in STAGES {
            let members: Vec<_> = self.members.extract_if(.., |(of, _)| *of == stage).collect();
            if members.is_empty() {
                continue;
            }
            let begun = Instant::now();
            say(&format!("stopping {name}"));
            join_all(members.into_iter().map(|(_, member)| member.stop())).await;
            say(&format!("stopped {name} ({:.1} s)", begun.elapsed().as_secs_f32()));
        }
    }

    fn start(
        &mut self,
        folder: &Folder,
        stage: Stage,
        name: &str,
        mut command: Command,
        ready_url: String,
    ) -> anyhow::Result<()> {
        let own = if self.config.is_some() {
            Own::start_loud(name, command, folder)?
        } else {
            for variable in OWN_VARIABLES {
                command.env_remove(variable);
            }
            Own::start(name, command, folder)?
        };
        self.add(stage, name, Child::Own(Box::new(own)), Some(ready_url));
        Ok(())
    }

    fn add(&mut self, stage: Stage, name: &str, child: Child, ready_url: Option<String>) {
        self.members.push((stage, Member::supervise(name, child, ready_url)));
    }
}

/// Whether some are wanted, and all there are were given up.
fn is_lost(workers: Workers) -> bool {
    let Workers { wanted, given_up, .. } = workers;
    wanted > 0 && given_up >= wanted && workers == Workers { wanted, given_up, ..Workers::default() }
}

async fn broker(folder: &Folder, named: Option<String>) -> anyhow::Result<(String, Option<RabbitMq>)> {
    if let Some(url) = named {
        say("rabbitmq is the one that was named");
        return Ok((url, None));
    }
    let begun = Instant::now();
    let options = RabbitMqOptions {
        orphan_grace: ORPHAN_GRACE,
        log: Some(folder.log("rabbitmq")),
        ..RabbitMqOptions::default()
    };
    let broker = RabbitMq::start(&folder.path("rabbitmq"), options).await?;
    say(&format!("rabbitmq is ready ({:.1} s)", begun.elapsed().as_secs_f32()));
    Ok((broker.amqp_url(), Some(broker)))
}

async fn database(folder: &Folder, named: Option<String>) -> anyhow::Result<(String, Option<Mongo>)> {
    if let Some(uri) = named {
        say("mongodb is the one that was named");
        return Ok((uri, None));
    }
    let begun = Instant::now();
    let options = MongoOptions {
        test_commands: false,
        orphan_grace: ORPHAN_GRACE,
        log: Some(folder.log("mongodb")),
        ..MongoOptions::default()
    };
    let database = Mongo::start(&folder.path("mongodb"), options).await?;
    say(&format!("mongodb is ready ({:.1} s)", begun.elapsed().as_secs_f32()));
    Ok((database.uri(), Some(database)))
}

/// A process that reads the fleet's settings file.
fn configured(folder: &Folder, program: &str) -> anyhow::Result<Command> {
    with_config(program, &folder.path(folder::SETTINGS))
}

fn with_config(program: &str, config: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(sibling(program)?);
    command.arg("--config").arg(config);
    Ok(command)
}

/// The fleet's programs are installed side by side.
fn sibling(program: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the program's own place")?;
    let path = own.parent().unwrap_or(Path::new("/")).join(program);
    if path.is_file() {
        return Ok(path);
    }
    let what = format!("{} is missing", path.display());
    Err(Failure::new(what, "build all of the fleet: make build").into())
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// A fleet whose one worker was given up.
    async fn given_up(folder: &Folder, mut fleet: Fleet) -> Fleet {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 1"]);
        let own = Own::start("worker-1", command, folder).unwrap();
        let nowhere = Some("http://127.0.0.1:1/".to_owned());
        fleet.add(Stage::Work, "worker-1", Child::Own(Box::new(own)), nowhere);
        let ready = timeout(DEADLINE, fleet.members[0].1.until_ready());
        ready.await.expect("it is given up").unwrap_err();
        fleet
    }

    #[tokio::test]
    async fn a_worker_that_was_given_up_is_not_started_over_and_over() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let mut fleet = given_up(&folder, Fleet::default()).await;
        fleet.scale(&folder, 1).unwrap();
        assert!(fleet.members.len() == 1 && fleet.members[0].1.is_given_up());
        let all_given_up = Workers { wanted: 1, given_up: 1, ..Workers::default() };
        assert_eq!(fleet.workers(1), all_given_up);
        assert!(is_lost(all_given_up) && !is_lost(Workers { starting: 1, ..all_given_up }));
        fleet.forget_given_up(TRIED_ANEW_AFTER);
        assert_eq!(fleet.members.len(), 1, "not yet");
        scaling::ask(dir.path(), scaling::Asked::Fixed(1)).unwrap();
        let obeyed = timeout(LOOK_EVERY * 4, fleet.obey(&folder, Wishes::fixed(1))).await;
        obeyed.expect_err("it goes on for ever");
        let is_given_up = |(_, member): &(Stage, Member)| member.is_given_up();
        assert!(!fleet.members.iter().any(is_given_up), "somebody has asked anew");
    }

    #[tokio::test]
    async fn where_the_backlog_decides_a_worker_that_was_given_up_is_tried_anew_after_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let mut fleet = given_up(&folder, Fleet::default()).await;
        fleet.forget_given_up(Duration::ZERO);
        assert!(fleet.members.is_empty());
    }

    #[tokio::test]
    async fn workers_alone_that_were_all_given_up_end_the_process_that_runs_them() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let mut fleet = given_up(&folder, Fleet::of_workers(dir.path().join("none.toml"))).await;
        let ended = timeout(DEADLINE, fleet.obey(&folder, Wishes::fixed(1))).await.expect("it ends");
        assert!(ended.to_string().contains("every worker was given up"), "{ended}");
    }
}
