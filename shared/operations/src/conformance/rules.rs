//! The rules that are checked, as data: where the contract says so, what is expected, and how to mend what breaks it.

/// One rule of the downstream contract.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name; it does not change.
    pub name: &'static str,
    /// Where docs/DOWNSTREAM.md says so.
    pub section: &'static str,
    /// What is expected of the service.
    pub expected: &'static str,
    /// How to mend a service that does otherwise.
    pub mend: &'static str,
    /// Step instances it takes; of the races, so many per round.
    pub(super) instances: u32,
}

pub(super) static LOOK_UNKNOWN: Rule = Rule {
    name: "look_unknown",
    section: "What the service must do, 10",
    expected: "a look at an instance that nobody has used answers 200 with state none, and leaves nothing",
    mend: "answer GET U/<instance> with 200 {\"instance\":\"…\",\"state\":\"none\"} where nothing is recorded, not with 404",
    instances: 1,
};

pub(super) static DO: Rule = Rule {
    name: "do",
    section: "Answers, and what the worker makes of them",
    expected: "a do answers 2xx with {\"result\":{…}}",
    mend: "answer PUT U/<instance> with 200 {\"result\":{…}} as soon as the effect is committed; where it refused \
           the order, give the check one that it accepts",
    instances: 1,
};

pub(super) static UNDO: Rule = Rule {
    name: "undo",
    section: "Answers, and what the worker makes of them",
    expected: "an undo after its do answers 2xx with {\"result\":{…}}",
    mend: "answer DELETE U/<instance> with 200 {\"result\":{…}} as soon as the effect is taken back",
    instances: 1,
};

pub(super) static LOOK: Rule = Rule {
    name: "look",
    section: "What the service must do, 10",
    expected: "looks show none before the do, done after it and undone after the undo, and change nothing",
    mend: "answer a look from the row of the step instance, in the state that the last do or undo left it in",
    instances: 1,
};

pub(super) static DO_REPEATED: Rule = Rule {
    name: "do_repeated",
    section: "What the service must do, 1",
    expected: "repeats of a do with the same key, also under higher fences, answer the recorded result",
    mend: "record the result with the key in the transaction of the effect, and answer repeats from that record",
    instances: 1,
};

pub(super) static DO_JUDGED_ONCE: Rule = Rule {
    name: "do_judged_once",
    section: "What the service must do, 1",
    expected: "a repeat with the same key is answered from the record, whatever its body, and has no new effect",
    mend: "look the key up before anything is done, and have no effect where it is found; what was done twice meanwhile \
           is in the service's books, and may not have been undone",
    instances: 2,
};

pub(super) static DO_CONCURRENT: Rule = Rule {
    name: "do_concurrent",
    section: "What the service must do, 1",
    expected: "of eight repeats at once, each answers the one recorded result, or something that a repeat resolves to it",
    mend: "lock the row of the step instance, or insert it under a unique key, before the effect is decided on",
    instances: 1,
};

pub(super) static DO_OTHER_KEY: Rule = Rule {
    name: "do_other_key",
    section: "Answers, and what the worker makes of them",
    expected: "a do of an instance that is done under another key answers the recorded result or 409 key_mismatch, and has \
               no second effect",
    mend: "keep one row per step instance, not one per key: what counts is whether the instance is done",
    instances: 1,
};

pub(super) static UNDO_REPEATED: Rule = Rule {
    name: "undo_repeated",
    section: "What the service must do, 2",
    expected: "repeats of an undo with the same key, also under higher fences, answer the recorded result",
    mend: "record the undo's result too, and answer repeats from that record",
    instances: 1,
};

pub(super) static UNDO_CONCURRENT: Rule = Rule {
    name: "undo_concurrent",
    section: "What the service must do, 2",
    expected: "of eight undos at once, each answers the one recorded result, or something that a repeat resolves to it",
    mend: "lock the row of the step instance before the effect is taken back",
    instances: 1,
};

pub(super) static DO_AFTER_UNDO: Rule = Rule {
    name: "do_after_undo",
    section: "What the service must do, 4",
    expected: "a do after the undo answers 409 {\"cancelled\":true} whatever its key, and has no effect",
    mend: "look for the undo before you look for the key, and keep it for at least 90 days",
    instances: 1,
};

pub(super) static UNDO_BEFORE_DO: Rule = Rule {
    name: "undo_before_do",
    section: "What the service must do, 3",
    expected: "an undo of an instance that was never done answers success, and a do that arrives later 409 cancelled",
    mend: "write a tombstone where there is nothing to undo, answer {\"result\":{\"tombstone\":true}}, and let do look for it",
    instances: 1,
};

pub(super) static RACE: Rule = Rule {
    name: "race",
    section: "What the service must do, 5",
    expected: "however a do and its undo overtake each other, the instance ends undone, and a later do is cancelled",
    mend: "serialise do and undo of one instance: one transaction or one lock around looking for the tombstone and having \
           the effect",
    instances: 1,
};

pub(super) static NEW_RUN: Rule = Rule {
    name: "new_run",
    section: "A step instance",
    expected: "another run of an order that was undone is a new instance: its do takes effect",
    mend: "keep your records by the whole step instance, not by order id",
    instances: 2,
};

pub(super) static FENCE_LOWER: Rule = Rule {
    name: "fence_lower",
    section: "What the service must do, 9",
    expected: "a call under a lower fence than the highest seen is served, or refused with 409 stale_fence without effect",
    mend: "compare fences before anything else, and answer {\"stale_fence\":<highest seen>} without touching anything",
    instances: 2,
};

