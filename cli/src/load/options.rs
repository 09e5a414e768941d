//! The flags of `orderfleet load`.

use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::export::{self, Defaults, Invoice};
use super::generate;
use super::post::Pace;
use crate::endpoints::EndpointArgs;

const EXAMPLES: &str = "\
Examples:
  orderfleet load 2010-12.csv.gz --wait
  orderfleet load 2010-12.csv.gz --speed 600 --output json
  orderfleet load --generate 1000 --seed 7

The idempotency key of an order is derived from its invoice number: posting a file again has no second effect.";

/// Post a shop export, or generated orders, and show how it went
///
/// FILE is a CSV, plain or gzip, in the UCI Online Retail format: columns InvoiceNo, StockCode, Description, Quantity,
/// InvoiceDate, UnitPrice, CustomerID and Country, found by name. The rows of an InvoiceNo are one order; a known
/// customer with 100 units or more is wholesale. Bad orders are posted as they are: the producer refuses them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    speed: Speed,
    /// Follow every accepted order until it is DONE, UNDONE or HELD
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to follow them after the last one was posted
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(crate) wait_timeout: Duration,
    #[command(flatten)]
    pub(crate) endpoints: EndpointArgs,
}

#[derive(Debug, clap::Args)]
struct Source {
    /// Shop export, .csv or .csv.gz
    #[arg(required_unless_present = "generate", conflicts_with = "generate")]
    file: Option<PathBuf>,
    /// Make this many plausible orders instead of reading a file
    #[arg(long, value_name = "N")]
    generate: Option<usize>,
    /// The same seed makes the same orders, with the same keys
    #[arg(long, value_name = "S", default_value_t = 1, requires = "generate")]
    seed: u64,
    /// Only the first N orders
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Goes before the invoice number in the idempotency key; another one makes new orders
    /// [default: invoice-, or generated-SEED-]
    #[arg(long, value_name = "TEXT", value_parser = key_prefix)]
    key_prefix: Option<String>,
    /// ISO 4217 code the prices are in
    #[arg(long, value_name = "CODE", default_value = "GBP")]
    currency: String,
    /// Where the shop's clock stands
    #[arg(long, value_name = "ZONE", default_value = "Europe/London", value_parser = timezone)]
    timezone: TimeZone,
}

#[derive(Debug, clap::Args)]
struct Speed {
    /// Closed loop: this many requests at a time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    concurrency: usize,
    /// Open loop: at the orders' own times, X times faster (600: ten hours in a minute);
    /// latencies count from the scheduled time
    #[arg(long, value_name = "X", conflicts_with = "concurrency", value_parser = speed)]
    speed: Option<f64>,
    /// Open loop: at most this many orders without an answer; further ones are late
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "speed", value_parser = at_least_one)]
    outstanding_max: usize,
    /// How long to repeat an order that gets no final answer
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    give_up: Duration,
}

impl Args {
    /// The orders to post.
    ///
    /// # Errors
    /// When the file cannot be read or is not in the format.
    pub(crate) fn invoices(&self) -> anyhow::Result<Vec<Invoice>> {
        let source = &self.source;
        let limit = source.limit.unwrap_or(usize::MAX);
        let mut invoices: Vec<Invoice> = match (&source.file, source.generate) {
            (Some(file), _) => export::read(file, &source.defaults())?,
            (None, count) => {
                let count = count.unwrap_or_default().min(limit);
                let key_prefix = source.key_prefix.as_deref();
                let drafts = generate::orders(count, source.seed, &source.currency, key_prefix);
                drafts.into_iter().map(Ok).collect()
            }
        };
        invoices.truncate(limit);
        Ok(invoices)
    }

    pub(crate) fn pace(&self) -> Pace {
        match self.speed.speed {
            Some(speed) => Pace::Open { speed, outstanding_max: self.speed.outstanding_max },
            None => Pace::Closed { concurrency: self.speed.concurrency },
        }
    }

    pub(crate) fn give_up(&self) -> Duration {
        self.speed.give_up
    }
}

impl Source {
    fn defaults(&self) -> Defaults {
        Defaults {
            currency: self.currency.clone(),
            timezone: self.timezone.clone(),
            key_prefix: self.key_prefix.clone().unwrap_or_else(|| "invoice-".to_owned()),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text.parse().map_err(|_| "write it like 30s, 5m or 1h".to_owned())?;
    Duration::try_from(duration).map_err(|_| "a time cannot be negative".to_owned())
}

fn timezone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| "no such time zone; write it like Europe/London".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed: &f64| speed.is_finite() && *speed > 0.0);
    speed.ok_or_else(|| "a number above 0".to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "a whole number above 0".to_owned())
}

fn key_prefix(text: &str) -> Result<String, String> {
    let usable = text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic());
    usable.then(|| text.to_owned()).ok_or_else(|| "at most 128 visible ASCII characters".to_owned())
}
