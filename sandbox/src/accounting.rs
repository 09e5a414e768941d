//! Accounting: double-entry bookkeeping of order totals. Entries are reversed, never deleted.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::call::{Refusal, StepInstance, Verb};
use crate::order::DoRequest;
use crate::service::Effects;

/// Once a currency's orders come to this much, no more are booked: reversals may double the sums, and beyond
/// twice this bound a [`Decimal`] with 4 decimals would start to round.
const BOOKED_MAX: u128 = 3_500_000_000_000_000_000_000_000;

/// The books: what was debited and credited, by account and currency.
#[derive(Default)]
pub(crate) struct Accounting {
    books: BTreeMap<(LedgerAccount, String), Sides>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "account")]
enum LedgerAccount {
    /// What a shop's account owes.
    Receivable(String),
    Revenue,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Sides {
    #[serde(with = "rust_decimal::serde::str")]
    debits: Decimal,
    #[serde(with = "rust_decimal::serde::str")]
    credits: Decimal,
}

/// One order's total.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Booking {
    account: String,
    currency: String,
    #[serde(with = "rust_decimal::serde::str")]
    total: Decimal,
}

/// An account's balance in one currency: debits less credits for a receivable, the reverse for revenue.
#[derive(Serialize)]
struct Balance {
    #[serde(flatten)]
    account: LedgerAccount,
    currency: String,
    #[serde(flatten)]
    sides: Sides,
    #[serde(with = "rust_decimal::serde::str")]
    balance: Decimal,
}

impl Accounting {
    /// Every account's balance per currency, and the totals that must be equal.
    pub(crate) fn accounts(&self) -> Value {
        let balances = self.books.iter().map(|((account, currency), sides)| Balance {
            account: account.clone(),
            currency: currency.clone(),
            sides: *sides,
            balance: account.balance(sides),
        });
        json!({ "accounts": balances.collect::<Vec<_>>(), "totals": self.totals_by_currency() })
    }

    fn totals_by_currency(&self) -> BTreeMap<&str, Sides> {
        let mut totals = BTreeMap::<&str, Sides>::new();
        for ((_, currency), sides) in &self.books {
            let total = totals.entry(currency).or_default();
            total.debits += sides.debits;
            total.credits += sides.credits;
        }
        totals
    }

    fn sides(&mut self, account: LedgerAccount, currency: &str) -> &mut Sides {
        self.books.entry((account, currency.to_owned())).or_default()
    }
}

impl LedgerAccount {
    fn balance(&self, sides: &Sides) -> Decimal {
        match self {
            Self::Receivable(_) => sides.debits - sides.credits,
            Self::Revenue => sides.credits - sides.debits,
        }
    }
}

impl Effects for Accounting {
    type Amounts = Booking;

    const NAME: &'static str = "accounting";

    fn judge(&self, request: &DoRequest) -> Result<Booking, Refusal> {
        let currency = request.order.currency.clone();
        let total = request.order.total();
        let revenue = self.books.get(&(LedgerAccount::Revenue, currency.clone()));
        let booked = revenue.map_or(Decimal::ZERO, |sides| sides.credits);
        if booked + total > Decimal::from(BOOKED_MAX) {
            return Err(Refusal::new(
                "books_full",
                format!("no further {currency} total can be booked exactly"),
            ));
        }
        Ok(Booking { account: request.account.clone(), currency, total })
    }

    fn apply(&mut self, _: &StepInstance, booking: &Booking) {
        let Booking { account, currency, total } = booking;
        self.sides(LedgerAccount::Receivable(account.clone()), currency).debits += total;
        self.sides(LedgerAccount::Revenue, currency).credits += total;
    }

    fn revert(&mut self, _: &StepInstance, booking: &Booking) {
        let Booking { account, currency, total } = booking;
        self.sides(LedgerAccount::Revenue, currency).debits += total;
        self.sides(LedgerAccount::Receivable(account.clone()), currency).credits += total;
    }

    fn result(verb: Verb, booking: &Booking) -> Value {
        let Booking { currency, total, .. } = booking;
        match verb {
            Verb::Do => json!({ "booked": total.to_string(), "currency": currency }),
            Verb::Undo => json!({ "reversed": total.to_string(), "currency": currency }),
        }
    }

    fn totals(&self) -> Map<String, Value> {
        let mut receivable = BTreeMap::<&str, Decimal>::new();
        for ((account, currency), sides) in &self.books {
            if matches!(account, LedgerAccount::Receivable(_)) {
                *receivable.entry(currency).or_default() += account.balance(sides);
            }
        }
        let receivable =
            receivable.into_iter().map(|(currency, sum)| (currency.to_owned(), sum.to_string().into()));
        Map::from_iter([("receivable".to_owned(), Value::Object(receivable.collect()))])
    }
}
