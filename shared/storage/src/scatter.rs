//! The queries that name no key, and so ask every shard: each tells the server its name, as `comment`, and is listed here.
//! Everything else about a sharded collection names the `_id` or a range of it.

use mongodb::bson::{Bson, Document};

/// The sweeper's two.
pub(crate) const SWEEP: &str = "orderfleet: sweep";
/// Orders counted by what is left to do about them.
pub(crate) const TALLY: &str = "orderfleet: tally of orders";
/// Operators' lists of orders across accounts.
pub(crate) const ORDERS_LIST: &str = "orderfleet: list of orders";
/// What operators ask about dead letters that is not about one order.
pub(crate) const LETTERS: &str = "orderfleet: dead letters";
/// Where an account's orders are, asked when an operator looks whether its region is still the same.
pub(crate) const HOME: &str = "orderfleet: home of an account";

/// Orders that a newer build is tried on before it is let in.
pub(crate) const SURVEY: &str = "orderfleet: survey of orders";

/// The names of these queries, as they are in the server's logs and in `currentOp`: on a sharded cluster each asks every shard.
/// Beside the sweeper's, and the counts that scaling goes by, they are all operators'.
pub const SCATTERED: [&str; 6] = [SWEEP, TALLY, ORDERS_LIST, LETTERS, HOME, SURVEY];

/// Looks at a command on a sharded collection, as the driver sends it or as the server's profiler writes it down: does it name
/// the documents' `_id`, or is it one of [`SCATTERED`]? Of one document a write has to name the very `_id`: before MongoDB 7.0 a
/// router refuses it otherwise. For tests.
///
/// # Errors
/// It does neither; the text says what it filters by.
pub fn check_targeting(command: &Document) -> Result<(), String> {
    if let Some(other) = writes(command).into_iter().find(|filter| !names_one_id(filter)) {
        return Err(format!("a write by {} needs one shard: name the _id", fields(other)));
    }
    let comment = command.get_str("comment").unwrap_or_default();
    if SCATTERED.contains(&comment) {
        return Ok(());
    }
    let filters = filters(command);
    let verb = command.keys().next().map_or("?", String::as_str);
    if filters.is_empty() && ["find", "aggregate", "count", "distinct"].contains(&verb) {
        return Err(format!("{verb} of all documents asks every shard"));
    }
    match filters.into_iter().find(|filter| !names_id(filter)) {
        Some(other) => {
            Err(format!("{verb} by {} asks every shard: name the _id, or its range", fields(other)))
        }
        None => Ok(()),
    }
}

