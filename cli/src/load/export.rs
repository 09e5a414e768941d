//! Reads a shop export in the UCI Online Retail format: a row is an order line, the rows of an InvoiceNo an order.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use anyhow::Context as _;
use csv::ByteRecord;
use flate2::bufread::MultiGzDecoder;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::country;
use super::order::{Channel, Draft, Line, Order, ShipTo};

const DESCRIPTION_CHARS_MAX: usize = 200;
const DATE_FORMATS: [&str; 4] =
    ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%m/%d/%Y %H:%M", "%Y-%m-%dT%H:%M:%S"];

/// What the file does not say.
pub(crate) struct Defaults {
    pub(crate) currency: String,
    /// Where the shop's clock stands.
    pub(crate) timezone: TimeZone,
    /// Goes before the InvoiceNo in the idempotency key.
    pub(crate) key_prefix: String,
}

/// An invoice as a draft, or why it cannot be written as a request (row and column).
pub(crate) type Invoice = Result<Draft, String>;

/// Reads the file, plain or gzip, and groups its rows; invoices in the order of their first row.
///
/// # Errors
/// When the file cannot be read to its end, is no CSV, or lacks a column.
pub(crate) fn read(path: &Path, defaults: &Defaults) -> anyhow::Result<Vec<Invoice>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut file = BufReader::new(file);
    let is_gzip =
        file.fill_buf().with_context(|| format!("reading {}", path.display()))?.starts_with(&[0x1f, 0x8b]);
    let text: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    parse(text, defaults).with_context(|| format!("reading {}", path.display()))
}

/// As [`read`], from text.
fn parse(text: impl Read, defaults: &Defaults) -> anyhow::Result<Vec<Invoice>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let columns = Columns::find(reader.byte_headers()?)?;
    let mut groups: Vec<Group> = Vec::new();
    let mut position: HashMap<String, usize> = HashMap::new();
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record)? {
        let row = Row {
            number: record.position().map_or(0, csv::Position::line),
            record: &record,
            columns: &columns,
        };
        let invoice = row.text(INVOICE_NO);
        let at = *position.entry(invoice).or_insert_with_key(|invoice| {
            groups.push(Group::start(invoice, &row, defaults));
            groups.len() - 1
        });
        groups[at].add(row.line());
    }
    Ok(groups.into_iter().map(|group| group.finish(defaults)).collect())
}

const INVOICE_NO: usize = 0;
const STOCK_CODE: usize = 1;
const DESCRIPTION: usize = 2;
const QUANTITY: usize = 3;
const INVOICE_DATE: usize = 4;
const UNIT_PRICE: usize = 5;
const CUSTOMER_ID: usize = 6;
const COUNTRY: usize = 7;
const NAMES: [&str; 8] = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
];

/// Where each of [`NAMES`] stands in this file.
struct Columns([usize; NAMES.len()]);

impl Columns {
    fn find(header: &ByteRecord) -> anyhow::Result<Self> {
        let found: Vec<String> = header.iter().map(decode).collect();
        let mut columns = [0; NAMES.len()];
        for (column, name) in columns.iter_mut().zip(NAMES) {
            let position = found.iter().position(|header| header.eq_ignore_ascii_case(name));
            *column = position.with_context(|| {
                format!("no column {name} in the header, which has: {}", found.join(", "))
            })?;
        }
        Ok(Self(columns))
    }
}

struct Row<'a> {
    number: u64,
    record: &'a ByteRecord,
    columns: &'a Columns,
}

