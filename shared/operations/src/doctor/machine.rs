//! The machine and the build that this runs on: that of the services may be another.

use rustix::process::{Resource, getrlimit};

use super::{Finding, Judgement};

/// A producer or a worker holds a connection to each client, service and database server at work.
const OPEN_FILES_MIN: u64 = 4_096;

pub(super) fn examine() -> Vec<Finding> {
    let build = Judgement::ok(format!("orderfleet {}", env!("CARGO_PKG_VERSION")));
    vec![open_files(getrlimit(Resource::Nofile).current).of("open files"), build.of("build")]
}

fn open_files(limit: Option<u64>) -> Judgement {
    match limit {
        Some(limit) if limit < OPEN_FILES_MIN => Judgement::warning(
            format!("at most {limit} on this machine, for a process started here"),
            format!(
                "ulimit -n {OPEN_FILES_MIN} before a start by hand; LimitNOFILE={OPEN_FILES_MIN} in a systemd unit"
            ),
        ),
        Some(limit) => Judgement::ok(format!("at most {limit}")),
        None => Judgement::ok("no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn a_low_limit_of_open_files_is_warned_of() {
        assert_eq!(open_files(Some(1_024)).verdict, Verdict::Warning);
        assert_eq!(open_files(Some(4_096)).verdict, Verdict::Ok);
        assert_eq!(open_files(None).verdict, Verdict::Ok);
    }
}
