//! Starts the parts of the fleet in order, and stops them in the reverse.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::{join_all, try_join_all};
use orderfleet_native::{Mongo, MongoOptions, RabbitMq, RabbitMqOptions};
use tokio::time::interval;

use super::child::{Child, Own};
use super::folder::{self, Folder};
use super::member::Member;
use super::say;
use super::scaling::{self, WORKERS_MAX, Workers};
use super::settings::{Places, Services, place, url};
use crate::exit::Failure;

/// When this process is killed, broker and database have this long to close their files.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether another number of workers is wanted.
const LOOK_EVERY: Duration = Duration::from_millis(250);
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
}

impl Fleet {
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

    /// Has as many workers as somebody asks for, at first so many, and says in the folder how many there are. What is stopped
    /// finishes what it has in hand; what was given up is missing until somebody asks again, be it for the same number. May be
    /// dropped at any point.
    pub(super) async fn obey(&mut self, folder: &Folder, first: u16) -> Infallible {
        let (mut asked_at, mut before, mut trouble) = (None, None, String::new());
        let mut ticks = interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            let asked_last = scaling::asked_at(folder);
            if asked_at != asked_last {
                asked_at = asked_last;
                self.members.retain(|(_, member)| !member.is_given_up());
            }
            let wanted = scaling::wanted(folder).unwrap_or(first);
            let scaled = self.scale(folder, wanted);
            let workers = self.workers(wanted);
            let told = if before == Some(workers) { Ok(()) } else { scaling::tell(folder, &workers) };
            before = told.is_ok().then_some(workers);
            match scaled.and(told) {
                Ok(()) => trouble.clear(),
                Err(error) if trouble != error.to_string() => {
                    trouble = error.to_string();
                    say(&format!("cannot scale to {wanted} workers: {error:#}"));
                }
                Err(_) => {}
            }
        }
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
                say(&format!("stopping {}", member.name()));
                member.begin_stop();
            }
        }
        // The names of those that are stopping are theirs until they are gone.
        let free = (1..=2 * WORKERS_MAX).filter(|number| !taken.contains(number));
        for number in free.take(usize::from(wanted).saturating_sub(running.len())) {
            self.start_worker(folder, number)?;
            say(&format!("started {WORKER}{number}"));
        }
        Ok(())
    }

    fn workers(&self, wanted: u16) -> Workers {
        let mut workers = Workers { wanted, ..Workers::default() };
        for (_, member) in self.numbered_workers().filter(|(_, member)| !member.is_given_up()) {
            *match (member.is_stopping(), member.is_ready()) {
                (true, _) => &mut workers.stopping,
                (false, true) => &mut workers.ready,
                (false, false) => &mut workers.starting,
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
        let mut worker = configured(folder, "orderfleet-worker")?;
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
        for variable in OWN_VARIABLES {
            command.env_remove(variable);
        }
        let own = Own::start(name, command, folder)?;
        self.add(stage, name, Child::Own(Box::new(own)), Some(ready_url));
        Ok(())
    }

    fn add(&mut self, stage: Stage, name: &str, child: Child, ready_url: Option<String>) {
        self.members.push((stage, Member::supervise(name, child, ready_url)));
    }
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
    let mut command = Command::new(sibling(program)?);
    command.arg("--config").arg(folder.path(folder::SETTINGS));
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

    #[tokio::test]
    async fn a_worker_that_was_given_up_is_not_started_over_and_over() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exit 1"]);
        let own = Own::start("worker-1", command, &folder).unwrap();
        let mut fleet = Fleet::default();
        let nowhere = Some("http://127.0.0.1:1/".to_owned());
        fleet.add(Stage::Work, "worker-1", Child::Own(Box::new(own)), nowhere);
        let ready = timeout(DEADLINE, fleet.members[0].1.until_ready());
        ready.await.expect("it is given up").unwrap_err();

        fleet.scale(&folder, 1).unwrap();
        assert!(fleet.members.len() == 1 && fleet.members[0].1.is_given_up());
        assert_eq!(fleet.workers(1), Workers { wanted: 1, ..Workers::default() });
        scaling::ask(dir.path(), 1).unwrap();
        let obeyed = timeout(LOOK_EVERY * 4, fleet.obey(&folder, 1)).await;
        obeyed.expect_err("it goes on for ever");
        let is_given_up = |(_, member): &(Stage, Member)| member.is_given_up();
        assert!(!fleet.members.iter().any(is_given_up), "somebody has asked anew");
    }
}