impl Row<'_> {
    /// The trimmed field; empty when the row is too short.
    fn text(&self, column: usize) -> String {
        decode(self.record.get(self.columns.0[column]).unwrap_or_default())
    }

    /// As [`Self::text`], where nothing and `NaN` (a data frame's "nothing") are none.
    fn optional(&self, column: usize) -> Option<String> {
        Some(self.text(column)).filter(|text| !text.is_empty() && !text.eq_ignore_ascii_case("nan"))
    }

    fn fault(&self, column: usize, why: &str) -> String {
        format!("row {}, column {}: {:?} {why}", self.number, NAMES[column], self.text(column))
    }

    fn line(&self) -> Result<Line, String> {
        let quantity = self.text(QUANTITY);
        let unit_price = self.text(UNIT_PRICE);
        if !is_decimal(&unit_price) {
            return Err(self.fault(UNIT_PRICE, "is not a decimal number"));
        }
        Ok(Line {
            sku: self.text(STOCK_CODE),
            description: self
                .optional(DESCRIPTION)
                .map(|text| text.chars().take(DESCRIPTION_CHARS_MAX).collect()),
            quantity: whole(&quantity).parse().map_err(|_| self.fault(QUANTITY, "is not a whole number"))?,
            unit_price,
        })
    }

    fn placed_at(&self, timezone: &TimeZone) -> Result<Option<Timestamp>, String> {
        let Some(text) = self.optional(INVOICE_DATE) else { return Ok(None) };
        let local = DATE_FORMATS.iter().find_map(|format| DateTime::strptime(format, &text).ok());
        let instant = local.and_then(|local| local.to_zoned(timezone.clone()).ok());
        let instant = instant.ok_or_else(|| self.fault(INVOICE_DATE, "is not a date and time"))?;
        Ok(Some(instant.timestamp()))
    }
}

/// The rows of one invoice; customer, date and country are those of its first row.
struct Group {
    invoice: String,
    customer_ref: Option<String>,
    country: Option<String>,
    placed_at: Option<Timestamp>,
    lines: Vec<Line>,
    fault: Option<String>,
}

impl Group {
    fn start(invoice: &str, row: &Row<'_>, defaults: &Defaults) -> Self {
        let (placed_at, mut fault) = match row.placed_at(&defaults.timezone) {
            Ok(placed_at) => (placed_at, None),
            Err(fault) => (None, Some(fault)),
        };
        if invoice.is_empty() || !invoice.bytes().all(|byte| byte.is_ascii_graphic()) {
            fault = Some(row.fault(INVOICE_NO, "cannot be part of an idempotency key"));
        }
        Self {
            invoice: invoice.to_owned(),
            customer_ref: row.optional(CUSTOMER_ID).map(|id| whole(&id).to_owned()),
            country: row.optional(COUNTRY),
            placed_at,
            lines: Vec::new(),
            fault,
        }
    }

    fn add(&mut self, line: Result<Line, String>) {
        match line {
            Ok(line) => self.lines.push(line),
            Err(fault) => _ = self.fault.get_or_insert(fault),
        }
    }

    fn finish(self, defaults: &Defaults) -> Invoice {
        if let Some(fault) = self.fault {
            return Err(format!("invoice {:?} not posted: {fault}", self.invoice));
        }
        let code = self.country.as_deref().and_then(country::alpha2);
        let unmapped = self.country.filter(|_| code.is_none()).map(|name| ("country".to_owned(), name));
        Ok(Draft {
            key: format!("{}{}", defaults.key_prefix, self.invoice),
            is_return: self.invoice.starts_with('C'),
            placed_at: self.placed_at,
            order: Order {
                channel: Channel::of(self.customer_ref.as_deref(), &self.lines),
                customer_ref: self.customer_ref,
                currency: defaults.currency.clone(),
                payment_ref: format!("pay_{}", self.invoice),
                ship_to: ShipTo { country: code },
                placed_at: self.placed_at.map(|instant| instant.to_string()),
                lines: self.lines,
                metadata: unmapped.into_iter().collect::<BTreeMap<_, _>>(),
            },
        })
    }
}

/// UTF-8, else Latin-1, which spreadsheets still write; without surrounding space.
fn decode(field: &[u8]) -> String {
    let text = std::str::from_utf8(field)
        .map_or_else(|_| field.iter().copied().map(char::from).collect(), str::to_owned);
    text.trim().to_owned()
}

/// Only the form: how many digits are too many is the producer's to say.
fn is_decimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole.strip_prefix('-').unwrap_or(whole)) && digits(fraction)
}

/// `17850` of `17850.0`: data frames write a column that has gaps as floats.
fn whole(text: &str) -> &str {
    text.strip_suffix(".0").unwrap_or(text)
}

#[cfg(test)]
mod tests;
