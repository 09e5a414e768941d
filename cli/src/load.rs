//! `orderfleet load`: posts a shop export or generated orders, and follows them to their end.

mod country;
mod export;
mod generate;
mod options;
mod order;
mod post;
mod progress;
mod summary;
mod tally;
mod wait;

use std::cell::RefCell;
use std::process::ExitCode;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::exit;
use crate::output::Output;
pub(crate) use options::Args;
use post::Poster;
use progress::Progress;
use summary::Summary;
use tally::{Stopped, Tally};
use wait::Follower;

/// Runs the load and prints its summary; the exit code says how it went.
///
/// # Errors
/// When nothing could be started: no fleet or key is known, or the file cannot be read.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let invoices = args.invoices()?;
    let (pace, give_up) = (args.pace(), args.give_up());
    let fleet = args.endpoints.resolve()?;
    let producer = Client::new(&fleet.producer_url, &fleet.api_key)?;
    let query = if args.wait { Some(Client::new(fleet.query_url()?, &fleet.api_key)?) } else { None };

    let progress = Progress::new();
    let total = invoices.len();
    let mut drafts = Vec::with_capacity(total);
    for invoice in invoices {
        match invoice {
            Ok(draft) => drafts.push(draft),
            Err(why) => progress.error(&why),
        }
    }
    let unusable = (total - drafts.len()) as u64;
    let tally = RefCell::new(Tally::new(drafts.len() as u64, unusable, args.wait));

    let interrupted = CancellationToken::new();
    let (accepted, followed) = mpsc::unbounded_channel();
    let stop = interrupted.child_token();
    let poster = Poster { producer, give_up, tally: &tally, progress: &progress, accepted, stop };
    let follow = async {
        if let Some(query) = query {
            let stop = interrupted.clone();
            let follower =
                Follower { query, timeout: args.wait_timeout, tally: &tally, progress: &progress, stop };
            follower.run(followed).await;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(poster.run(drafts, pace), follow) } => {}
        never = progress.show(&tally) => match never {},
        never = listen_for_ctrl_c(&interrupted, &tally, &progress) => match never {},
    }
    progress.finish();

    let tally = tally.into_inner();
    let summary = Summary::new(&tally);
    output.print(&summary, &summary.table())?;
    explain(tally.stopped.as_ref());
    Ok(summary.exit_code(tally.stopped.as_ref()).into())
}

/// Once: nothing new is begun. Twice: leave at once.
async fn listen_for_ctrl_c(
    interrupted: &CancellationToken,
    tally: &RefCell<Tally>,
    progress: &Progress,
) -> std::convert::Infallible {
    loop {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        if interrupted.is_cancelled() {
            std::process::exit(exit::INTERRUPTED.into());
        }
        progress.note("stopping: waiting for requests on the way; Ctrl-C again leaves at once");
        tally.borrow_mut().stop(Stopped::Interrupted);
        interrupted.cancel();
    }
}

/// Says on stderr why the load ended early, and what to do.
fn explain(stopped: Option<&Stopped>) {
    match stopped {
        None => {}
        Some(Stopped::Interrupted) => {
            eprintln!(
                "interrupted: the same command again continues, without a second effect of orders already posted"
            );
        }
        Some(Stopped::Denied(why, _)) => {
            eprintln!("error: stopped, since no order would get through: {why}");
            eprintln!("next:  check the API key (ORDERFLEET_API_KEY, --api-key-file) and --producer-url");
        }
        Some(Stopped::Silent(why)) => {
            eprintln!("error: stopped, since no order got a final answer for the time of --give-up: {why}");
            eprintln!("next:  bring the producer and the broker back, then run the same command again");
        }
    }
}
