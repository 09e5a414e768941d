//! A check from its settings to its report.

use std::pin::Pin;
use std::time::Duration;

use orderfleet_domain::{AccountId, Order, StepName};
use serde_json::json;

use super::{
    address::ServiceUrl,
    answer::Meaning,
    call::Call,
    checks,
    headers::Headers,
    masks::Masks,
    order_ids::OrderIds,
    plan::Plan,
    report::{Counts, Progress, Report},
    service::Service,
    suite::Suite,
};

/// What is checked, and with what.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The service.
    pub url: ServiceUrl,
    /// The account that the calls name.
    pub account: AccountId,
    /// The step that the calls name.
    pub step: StepName,
    /// An order that the service accepts, over and over.
    pub order: Order,
    /// An order that the service refuses; without it, refusals are not checked.
    pub refused: Option<Order>,
    /// Headers that every call carries.
    pub headers: Headers,
    /// After this time a call counts as not answered.
    pub timeout: Duration,
    /// How often a do is raced with its undo.
    pub races: u32,
}

/// Who is told how a check goes.
pub type Tell<'a> = &'a (dyn Fn(Progress<'_>) + Sync);

/// Ends when the service was restarted, with `false` if that will not happen. It is polled when the check is ready for it.
pub type Restarted = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A check that has not begun.
pub struct Check {
    settings: Settings,
    service: Service,
    order_ids: OrderIds,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No HTTP client could be made.
    #[error("cannot set up an HTTP client")]
    Client(#[source] reqwest::Error),
    /// The very first call, a look, found no connection. Nothing was done.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// Base URL of the service.
        url: String,
        /// What the network said.
        why: String,
    },
}

impl Check {
    /// Prepares a check under order ids that no other check has. Opens no connection yet.
    ///
    /// # Errors
    /// No HTTP client could be made, for example since the machine has no CA certificates.
    pub fn new(settings: Settings) -> Result<Self, CheckError> {
        let orders = [Some(&settings.order), settings.refused.as_ref()].into_iter().flatten();
        let masks = Masks::new(&settings.headers, orders);
        let service = Service::new(settings.url.clone(), &settings.headers, settings.timeout, masks)
            .map_err(CheckError::Client)?;
        let order_ids = OrderIds::new(&settings.account);
        Ok(Self { settings, service, order_ids })
    }

    /// What [`Check::run`] will do; `restart` tells whether it will be given something to wait for.
    #[must_use]
    pub fn plan(&self, restart: bool) -> Plan {
        Plan::new(&self.settings, self.order_ids.prefix(), restart)
    }

    /// Checks rule after rule and undoes what that did, also when `stop` ends before the check does. A crash leaves at most
    /// the step instances of one rule done; their order ids begin with what the plan says. Dropping this future is such a crash.
    ///
    /// # Errors
    /// The service cannot be reached at all. One that goes away later is in the report.
    pub async fn run(
        self,
        tell: Tell<'_>,
        stop: impl Future<Output = ()>,
        restarted: Option<Restarted>,
    ) -> Result<Report, CheckError> {
        let suite = Suite::new(&self.settings, &self.service, &self.order_ids, tell);
        self.reach(&suite).await?;
        let interrupted = tokio::select! {
            () = checks::all(&suite, restarted) => false,
            () = stop => true,
        };
        if interrupted {
            suite.abandon().await;
        }
        Ok(self.report(suite, interrupted))
    }

    /// Any answer will do.
    async fn reach(&self, suite: &Suite<'_>) -> Result<(), CheckError> {
        let answer = suite.send(&Call::to_look(&suite.instance())).await;
        match answer.meaning {
            Meaning::NotSent(why) => Err(CheckError::Unreachable { url: self.settings.url.to_string(), why }),
            _ => Ok(()),
        }
    }

    fn report(&self, suite: Suite<'_>, interrupted: bool) -> Report {
        let found = suite.finish();
        Report {
            url: self.settings.url.to_string(),
            account: self.settings.account.to_string(),
            step: self.settings.step.to_string(),
            order_ids: self.order_ids.prefix().to_owned(),
            counts: Counts::of(&found.rules),
            instances: found.instances,
            calls: found.figures.calls,
            left_behind: found.left_behind,
            interrupted,
            unreachable: found.unreachable,
            rules: found.rules,
        }
    }
}

/// A small order that is nobody's.
#[must_use]
pub fn made_up_order() -> Order {
    let order = json!({
        "channel": "retail",
        "currency": "GBP",
        "payment_ref": "pay_conformance",
        "ship_to": { "country": "GB" },
        "lines": [{ "sku": "CHECK-1", "quantity": 3, "unit_price": "1.25" }],
    });
    serde_json::from_value(order).expect("it keeps every rule of orders")
}