pub(super) static UNKNOWN_FIELDS: Rule = Rule {
    name: "unknown_fields",
    section: "The body of a do",
    expected: "fields that the service does not know are ignored",
    mend: "let your JSON parser skip unknown fields",
    instances: 1,
};

pub(super) static LARGE_ORDER: Rule = Rule {
    name: "large_order",
    section: "The body of a do",
    expected: "an order of 2,000 lines is answered with a result or a refusal",
    mend: "raise the limit for request bodies to 2 MiB, also in proxies before the service",
    instances: 1,
};

pub(super) static MALFORMED_BODY: Rule = Rule {
    name: "malformed_body",
    section: "Answers, and what the worker makes of them",
    expected: "a do whose body is no JSON answers 4xx and has no effect",
    mend: "parse the body before anything is done, and answer 400 where that fails",
    instances: 1,
};

pub(super) static WRONG_PATH: Rule = Rule {
    name: "wrong_path",
    section: "Answers, and what the worker makes of them",
    expected: "a path that is none of the service's does not answer 2xx",
    mend: "answer 404 where no route matches, so that a wrong URL in the settings is noticed at the first call",
    instances: 1,
};

pub(super) static BOUNDS: Rule = Rule {
    name: "bounds",
    section: "A step instance",
    expected: "keys of 255 characters, told apart by the last one, and fences of 0 and 2^64-1 are accepted",
    mend: "store keys whole, as text of 255 characters, and fences as unsigned 64-bit numbers or as text",
    instances: 2,
};

pub(super) static BATCH_ANSWERS: Rule = Rule {
    name: "batch_answers",
    section: "Several dos in one request (optional)",
    expected: "dos in one request are all done and each is answered its result, and a repeat of one alone answers the same",
    mend: "take every call of a batch as a do of its own, under its own key, and put its status and its body into answers",
    instances: 3,
};

pub(super) static BATCH_RULES: Rule = Rule {
    name: "batch_rules",
    section: "Several dos in one request (optional)",
    expected: "in one request, a repeat, a do that cannot be read and a do after its undo are answered as each is alone, in \
               their order, and a new do beside them is done",
    mend: "judge every call of a batch by the row of its own step instance and by nothing else; a body that cannot be read \
           gets its own 400, and the other calls their answers",
    instances: 4,
};

pub(super) static REFUSAL: Rule = Rule {
    name: "refusal",
    section: "Answers, and what the worker makes of them",
    expected: "an order that the service refuses is answered 422 or 409 with {\"refused\":{…}} and has no effect; its undo \
               leaves a tombstone",
    mend: "answer 422 {\"refused\":{\"code\":\"…\",\"message\":\"…\"}}, and take an undo of a refused do as an undo before its do",
    instances: 1,
};

pub(super) static RESTART: Rule = Rule {
    name: "restart",
    section: "What the service must do, 6",
    expected: "results, undos and tombstones are still known after a restart of the service",
    mend: "commit them to disk, in the transaction of the effect, before the answer is sent",
    instances: 3,
};

pub(super) static SMALL_RESULTS: Rule = Rule {
    name: "small_results",
    section: "Answers, and what the worker makes of them",
    expected: "results have at most 1,024 bytes",
    mend: "answer an id or an amount instead of a whole document: of larger results, orderfleet keeps only the size",
    instances: 0,
};

pub(super) static IN_TIME: Rule = Rule {
    name: "in_time",
    section: "Answers, and what the worker makes of them",
    expected: "every call is answered within the timeout",
    mend: "answer faster, or raise timeout_ms of the step: a call that takes longer is repeated while it is still at work",
    instances: 0,
};

pub(super) static DEFINITE_ANSWERS: Rule = Rule {
    name: "definite_answers",
    section: "Answers, and what the worker makes of them",
    expected: "calls get a definite answer at once",
    mend: "nothing is wrong with an order for it, but each unknown answer costs a repeat, and many of them open the circuit",
    instances: 0,
};

/// Every rule, in the order in which they are checked.
pub(super) static ALL: [&Rule; 27] = [
    &LOOK_UNKNOWN,
    &DO,
    &UNDO,
    &LOOK,
    &DO_REPEATED,
    &DO_JUDGED_ONCE,
    &DO_CONCURRENT,
    &DO_OTHER_KEY,
    &UNDO_REPEATED,
    &UNDO_CONCURRENT,
    &DO_AFTER_UNDO,
    &UNDO_BEFORE_DO,
    &RACE,
    &NEW_RUN,
    &FENCE_LOWER,
    &UNKNOWN_FIELDS,
    &LARGE_ORDER,
    &MALFORMED_BODY,
    &WRONG_PATH,
    &BOUNDS,
    &BATCH_ANSWERS,
    &BATCH_RULES,
    &REFUSAL,
    &RESTART,
    &SMALL_RESULTS,
    &IN_TIME,
    &DEFINITE_ANSWERS,
];

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = include_str!("../../../../docs/DOWNSTREAM.md");

    #[test]
    fn every_rule_names_a_section_of_the_contract() {
        for rule in ALL {
            let (heading, point) = match rule.section.rsplit_once(", ") {
                Some((heading, point)) if point.parse::<u8>().is_ok() => (heading, Some(point)),
                _ => (rule.section, None),
            };
            let (_, section) = CONTRACT.split_once(&format!("\n## {heading}\n")).expect(rule.name);
            let section = section.split("\n## ").next().unwrap();
            let has = |point| section.contains(&format!("\n{point}. "));
            assert!(point.is_none_or(has), "{}: {}", rule.name, rule.section);
        }
    }

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<_> = ALL.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