fn fields(filter: &Document) -> String {
    filter.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// What chooses the document of each write of one; the profiler has a statement by itself, with its filter as `q`.
fn writes(command: &Document) -> Vec<&Document> {
    let statements = |name| command.get_array(name).into_iter().flatten().filter_map(Bson::as_document);
    let of_one = |statement: &&Document| {
        let has_limit = statement.get("limit").is_none_or(|limit| *limit != Bson::Int32(0));
        has_limit && !statement.get_bool("multi").unwrap_or(false)
    };
    let all = statements("updates").chain(statements("deletes")).chain([command]);
    let statements = all.filter(of_one).filter_map(|statement| statement.get_document("q").ok());
    let modifies = command.keys().next().is_some_and(|verb| verb.eq_ignore_ascii_case("findAndModify"));
    let found = command.get_document("query").ok().filter(|_| modifies);
    statements.chain(found).collect()
}

/// Whether a filter names the `_id` of one document.
fn names_one_id(filter: &Document) -> bool {
    match filter.get("_id") {
        Some(Bson::String(_)) => true,
        Some(Bson::Document(condition)) => condition.contains_key("$eq"),
        _ => {
            let mut all = filter.get_array("$and").into_iter().flatten().filter_map(Bson::as_document);
            all.any(names_one_id)
        }
    }
}

/// What chooses the documents of a command; nothing for an insert.
fn filters(command: &Document) -> Vec<&Document> {
    let of_many = |name, key| {
        let statements = command.get_array(name).into_iter().flatten().filter_map(Bson::as_document);
        statements.filter_map(move |statement| statement.get_document(key).ok())
    };
    let alone = ["filter", "query", "q"].into_iter().filter_map(|name| command.get_document(name).ok());
    let of_pipeline = of_many("pipeline", "$match").take(1);
    alone.chain(of_many("updates", "q")).chain(of_many("deletes", "q")).chain(of_pipeline).collect()
}

/// Whether a filter names ids, or a range of them: then it meets their shards alone.
pub(crate) fn names_id(filter: &Document) -> bool {
    let every = |name: &str| filter.get_array(name).into_iter().flatten().filter_map(Bson::as_document);
    let by_id = match filter.get("_id") {
        Some(Bson::String(_)) => true,
        Some(Bson::Document(range)) => {
            let has = |names: [&str; 2]| names.iter().any(|name| range.contains_key(name));
            has(["$in", "$eq"]) || has(["$gt", "$gte"]) && has(["$lt", "$lte"])
        }
        _ => false,
    };
    by_id || every("$and").any(names_id) || every("$or").next().is_some() && every("$or").all(names_id)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn an_id_its_range_and_a_named_query_pass_and_nothing_else_does() {
        let range = || doc! { "_id": { "$gte": "a", "$lt": "b" } };
        for targeted in [
            doc! { "find": "orders", "filter": { "_id": "a", "account": "x" } },
            doc! { "find": "orders", "filter": range() },
            doc! { "find": "orders", "filter": { "$and": [{ "account": "x" }, range()] } },
            doc! { "find": "orders", "filter": { "$or": [range(), { "_id": { "$in": ["a"] } }] } },
            doc! { "find": "orders", "filter": { "evp": true }, "comment": SWEEP },
            doc! { "aggregate": "orders", "pipeline": [{ "$match": range() }, { "$group": { "_id": 1 } }] },
            doc! { "update": "orders", "updates": [{ "q": { "_id": "a" }, "u": {} }] },
            doc! { "findAndModify": "orders", "query": { "_id": "a" } },
            doc! { "findAndModify": "orders", "query": { "$and": [{ "_id": { "$eq": "a" } }, { "rev": 1 }] } },
            doc! { "update": "orders", "updates": [{ "q": range(), "u": {}, "multi": true }] },
            doc! { "q": { "_id": "a" }, "u": {}, "multi": false },
            doc! { "insert": "orders", "documents": [{ "_id": "a" }] },
        ] {
            assert_eq!(check_targeting(&targeted), Ok(()), "{targeted}");
        }
        for scattered in [
            doc! { "find": "orders", "filter": {} },
            doc! { "find": "orders", "filter": { "evp": true }, "comment": "other" },
            doc! { "find": "orders", "filter": { "_id": { "$nin": ["a"] } } },
            doc! { "find": "orders", "filter": { "_id": { "$gte": "a" } } },
            doc! { "find": "orders", "filter": { "$or": [range(), { "account": "x" }] } },
            doc! { "aggregate": "orders", "pipeline": [{ "$match": { "evp": true } }] },
            doc! { "aggregate": "orders", "pipeline": [{ "$group": { "_id": 1 } }] },
            doc! { "update": "orders", "updates": [{ "q": { "_id": "a" } }, { "q": { "account": "x" } }] },
            doc! { "delete": "orders", "deletes": [{ "q": {}, "limit": 0 }] },
            doc! { "delete": "orders", "deletes": [{ "q": range(), "limit": 1 }] },
            doc! { "update": "orders", "updates": [{ "q": { "_id": { "$in": ["a"] } }, "u": {} }] },
            doc! { "findAndModify": "orders", "query": range() },
            doc! { "q": range(), "u": {}, "multi": false, "comment": SWEEP },
        ] {
            assert!(check_targeting(&scattered).is_err(), "{scattered}");
        }
    }
}
