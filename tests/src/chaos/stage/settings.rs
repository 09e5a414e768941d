//! The settings file of the fleet under chaos: short timeouts and few attempts, so that orders end soon after a fault.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

use crate::SERVICES;

/// What all processes share; addresses that differ are given to each as flags.
pub(super) fn text(database: &str, mongodb_uri: &str, downstream: SocketAddr, keys_file: &Path) -> String {
    let keys_file = keys_file.display();
    let mut text = format!(
        "[broker]\nconfirm_timeout_ms = 1_500\npublish_connections = 1\n\
         [database]\nuri = '{mongodb_uri}'\nname = '{database}'\n\
         timeout_ms = 2_500\nwrite_concern_timeout_ms = 2_000\n\
         [telemetry]\nformat = 'json'\nlog = 'info'\n\
         [producer]\nkeys_file = '{keys_file}'\nrequest_timeout_ms = 4_000\n\
         [worker]\nroles = ['forward', 'compensate', 'sweep', 'park']\n\
         concurrency = 16\nprefetch = 16\nlease_s = 5\nsweep_every_s = 2\n\
         [query]\nkeys_file = '{keys_file}'\n"
    );
    for step in SERVICES {
        let _ = writeln!(
            text,
            "[[steps]]\nname = '{step}'\nurl = 'http://{downstream}/{step}/steps'\n\
             timeout_ms = 1_500\nattempts_max = 2\nquick_retries = 1"
        );
    }
    text
}
