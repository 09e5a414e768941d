//! Workers of a fleet that are stopped, told to misbehave, or looked at.

use std::time::Duration;

use orderfleet_native::Signal;

use super::{Fleet, WORKER};
use crate::{Answer, Member, member::program, proc};

impl Fleet {
    /// Starts one more worker with these variables in its environment. It may be dead before it is ready, so nothing is
    /// waited for.
    #[must_use]
    pub fn start_worker_with(&self, name: &str, variables: &[(&str, &str)]) -> Member {
        let mut command = self.command(WORKER, &[]);
        command.envs(variables.iter().copied());
        Member::start(self.folder.path(), name, &command)
    }

    /// SIGSTOP for all workers that run; returns their process ids once the kernel shows them stopped.
    ///
    /// # Panics
    /// When it does not.
    pub async fn freeze_workers(&mut self) -> Vec<u32> {
        for worker in &mut self.workers {
            worker.signal(Signal::Stop);
        }
        let pids = self.worker_pids();
        for pid in &pids {
            proc::until_state(*pid, 'T').await.unwrap();
        }
        pids
    }

    /// Processor time that the workers that run have used so far, all together.
    ///
    /// # Panics
    /// When `/proc` cannot be read.
    #[must_use]
    pub fn computed_by_workers(&self) -> Duration {
        self.worker_pids().into_iter().filter_map(proc::computed).sum()
    }

    /// The sum of a worker's metrics whose line in `/metrics` begins with `name` and holds `label`.
    ///
    /// # Panics
    /// When the worker does not answer.
    pub async fn metric(&self, worker: usize, name: &str, label: &str) -> f64 {
        let url = format!("{}/metrics", self.worker_admins[worker]);
        let answer = self.client.http.get(url).send().await.unwrap();
        let metrics = Answer::read(answer).await.unwrap().text;
        let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// The process ids of the workers that run.
    fn worker_pids(&self) -> Vec<u32> {
        let config = self.folder.path().join("orderfleet.toml").display().to_string();
        proc::pids(&program(WORKER), &config).unwrap()
    }
}
