//! One connection through a link, from its acceptance to its end.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use super::evidence::Witness;
use super::fault::{Direction, Fault};
use super::link::{Link, Setting};
use super::pump::{Cut, Pump};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries a connection until both directions have ended or it is reset. Dropped half-way, it closes both
/// ends.
pub(super) async fn serve(link: &Link, client: TcpStream) {
    let mut setting = link.watch();
    let Setting { fault, resets, .. } = *setting.borrow();
    if fault == Some(Fault::Reset {}) {
        link.evidence.count("reset", 1, 0);
        return reset([client]);
    }
    // Never given up half-way: the target may have accepted already, and would read an end instead of a
    // reset.
    let Some(target) = connect(link).await else {
        return reset([client]);
    };
    let mut ends = [client, target];
    let carried = setting.clone();
    let is_struck = |now: &Setting| now.resets != resets || now.fault == Some(Fault::Reset {});
    let outcome = tokio::select! {
        biased;
        Ok(_) = setting.wait_for(is_struck) => {
            link.evidence.count("reset", 1, 0);
            Err(Cut)
        }
        outcome = carry(link, &mut ends, carried) => outcome,
    };
    if let Err(Cut) = outcome {
        reset(ends);
    }
}

async fn carry(
    link: &Link,
    [client, target]: &mut [TcpStream; 2],
    setting: watch::Receiver<Setting>,
) -> Result<(), Cut> {
    for end in [&*client, &*target] {
        if let Err(error) = end.set_nodelay(true) {
            debug!(%error, "cannot switch off Nagle's algorithm");
        }
    }
    let witness = Witness::new(&link.evidence);
    let (from_client, to_client) = client.split();
    let (from_target, to_target) = target.split();
    let up = Pump::new(Direction::Up, (from_client, to_target), setting.clone(), &witness, &link.bytes_up);
    let down = Pump::new(Direction::Down, (from_target, to_client), setting, &witness, &link.bytes_down);
    tokio::try_join!(up.run(), down.run()).map(|_| ())
}

/// Connects to the target. A client whose target cannot be reached is to be reset, the nearest thing to a
/// refusal for somebody who has already been accepted.
async fn connect(link: &Link) -> Option<TcpStream> {
    let problem = match timeout(CONNECT_TIMEOUT, TcpStream::connect(link.target())).await {
        Ok(Ok(target)) => return Some(target),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it did not answer in time".to_owned(),
    };
    link.note_unreachable(&problem);
    None
}

/// Closes these ends in such a way that their peers see a reset instead of the end of a stream.
fn reset(ends: impl IntoIterator<Item = TcpStream>) {
    for end in ends {
        if let Err(error) = end.set_zero_linger() {
            debug!(%error, "an end is closed but not reset");
        }
    }
}
