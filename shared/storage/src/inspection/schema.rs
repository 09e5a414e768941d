//! Whether collections, validators and indexes are as this build declares them.

use futures_util::TryStreamExt as _;
use mongodb::{
    IndexModel,
    bson::{Bson, Document, doc},
    options::{CreateCollectionOptions, ValidationAction, ValidationLevel},
};

use crate::{
    Store, StoreError,
    schema::{Declared, declared, version_of},
};

/// What a start of any worker mends.
const START_A_WORKER: &str = "start a worker of this build: it creates what is missing";

/// Something that is not as this build declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaDifference {
    /// The collection.
    pub collection: String,
    /// What is not as declared, for people.
    pub what: String,
    /// What mends it.
    pub fix: String,
    /// Whether a start of any service fails at it.
    pub stops_a_start: bool,
}

impl Store {
    /// Compares collections, validators and indexes with what this build declares, and changes nothing. What newer builds have
    /// added is no difference.
    ///
    /// # Errors
    /// The database did not answer in time, or this user may not list collections and indexes.
    pub async fn check_schema(&self) -> Result<Vec<SchemaDifference>, StoreError> {
        let declared = declared();
        let names: Vec<_> = declared.iter().map(|declared| declared.name).collect();
        let list = self.database.list_collections().filter(doc! { "name": { "$in": names } });
        let found: Vec<_> = self.call("list collections", async { list.await?.try_collect().await }).await?;
        let mut differences = Vec::new();
        for declared in declared {
            let name = declared.name;
            let Some(present) = found.iter().find(|found| found.name == name) else {
                differences.push(difference(name, "it is missing".into(), START_A_WORKER.into()));
                continue;
            };
            differences.extend(validator_difference(&declared, &present.options));
            let present = self.indexes_of(name).await?;
            let missing = declared.indexes.iter().filter_map(|index| index_difference(name, index, &present));
            differences.extend(missing);
        }
        Ok(differences)
    }

    async fn indexes_of(&self, name: &str) -> Result<Vec<IndexModel>, StoreError> {
        let collection = self.database.collection::<Document>(name);
        let list = collection.list_indexes();
        self.call("list indexes", async { list.await?.try_collect().await }).await
    }
}

fn validator_difference(declared: &Declared, present: &CreateCollectionOptions) -> Option<SchemaDifference> {
    let Declared { name, validator: (validator, version), .. } = declared;
    let off = matches!(present.validation_level, Some(ValidationLevel::Off | ValidationLevel::Moderate));
    if off || matches!(present.validation_action, Some(ValidationAction::Warn)) {
        let fix = format!(
            "db.runCommand({{collMod: \"{name}\", validationLevel: \"strict\", validationAction: \"error\"}})"
        );
        return Some(difference(name, "its validator does not refuse".into(), fix));
    }
    let what = match present.validator.as_ref() {
        Some(present) if version_of(present) > Some(*version) || present == validator => return None,
        Some(present) if version_of(present) < Some(*version) => {
            "its validator is none of ours, or of an older build"
        }
        Some(_) => "its validator was changed",
        None => "it has no validator",
    };
    let fix = format!(
        "db.runCommand({{collMod: \"{name}\", validator: {{}}}}), then start a worker of this build: it puts its own in place"
    );
    Some(difference(name, what.into(), fix))
}

fn index_difference(
    collection: &str,
    declared: &IndexModel,
    present: &[IndexModel],
) -> Option<SchemaDifference> {
    let name = index_name(&declared.keys);
    let Some(present) = present.iter().find(|present| same_keys(&present.keys, &declared.keys)) else {
        let what = format!("index {name} is missing");
        return Some(difference(collection, what, START_A_WORKER.into()));
    };
    if options(present) == options(declared) {
        return None;
    }
    let fix =
        format!("db.{collection}.dropIndex(\"{name}\"), then start a worker of this build: it makes it anew");
    let what = format!("index {name} has other options");
    // An index of the same keys cannot be made with other options.
    Some(SchemaDifference { stops_a_start: true, ..difference(collection, what, fix) })
}

/// The options that decide what an index is good for.
fn options(index: &IndexModel) -> (bool, Option<Document>) {
    let options = index.options.as_ref();
    let unique = options.and_then(|options| options.unique).unwrap_or_default();
    (unique, options.and_then(|options| options.partial_filter_expression.clone()))
}

/// A direction may be stored as another type of number than it was written with.
fn same_keys(one: &Document, other: &Document) -> bool {
    let direction = |value: &Bson| match value {
        Bson::Int32(number) => Bson::Double(f64::from(*number)),
        Bson::Int64(number) => Bson::Double(*number as f64),
        other => other.clone(),
    };
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(one, other)| one.0 == other.0 && direction(one.1) == direction(other.1))
}

fn index_name(keys: &Document) -> String {
    keys.iter().map(|(field, direction)| format!("{field}_{direction}")).collect::<Vec<_>>().join("_")
}

fn difference(collection: &str, what: String, fix: String) -> SchemaDifference {
    SchemaDifference { collection: collection.to_owned(), what, fix, stops_a_start: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(version: i32) -> Document {
        doc! { "$jsonSchema": { "title": format!("orderfleet order, version {version}"), "bsonType": "object" } }
    }

    fn judged(validator: Option<Document>) -> Option<String> {
        let declared = Declared { name: "orders", validator: (version(2), 2), indexes: Vec::new() };
        let present = CreateCollectionOptions::builder().validator(validator).build();
        validator_difference(&declared, &present).map(|difference| difference.what)
    }

    #[test]
    fn a_validator_of_a_newer_build_is_no_difference_and_any_other_is() {
        assert_eq!(judged(Some(version(2))), None);
        assert_eq!(judged(Some(version(3))), None);
        assert_eq!(judged(None).as_deref(), Some("it has no validator"));
        for other in [version(1), doc! { "a": 1 }] {
            assert_eq!(
                judged(Some(other)).as_deref(),
                Some("its validator is none of ours, or of an older build")
            );
        }
        let mut changed = version(2);
        changed.insert("b", 1);
        assert_eq!(judged(Some(changed)).as_deref(), Some("its validator was changed"));
    }

    #[test]
    fn an_index_is_the_same_whatever_number_tells_its_direction() {
        assert!(same_keys(&doc! { "a": 1, "b": -1 }, &doc! { "a": 1.0, "b": -1_i64 }));
        assert!(!same_keys(&doc! { "a": 1, "b": -1 }, &doc! { "b": -1, "a": 1 }));
        assert!(!same_keys(&doc! { "a": 1 }, &doc! { "a": 1, "b": 1 }));
        assert_eq!(index_name(&doc! { "account": 1, "created_at": -1 }), "account_1_created_at_-1");
    }
}
