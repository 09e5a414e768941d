use orderfleet_domain::{failure::FailureClass, saga::DeadLetterQueue};
use orderfleet_storage::LetterState;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const ORDERS: [&str; 2] =
    ["eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny", "eu1-vqhnbfvs-aaanwqzm4jeqqutrep4bxjfyvskigkny"];

fn read(text: &str) -> LetterFilter {
    parse(text, NOW).unwrap_or_else(|error| panic!("{error}"))
}

fn wrong(text: &str) -> String {
    parse(text, NOW).unwrap_err().to_string()
}

fn with(condition: Condition) -> LetterFilter {
    LetterFilter::With(condition)
}

fn not(filter: LetterFilter) -> LetterFilter {
    LetterFilter::Not(Box::new(filter))
}

fn step(name: &str) -> LetterFilter {
    with(Condition::Step(name.parse().unwrap()))
}

fn queue(queue: DeadLetterQueue) -> LetterFilter {
    with(Condition::Queue(queue))
}

#[test]
fn conditions_are_joined_as_they_are_read() {
    let hour_ago = Timestamp::from_second(-3_600).unwrap();
    let old = with(Condition::Before(hour_ago));
    assert_eq!(read("step=fulfilment and age>1h"), LetterFilter::And(vec![step("fulfilment"), old]));
    let account = with(Condition::Account("shop-1".parse().unwrap()));
    let fingerprint = not(with(Condition::Fingerprint("abc".into())));
    let or =
        LetterFilter::Or(vec![queue(DeadLetterQueue::Poison), LetterFilter::And(vec![account, fingerprint])]);
    assert_eq!(read("queue=poison or (account=shop-1 and not fingerprint=abc)"), or);
    assert_eq!(
        read("queue = poison OR account=shop-1 AND fingerprint != ABC"),
        or,
        "`and` binds more tightly"
    );
    assert_eq!(read("not not step=a"), not(not(step("a"))));
    assert_eq!(read("((step=a))"), step("a"));
}

#[test]
fn every_field_has_its_values() {
    let ids = ORDERS.map(|id| id.parse().unwrap()).to_vec();
    let [first, second] = ORDERS;
    let cases = [
        (format!("order in ({first},{second})"), with(Condition::Order(ids))),
        ("id in (a, 'b c')".into(), with(Condition::Id(vec!["a".into(), "b c".into()]))),
        ("queue=orders.dead.held".into(), queue(DeadLetterQueue::Held)),
        ("queue=inventory".into(), queue(DeadLetterQueue::Step("inventory".parse().unwrap()))),
        ("queue in (held)".into(), queue(DeadLetterQueue::Held)),
        ("class=Crashed".into(), with(Condition::Class("crashed".into()))),
        ("build=\"0.1.0+abc\"".into(), with(Condition::Build("0.1.0+abc".into()))),
        ("kind=place".into(), with(Condition::Kind("place".into()))),
        ("is=ended".into(), with(Condition::State(LetterState::Ended))),
        ("is:any".into(), with(Condition::State(LetterState::Any))),
        ("build=is:x".into(), with(Condition::Build("is:x".into()))),
        ("id in (is:x)".into(), with(Condition::Id(vec!["is:x".into()]))),
        ("age<1h30m".into(), with(Condition::Since(Timestamp::from_second(-5_400).unwrap()))),
        ("step=or".into(), step("or")),
    ];
    for (text, filter) in cases {
        assert_eq!(read(&text), filter, "{text}");
    }
    let several = LetterFilter::Or(vec![queue(DeadLetterQueue::Poison), queue(DeadLetterQueue::Held)]);
    assert_eq!(read("queue in (poison,held)"), several);
}

#[test]
fn a_mistake_is_shown_with_a_caret_and_what_would_be_right() {
    let mistake = wrong("step=fulfilment and ago>1h");
    let lines: Vec<_> = mistake.lines().collect();
    assert!(lines[0].contains("there is no `ago`") && lines[0].contains("account, build"), "{mistake}");
    assert_eq!(lines[1..], ["  step=fulfilment and ago>1h", "                      ^^^"]);
    let cases = [
        ("", "expected one of queue"),
        ("step", "expected `=`"),
        ("step=", "expected a value"),
        ("step=Not", "step name must be"),
        ("step=a step=b", "expected `and`, `or` or the end"),
        ("(step=a", "expected `)`"),
        ("step=a)", "expected `and`"),
        ("class=novel", "attempts_exhausted, deadline_passed"),
        ("fingerprint=0189", "of a-z and 2-7"),
        ("is=shut", "open, ended or any"),
        ("age=1h", "expected `>` or `<`"),
        ("age>1y", "such as 90s"),
        ("age>99999999999999999w", "such as 90s"),
        ("id in ()", "expected a value"),
        ("id='a", "is never closed"),
        ("id!a", "expected `!=`"),
        ("order=a", "order id must be"),
    ];
    for (text, expected) in cases {
        let mistake = wrong(text);
        assert!(mistake.contains(expected), "{text}: {mistake}");
    }
}

#[test]
fn an_expression_has_bounds() {
    assert!(wrong(&"(".repeat(10_000)).contains("deep"));
    assert!(wrong(&"not ".repeat(10_000)).contains("deep"));
    assert!(wrong(&"x".repeat(TEXT_BYTES_MAX + 1)).contains("at most"));
    let many = vec!["a"; VALUES_MAX + 1].join(",");
    assert!(wrong(&format!("id in ({many})")).contains("more than"));
}

#[test]
fn the_help_names_every_field_and_class() {
    for (name, _) in Field::ALL {
        assert!(HELP.contains(name), "{name}");
    }
    for class in FailureClass::ALL {
        assert!(HELP.contains(class.as_str()), "{}", class.as_str());
    }
}
