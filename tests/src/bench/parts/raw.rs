//! Broker and database by themselves: one operation, over and over.

use serde::Deserialize;

use crate::{
    Member,
    bench::{Line, run::Bench},
};

const PART: &str = "raw";

#[derive(Deserialize)]
struct Done {
    count: u32,
    seconds: f64,
}

/// Publishes with confirm, inserts and updates singly and in groups.
///
/// # Errors
/// When a bare process fails.
pub(in crate::bench) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let single = ["--group", "1", "--flights", "64", "--outstanding", "64"];
    let grouped = ["--group", "100", "--flights", "2", "--outstanding", "256"];
    let write = |kind, how: [&'static str; 6]| [&["--kind", kind][..], &how].concat();
    let limits = [
        ("publish to a quorum queue, confirmed", "publish", Vec::new()),
        ("insert, one a command, 64 at once", "write", write("insert", single)),
        ("insert, up to 100 a command, 2 at once", "write", write("insert", grouped)),
        ("update, one a command, 64 at once", "write", write("update", single)),
        ("update, up to 100 a command, 2 at once", "write", write("update", grouped)),
    ];
    let bodies = bench.small.file().display().to_string();
    let seconds = bench.options.load_seconds().to_string();
    let mut rates = vec![Vec::new(); limits.len()];
    for _ in 0..bench.options.rounds {
        for ((what, mode, arguments), rates) in limits.iter().zip(&mut rates) {
            let arguments = [&["--bodies", &bodies, "--seconds", &seconds][..], arguments].concat();
            let rate = rate(bench.stage.bare(mode, &arguments)).await;
            bench.say(format!("{PART}: {what} {rate:.0}/s"));
            rates.push(rate);
            bench.stage.clear_bare().await?;
        }
    }
    for ((what, ..), rates) in limits.iter().zip(&rates) {
        bench.line(Line::new(PART, *what, "1/s", rates, &[]));
    }
    Ok(())
}

/// What a bare process says in the end; it is killed then.
async fn rate(mut process: Member) -> f64 {
    let Done { count, seconds } =
        process.logged("what it has done", |line| serde_json::from_str(line).ok()).await;
    process.kill().await;
    f64::from(count) / seconds
}
