//! SIGTERM and SIGINT: the first asks to drain, the second leaves at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that was interrupted twice.
const INTERRUPTED: i32 = 130;

/// A token that is cancelled by the first SIGTERM or SIGINT. The second one ends the process at once with code 130:
/// whatever is in hand is delivered again by the broker.
///
/// # Errors
/// The signal handlers cannot be installed.
pub fn shutdown() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                tracing::info!("draining; a second signal ends the process at once");
                cancelled.cancel();
            } else {
                std::process::exit(INTERRUPTED);
            }
        }
    });
    Ok(token)
}
