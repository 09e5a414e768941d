//! Which build this is: what dead letters say gave them up, and what workers tell about themselves.

use std::sync::LazyLock;

/// The version, and behind a `+` what was in `ORDERFLEET_BUILD` when this was compiled, such as a commit: `0.1.0+4c118f6`.
pub static NAME: LazyLock<String> = LazyLock::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("ORDERFLEET_BUILD") {
        Some(build) if !build.is_empty() => format!("{version}+{build}"),
        _ => version.to_owned(),
    }
});
