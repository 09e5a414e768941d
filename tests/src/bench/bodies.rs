//! Bodies of orders to post: small ones, generated ones of a wholesaler's size, or those of a shop's export.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use csv::StringRecord;
use fastrand::Rng;
use flate2::bufread::MultiGzDecoder;
use orderfleet_domain::Order;
use serde_json::{Value, json};

const SMALL_LINES: usize = 3;
/// Different bodies of generated orders; they come again after that.
const GENERATED: usize = 256;
/// One more line in 15 of 16 cases: a median of ten.
const MORE_LINES_OF_16: u32 = 15;
const LINES_MAX: usize = 200;

/// Bodies that are posted one after the other, again and again, each time under another key.
#[derive(Debug)]
pub(super) struct Bodies {
    /// What they are, for the report.
    pub(super) name: &'static str,
    /// Lines of an order, in the middle.
    pub(super) lines_median: usize,
    texts: Vec<Bytes>,
    file: PathBuf,
}

impl Bodies {
    /// Orders of three lines.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(super) fn small(folder: &Path) -> anyhow::Result<Self> {
        let mut rng = Rng::with_seed(1);
        let orders = (0..GENERATED).map(|number| generated(&mut rng, number, SMALL_LINES)).collect();
        Self::new("small", orders, folder)
    }

    /// Orders of ten lines in the middle, with a long tail.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(super) fn generated(folder: &Path) -> anyhow::Result<Self> {
        let mut rng = Rng::with_seed(2);
        let lines = |rng: &mut Rng| (1..LINES_MAX).take_while(|_| rng.u32(0..16) < MORE_LINES_OF_16).count();
        let order = |number| {
            let lines = 1 + lines(&mut rng);
            generated(&mut rng, number, lines)
        };
        Self::new("generated", (0..GENERATED).map(order).collect(), folder)
    }

    /// The orders of a shop's export, in the format of `orderfleet load`, that a producer accepts.
    ///
    /// # Errors
    /// When the file cannot be read or holds none.
    pub(super) fn of_file(file: &Path, folder: &Path) -> anyhow::Result<Self> {
        let orders = read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::new("file", orders, folder).with_context(|| file.display().to_string())
    }

    fn new(name: &'static str, orders: Vec<Value>, folder: &Path) -> anyhow::Result<Self> {
        let lines = |order: &Value| order["lines"].as_array().map_or(0, Vec::len);
        let is_valid = |order: &Value| serde_json::from_value::<Order>(order.clone()).is_ok();
        let orders: Vec<_> = orders.into_iter().filter(is_valid).collect();
        ensure!(!orders.is_empty(), "no order that a producer would accept");
        let mut sizes: Vec<_> = orders.iter().map(lines).collect();
        sizes.sort_unstable();
        let texts: Vec<_> = orders.iter().map(Value::to_string).collect();
        let file = folder.join(format!("bodies-{name}.jsonl"));
        fs::write(&file, texts.join("\n")).with_context(|| format!("cannot write {}", file.display()))?;
        let texts = texts.into_iter().map(Bytes::from).collect();
        Ok(Self { name, lines_median: sizes[sizes.len() / 2], texts, file })
    }

    /// The body of the order of this number.
    pub(super) fn of(&self, number: u32) -> Bytes {
        self.texts[number as usize % self.texts.len()].clone()
    }

    /// All of them, one a line.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

fn generated(rng: &mut Rng, number: usize, lines: usize) -> Value {
    let line = |rng: &mut Rng| {
        let sku = format!("GEN{:04}", rng.u32(0..1_000));
        let price = format!("{}.{:02}", rng.u32(0..20), rng.u32(1..100));
        json!({ "sku": sku, "description": "White hanging lantern", "quantity": rng.u32(1..=24), "unit_price": price })
    };
    let lines: Vec<_> = (0..lines).map(|_| line(rng)).collect();
    order(&format!("pay_{number}"), Some("17850"), "United Kingdom", "2010-12-01T08:26:00Z", &lines)
}

fn order(payment: &str, customer: Option<&str>, country: &str, placed_at: &str, lines: &[Value]) -> Value {
    let mut order = json!({
        "channel": "retail", "currency": "GBP", "payment_ref": payment, "ship_to": {},
        "placed_at": placed_at, "lines": lines,
    });
    if country == "United Kingdom" {
        order["ship_to"]["country"] = "GB".into();
    }
    if let Some(customer) = customer {
        order["customer_ref"] = customer.into();
    }
    order
}

/// The invoices of an export, good or bad, in the order of their first row.
fn read(path: &Path) -> anyhow::Result<Vec<Value>> {
    let mut file = BufReader::new(File::open(path)?);
    let is_gzip = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let text: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let (mut orders, mut places) = (Vec::<Value>::new(), HashMap::new());
    for row in reader.byte_records() {
        let row = StringRecord::from_byte_record_lossy(row?);
        let field = |column| row.get(column).unwrap_or_default().trim();
        let line = json!({
            "sku": field(1), "description": field(2),
            "quantity": field(3).parse::<i64>().unwrap_or_default(), "unit_price": field(5),
        });
        let place = *places.entry(field(0).to_owned()).or_insert_with(|| {
            let customer = Some(field(6).trim_end_matches(".0")).filter(|customer| !customer.is_empty());
            let placed_at = format!("{}Z", field(4).replace(' ', "T"));
            orders.push(order(&format!("pay_{}", field(0)), customer, field(7), &placed_at, &[]));
            orders.len() - 1
        });
        if let Some(lines) = orders[place]["lines"].as_array_mut() {
            lines.push(line);
        }
    }
    Ok(orders)
}

#[cfg(test)]
mod tests {
    use orderfleet_native::TempFolder;

    use super::*;

    #[test]
    fn generated_orders_are_accepted_and_as_large_as_they_should_be() {
        let folder = TempFolder::new().unwrap();
        let small = Bodies::small(folder.path()).unwrap();
        assert_eq!((small.lines_median, small.texts.len()), (3, GENERATED));
        let generated = Bodies::generated(folder.path()).unwrap();
        assert!((8..=13).contains(&generated.lines_median), "{}", generated.lines_median);
        assert_eq!(generated.of(0), generated.of(u32::try_from(GENERATED).unwrap()));
    }

    #[test]
    fn an_export_gives_the_orders_that_a_producer_accepts() {
        let folder = TempFolder::new().unwrap();
        let file = folder.path().join("export.csv");
        let rows = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n\
                    1,A,LANTERN,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n\
                    1,B,MUG,2,2010-12-01 08:26:00,1.25,17850.0,United Kingdom\n\
                    C2,A,LANTERN,-6,2010-12-01 08:27:00,2.55,17850.0,United Kingdom\n";
        fs::write(&file, rows).unwrap();
        let bodies = Bodies::of_file(&file, folder.path()).unwrap();
        assert_eq!((bodies.texts.len(), bodies.lines_median), (1, 2), "a return is no order");
    }
}
