//! Keeps one part of the fleet running: reports an unexpected end and starts it again, ever more slowly.

use std::collections::VecDeque;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::bail;
use orderfleet_native::{Error, last_lines};
use tokio::select;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::child::Child;
use super::say;

const READY_POLL_INTERVAL: Duration = Duration::from_millis(50);
const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the whole start of one member may take.
const START_WITHIN: Duration = Duration::from_secs(120);
const ENDS_COUNTED_FOR: Duration = Duration::from_secs(60);
/// So many ends within a minute, without ever having been ready, and it is given up.
const ENDS_AT_START_MAX: usize = 5;
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
const LOG_LINES_SHOWN: usize = 8;

/// A supervised part of the fleet.
pub(super) struct Member {
    name: String,
    begun: Instant,
    stop: CancellationToken,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For the first time, or again.
    Starting,
    Ready,
    /// Since then.
    GivenUp(Instant),
}

impl Member {
    /// Takes a child into care. It counts as ready once `ready_url` answers 200, or at once where there is none.
    pub(super) fn supervise(name: &str, child: Child, ready_url: Option<String>) -> Self {
        let (state, state_seen) = watch::channel(State::Starting);
        let stop = CancellationToken::new();
        let supervisor = Supervisor {
            name: name.to_owned(),
            child,
            ready_url,
            client: reqwest::Client::new(),
            ends: VecDeque::new(),
            was_ready: false,
            state,
            stop: stop.clone(),
        };
        let task = tokio::spawn(supervisor.run());
        Self { name: name.to_owned(), begun: Instant::now(), stop, state: state_seen, task }
    }

    /// Waits until it has been ready for the first time.
    ///
    /// # Errors
    /// When it was given up, or takes too long.
    pub(super) async fn until_ready(&mut self) -> anyhow::Result<()> {
        match timeout(START_WITHIN, self.state.wait_for(|state| *state != State::Starting)).await {
            Ok(Ok(state)) if *state == State::Ready => {}
            Ok(_) => bail!(
                "{} ended {ENDS_AT_START_MAX} times within a minute; its last lines are above",
                self.name
            ),
            Err(_) => bail!("{} was not ready within {} s", self.name, START_WITHIN.as_secs()),
        }
        say(&format!("{} is ready ({:.1} s)", self.name, self.begun.elapsed().as_secs_f32()));
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it runs and has been ready since its last start.
    pub(super) fn is_ready(&self) -> bool {
        *self.state.borrow() == State::Ready
    }

    /// Begins to stop it, and does not wait for that.
    pub(super) fn begin_stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Whether nobody cares for it any more, although it was not given up: it was stopped.
    pub(super) fn is_over(&self) -> bool {
        self.task.is_finished() && !self.is_given_up()
    }

    /// Whether it has ended too often, without ever having been ready.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up_for().is_some()
    }

    /// How long ago it was given up.
    pub(super) fn given_up_for(&self) -> Option<Duration> {
        match *self.state.borrow() {
            State::GivenUp(at) => Some(at.elapsed()),
            State::Starting | State::Ready => None,
        }
    }

    /// Stops it in order, by force after its grace.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        // A join error means that the task panicked; its child has ended with it.
        let _ = self.task.await;
    }
}

struct Supervisor {
    name: String,
    child: Child,
    ready_url: Option<String>,
    client: reqwest::Client,
    ends: VecDeque<Instant>,
    /// Ever.
    was_ready: bool,
    state: watch::Sender<State>,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(mut self) {
        let stop = self.stop.clone();
        select! {
            () = stop.cancelled() => {}
            () = self.keep_running() => return,
        }
        if let Err(error) = self.child.stop().await {
            say(&format!("{} could not be stopped: {error}", self.name));
        }
    }

    /// Returns when the child is given up. May be dropped at any point.
    async fn keep_running(&mut self) {
        loop {
            let ended = self.until_ended().await;
            self.state.send_replace(State::Starting);
            self.report(&ended);
            if !self.start_again().await {
                say(&format!(
                    "{} is given up: it ended {ENDS_AT_START_MAX} times within a minute and was never ready",
                    self.name
                ));
                self.state.send_replace(State::GivenUp(Instant::now()));
                return;
            }
        }
    }

    async fn until_ended(&mut self) -> Result<ExitStatus, Error> {
        select! {
            ended = self.child.wait() => return ended,
            () = until_ready(&self.client, self.ready_url.as_deref()) => {}
        }
        self.was_ready = true;
        self.state.send_replace(State::Ready);
        self.child.wait().await
    }

    fn report(&self, ended: &Result<ExitStatus, Error>) {
        let how = ended.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        let name = &self.name;
        let Some(log) = self.child.log() else {
            return say(&format!("{name} ended unexpectedly ({how}); its last lines are above"));
        };
        let tail = last_lines(log, LOG_LINES_SHOWN);
        say(&format!("{name} ended unexpectedly ({how}); the last lines of {}:\n{tail}", log.display()));
    }

    /// Tries until it runs. False when it was never ready and has ended too often.
    async fn start_again(&mut self) -> bool {
        loop {
            let ends = self.count_end();
            if ends >= ENDS_AT_START_MAX && !self.was_ready {
                return false;
            }
            sleep(backoff(ends)).await;
            match self.child.restart().await {
                Ok(()) => break,
                Err(error) => say(&format!("{} could not be started again: {error:#}", self.name)),
            }
        }
        say(&format!("{} was started again", self.name));
        true
    }

    /// Counts one more end and returns the number of them within the last minute.
    fn count_end(&mut self) -> usize {
        let now = Instant::now();
        self.ends.push_back(now);
        self.ends.retain(|end| now.duration_since(*end) < ENDS_COUNTED_FOR);
        self.ends.len()
    }
}

async fn until_ready(client: &reqwest::Client, url: Option<&str>) {
    let Some(url) = url else { return };
    loop {
        let answer = client.get(url).timeout(READY_TIMEOUT).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        sleep(READY_POLL_INTERVAL).await;
    }
}

/// Doubles with each end within the last minute.
fn backoff(ends: usize) -> Duration {
    let doublings = u32::try_from(ends.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::child::Own;
    use super::super::folder::Folder;
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[test]
    fn a_member_that_keeps_ending_is_started_ever_more_slowly() {
        assert_eq!(backoff(1), BACKOFF_FIRST);
        assert_eq!(backoff(3), BACKOFF_FIRST * 4);
        assert_eq!(backoff(1000), BACKOFF_MAX);
    }

    #[tokio::test]
    async fn a_member_that_ends_is_started_again_until_it_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let mut command = Command::new("sh");
        // The first run ends, the second one stays.
        command
            .args(["-c", "echo started; test -e again && exec sleep 600; touch again"])
            .current_dir(dir.path());
        let own = Own::start("fickle", command, &folder).unwrap();
        let mut member = Member::supervise("fickle", Child::Own(Box::new(own)), None);
        member.until_ready().await.unwrap();

        let starts = || last_lines(&folder.log("fickle"), 10).matches("started").count();
        let started_twice = async {
            while starts() < 2 {
                sleep(READY_POLL_INTERVAL).await;
            }
        };
        timeout(DEADLINE, started_twice).await.expect("it is started again");
        timeout(DEADLINE, member.stop()).await.expect("it is stopped");
        assert_eq!(starts(), 2, "what was stopped is not started again");
    }
}
