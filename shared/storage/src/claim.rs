//! Claims as filter and update.

use mongodb::bson::{self, Bson, DateTime, Document, doc};
use orderfleet_domain::{
    Order,
    saga::{Claim, ClaimKind, DOCUMENT_VERSION, Phase, Phases},
};

use crate::document::{Correction, binary};

/// What the document must be for the claim to pass.
pub(crate) fn filter(order_id: &str, claim: &Claim) -> Document {
    let mut filter = doc! {
        "_id": order_id,
        "gen": i64::from(claim.generation),
        "sv": { "$lte": i64::from(DOCUMENT_VERSION) },
    };
    if let Some(fp) = &claim.fp {
        filter.insert("fp", fp.as_str());
    }
    match &claim.kind {
        ClaimKind::Continue(wanted) => {
            filter.insert("phase", phases(*wanted));
            filter.insert("hold", Bson::Null);
        }
        ClaimKind::NewRun => {
            filter.insert("phase", Phase::Undone.as_str());
            filter.insert("final", false);
            filter.insert("evp", false);
        }
        ClaimKind::Resolve(hold) => {
            filter.insert("hold.id", hold.as_str());
        }
    }
    if !claim.redelivered {
        let over = doc! { "$lt": DateTime::from_millis(claim.now) };
        let implausible = doc! { "$gt": DateTime::from_millis(claim.latest_lease()) };
        let free = [
            doc! { "lease_until": null },
            doc! { "lease_until": over },
            doc! { "lease_until": implausible },
            doc! { "owner": &claim.owner.0 },
        ];
        filter.insert("$or", free.to_vec());
    }
    filter
}

/// What the claim makes of it.
pub(crate) fn update(claim: &Claim) -> Document {
    let mut fields = doc! {
        "owner": &claim.owner.0,
        "lease_until": DateTime::from_millis(claim.lease_until),
        "nonce": binary(claim.nonce),
    };
    if claim.kind == ClaimKind::NewRun {
        fields.extend(start_of_run(claim.generation + 1));
    }
    doc! {
        "$set": fields,
        "$inc": { "epoch": 1_i64, "rev": 1_i64 },
        "$currentDate": { "updated_at": true },
    }
}

/// What the claim of a run on a corrected order makes of it: builds that know of no corrections leave it alone from then on.
pub(crate) fn update_corrected(claim: &Claim, corrected: &Order) -> Result<Document, bson::error::Error> {
    let correction = Correction { generation: claim.generation + 1, order: corrected.into() };
    let mut update = update(claim);
    if let Ok(fields) = update.get_document_mut("$set") {
        fields.insert("sv", i64::from(DOCUMENT_VERSION));
        fields.insert("corrected", bson::serialize_to_bson(&correction)?);
    }
    Ok(update)
}

/// As [`orderfleet_domain::saga::Record::next_run`] leaves it, but for what the claim sets itself.
fn start_of_run(generation: u32) -> Document {
    doc! {
        "gen": i64::from(generation),
        "final": false,
        "phase": Phase::Run.as_str(),
        "cur": 0_i64,
        "hi": 0_i64,
        "att": 0_i64,
        "waits": 0_i64,
        "due_at": null,
        "charged_at": null,
        "excused_ms": 0_i64,
        "hold": null,
        "cancel": false,
        "evp": false,
        "cause": null,
        "results": [],
        "sweeps": 0_i64,
        "sweep_due": null,
    }
}

fn phases(wanted: Phases) -> Bson {
    let all = [Phase::Run, Phase::Comp];
    let names: Vec<_> = all.into_iter().filter(|phase| wanted.contains(*phase)).map(Phase::as_str).collect();
    doc! { "$in": names }.into()
}
