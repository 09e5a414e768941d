//! Made-up rows in the format of the export.

use std::io::Write as _;

use super::*;

const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

fn defaults() -> Defaults {
    Defaults {
        currency: "GBP".to_owned(),
        timezone: TimeZone::get("Europe/London").unwrap(),
        key_prefix: "invoice-".to_owned(),
    }
}

fn invoices(rows: &str) -> Vec<Invoice> {
    parse(format!("{HEADER}{rows}").as_bytes(), &defaults()).unwrap()
}

fn only(rows: &str) -> Draft {
    let mut invoices = invoices(rows);
    assert_eq!(invoices.len(), 1);
    invoices.remove(0).unwrap()
}

#[test]
fn an_invoice_becomes_an_order() {
    let draft = only("1,MUG-1,BLUE MUG,6,2010-12-01 08:26:00,2.50,17850.0,United Kingdom\n");
    assert_eq!(draft.key, "invoice-1");
    assert_eq!(
        serde_json::to_value(&draft.order).unwrap(),
        serde_json::json!({
            "customer_ref": "17850",
            "channel": "retail",
            "currency": "GBP",
            "payment_ref": "pay_1",
            "ship_to": {"country": "GB"},
            "placed_at": "2010-12-01T08:26:00Z",
            "lines": [{"sku": "MUG-1", "description": "BLUE MUG", "quantity": 6, "unit_price": "2.50"}],
        })
    );
}

#[test]
fn rows_of_an_invoice_need_not_be_adjacent_and_the_order_of_first_rows_is_kept() {
    let found = invoices(
        "7,A,,1,2010-12-01 09:00:00,1.00,,France\n\
         5,B,,1,2010-12-01 09:00:00,1.00,,France\n\
         7,C,,1,2010-12-01 09:00:00,1.00,,France\n",
    );
    let shape: Vec<_> = found
        .iter()
        .map(|draft| draft.as_ref().unwrap())
        .map(|draft| {
            (draft.key.as_str(), draft.order.lines.iter().map(|line| line.sku.as_str()).collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(shape, [("invoice-7", vec!["A", "C"]), ("invoice-5", vec!["B"])]);
}

#[test]
fn prices_keep_their_exact_text() {
    for price in ["2.5", "2.50", "0.001", "0", "12345678901234567.89", "-3.10"] {
        assert_eq!(
            only(&format!("1,A,,1,2010-12-01 09:00:00,{price},,Spain\n")).order.lines[0].unit_price,
            price
        );
    }
}

#[test]
fn bad_orders_are_passed_on_as_they_are() {
    let draft = only("C9,A,,-3,2010-12-01 09:00:00,0.0,,Spain\n");
    assert!(draft.is_return);
    assert_eq!(draft.order.lines[0].quantity, -3);
}

#[test]
fn local_summer_time_becomes_utc() {
    let draft = only("1,A,,1,7/1/2011 8:26,1.00,,Spain\n");
    assert_eq!(draft.order.placed_at.as_deref(), Some("2011-07-01T07:26:00Z"));
}

#[test]
fn a_place_that_is_no_country_is_kept_in_metadata() {
    let order = only("1,A,,1,2010-12-01 09:00:00,1.00,,Channel Islands\n").order;
    assert_eq!(order.ship_to.country, None);
    assert_eq!(order.metadata["country"], "Channel Islands");
}

#[test]
fn many_units_of_a_known_customer_are_wholesale() {
    let channel = |customer: &str, units: i64| {
        only(&format!("1,A,,{units},2010-12-01 09:00:00,1.00,{customer},Spain\n")).order.channel
    };
    assert_eq!(channel("1.0", 100), Channel::Wholesale);
    assert_eq!(channel("1.0", 99), Channel::Retail);
    assert_eq!(channel("", 100), Channel::Retail);
}

#[test]
fn empty_descriptions_are_left_out_and_long_ones_cut() {
    let description = |text: &str| {
        only(&format!("1,A,{text},1,2010-12-01 09:00:00,1.00,,Spain\n")).order.lines.remove(0).description
    };
    assert_eq!(description("  "), None);
    assert_eq!(description("NaN"), None);
    assert_eq!(description(&"£".repeat(300)), Some("£".repeat(200)));
}

#[test]
fn what_cannot_be_a_request_names_row_and_column() {
    let found = invoices(
        "1,A,,1,2010-12-01 09:00:00,1.00,,Spain\n\
         2,A,,many,2010-12-01 09:00:00,1.00,,Spain\n\
         3,A,,1,2010-12-01 09:00:00,1e400,,Spain\n\
         4,A,,1,yesterday,1.00,,Spain\n",
    );
    assert!(found[0].is_ok());
    for (invoice, expected) in found[1..].iter().zip([
        "row 3, column Quantity: \"many\" is not a whole number",
        "row 4, column UnitPrice: \"1e400\" is not a decimal number",
        "row 5, column InvoiceDate: \"yesterday\" is not a date and time",
    ]) {
        let fault = invoice.as_ref().unwrap_err();
        assert!(fault.contains(expected), "{fault}");
    }
}

#[test]
fn a_missing_column_is_named_with_what_was_found() {
    let error = parse("InvoiceNo,Price\n1,2\n".as_bytes(), &defaults()).unwrap_err().to_string();
    assert_eq!(error, "no column StockCode in the header, which has: InvoiceNo, Price");
}

#[test]
fn columns_are_found_by_name_in_any_order() {
    let text = "Country,CustomerID,UnitPrice,InvoiceDate,Quantity,Description,StockCode,InvoiceNo\n\
                Italy,5.0,1.25,2010-12-01 09:00:00,2,,A,1\n";
    let draft = parse(text.as_bytes(), &defaults()).unwrap().remove(0).unwrap();
    assert_eq!((draft.order.lines[0].unit_price.as_str(), draft.order.ship_to.country), ("1.25", Some("IT")));
}

#[test]
fn latin_1_and_gzip_are_read() {
    let mut text = HEADER.as_bytes().to_vec();
    text.extend_from_slice(b"1,A,\xa3 SIGN,1,2010-12-01 09:00:00,1.00,,Spain\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.csv.gz");
    let mut gzip = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
    gzip.write_all(&text).unwrap();
    gzip.finish().unwrap();
    let draft = read(&path, &defaults()).unwrap().remove(0).unwrap();
    assert_eq!(draft.order.lines[0].description.as_deref(), Some("£ SIGN"));
}
