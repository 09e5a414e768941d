//! The whole `orderfleet downstream check`, as a process: against the sandbox, against services with one vice each, and
//! against what is no service at all.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod batches;
mod service;

use std::path::PathBuf;
use std::process::{Output, Stdio};

use futures_util::future::join_all;
use orderfleet_sandbox::{Options, Rule, Sandbox};
use serde_json::{Value, json};
use service::impostors::{answering, echoing};
use service::{Service, Vice};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

const SERVICES: [&str; 3] = ["inventory", "fulfilment", "accounting"];

async fn sandbox(faults: &[&str]) -> Sandbox {
    let fault = faults.iter().map(|rule| Rule::from_flag(rule).unwrap()).collect();
    Sandbox::start(Options { fault, ..Options::on_free_port() }).await.unwrap()
}

fn steps(sandbox: &Sandbox, service: &str) -> String {
    format!("http://{}/{service}/steps", sandbox.address())
}

async fn get(sandbox: &Sandbox, path: &str) -> String {
    reqwest::get(format!("http://{}{path}", sandbox.address())).await.unwrap().text().await.unwrap()
}

/// Instances that are done and not undone.
async fn net_done(sandbox: &Sandbox, service: &str) -> Value {
    let summary: Value = serde_json::from_str(&get(sandbox, &format!("/{service}/summary")).await).unwrap();
    summary["net_done"].clone()
}

/// Prints JSON unless the arguments say otherwise.
fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderfleet"));
    command.args(["downstream", "check", url]).args(arguments);
    if !arguments.contains(&"--output") {
        command.args(["--output", "json"]);
    }
    command.env_remove("ORDERFLEET_DOWNSTREAM_HEADERS").kill_on_drop(true);
    command
}

async fn check(url: &str, arguments: &[&str]) -> Output {
    command(url, &[&["--yes"], arguments].concat()).output().await.unwrap()
}

fn report(output: &Output) -> Value {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(stdout.lines().count(), 1, "stdout is one line of data: {stdout}{}", stderr(output));
    serde_json::from_str(&stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The rules with this verdict.
fn rules(report: &Value, verdict: &str) -> Vec<String> {
    let rules = report["rules"].as_array().unwrap().iter();
    rules.filter(|rule| rule["verdict"] == verdict).map(|rule| text(&rule["rule"])).collect()
}

fn rule(report: &Value, name: &str) -> Value {
    let rules = report["rules"].as_array().unwrap();
    rules.iter().find(|rule| rule["rule"] == name).cloned().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A file with this text, in a folder that lives as long as the test.
fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path: PathBuf = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn order_to(country: &str) -> String {
    let order = json!({
        "channel": "retail", "currency": "GBP", "payment_ref": "pay_1",
        "ship_to": { "name": "Jane Doe", "country": country },
        "lines": [{ "sku": "85123A", "quantity": 2, "unit_price": "2.55" }],
    });
    order.to_string()
}

#[tokio::test]
async fn a_service_that_keeps_the_contract_passes_and_nothing_is_left_done() {
    let sandbox = sandbox(&[]).await;
    for service in SERVICES {
        let url = steps(&sandbox, service);
        let plan = report(&command(&url, &["--races", "20"]).output().await.unwrap());
        let output = check(&url, &["--races", "20", "--strict"]).await;

        let report = report(&output);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(rules(&report, "skipped"), ["refusal", "restart"]);
        assert_eq!(report["counts"]["passed"], 25);
        assert_eq!(report["instances"], plan["instances"], "the plan says how many instances are used");
        assert_eq!((&report["left_behind"], &report["interrupted"]), (&json!([]), &json!(false)));
        assert_eq!(net_done(&sandbox, service).await, 0);
        let ledger = get(&sandbox, &format!("/{service}/ledger")).await;
        let prefix = format!("\"order_id\":\"{}", text(&report["order_ids"]));
        assert!(
            ledger.lines().count() > 100 && ledger.lines().all(|line| line.contains(&prefix)),
            "{prefix}"
        );
    }
}

#[tokio::test]
async fn without_yes_nothing_is_sent() {
    let sandbox = sandbox(&[]).await;
    let output = command(&steps(&sandbox, "inventory"), &["--races", "7"]).output().await.unwrap();

    assert_eq!(output.status.code(), Some(0));
    let plan = report(&output);
    assert_eq!((&plan["races"], &plan["skipped"]), (&json!(7), &json!(["refusal", "restart"])));
    assert!(stderr(&output).contains("--yes"));
    assert_eq!(get(&sandbox, "/inventory/ledger").await, "");
}

#[tokio::test]
async fn a_service_that_forgets_keys_is_caught() {
    let sandbox = sandbox(&["*:ignore_keys"]).await;
    for service in SERVICES {
        let output = check(&steps(&sandbox, service), &["--races", "4"]).await;
        let report = report(&output);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(rules(&report, "failed"), ["do_judged_once"]);
        let failed = rule(&report, "do_judged_once");
        assert_eq!(failed["section"], "What the service must do, 1");
        assert!(text(&failed["found"]).contains("another effect"), "{failed}");
        assert_eq!(failed["exchanges"][0]["method"], "PUT");
        assert!(!text(&failed["mend"]).is_empty());
    }
}

#[tokio::test]
async fn a_service_that_forgets_tombstones_is_caught_and_cleaned_up() {
    let sandbox = sandbox(&["*:ignore_tombstones"]).await;
    for service in SERVICES {
        let output = check(&steps(&sandbox, service), &["--races", "4"]).await;
        let report = report(&output);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(rules(&report, "failed"), ["do_after_undo", "undo_before_do", "race"]);
        assert_eq!(report["left_behind"], json!([]));
        assert_eq!(net_done(&sandbox, service).await, 0);
    }
}

#[tokio::test]
async fn each_vice_breaks_its_own_rules_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let refused = file(&folder, "refused.json", &order_to("DE"));
    let cases: [(Vice, &[&str]); 15] = [
        (Vice::UnknownIsNotFound, &["look_unknown"]),
        (Vice::LooksAlwaysShowNone, &["look"]),
        (Vice::AnotherKeyIsAnotherEffect, &["do_other_key"]),
        (Vice::UndoIsForgotten, &["undo_repeated", "undo_concurrent", "undo_before_do"]),
        (Vice::OnlyTheSameKeyIsCancelled, &["do_after_undo"]),
        (Vice::EffectsAreNotLocked, &["do_concurrent"]),
        (Vice::TombstonesAreNotLocked, &["race"]),
        (Vice::RecordsAreKeptByOrder, &["new_run"]),
        (Vice::StaleCallsHaveEffect, &["fence_lower"]),
        (Vice::UnknownFieldsAreRefused, &["unknown_fields"]),
        (Vice::LargeBodiesAreRefused, &["large_order"]),
        (Vice::AnyBodyIsTaken, &["malformed_body"]),
        (Vice::AnyPathIsServed, &["wrong_path"]),
        (Vice::KeysAreCut, &["bounds"]),
        (Vice::RefusalsAreProse, &["refusal"]),
    ];
    for (vice, expected) in cases {
        let url = Service::start(vice).await;
        let output = check(&url, &["--races", "4", "--refused-order", &refused]).await;
        let report = report(&output);
        assert_eq!(rules(&report, "failed"), expected, "{vice:?}: {}", stderr(&output));
        assert_eq!(output.status.code(), Some(1), "{vice:?}");
        assert_eq!(report["left_behind"], json!([]), "{vice:?}");
    }
}

#[tokio::test]
async fn a_service_that_offers_no_batches_is_not_asked_for_any() {
    let url = Service::start(Vice::ResultsAreLarge).await;
    let report = report(&check(&url, &["--races", "1"]).await);
    assert_eq!(rules(&report, "skipped"), ["batch_answers", "batch_rules", "refusal", "restart"]);
    assert_eq!(rule(&report, "batch_rules")["found"], "the service offers no batches");
}

#[tokio::test]
async fn batches_that_are_not_taken_as_dos_of_their_own_are_caught_and_cleaned_up() {
    let cases: [(batches::Vice, &[&str]); 5] = [
        (batches::Vice::AnswersAreReversed, &["batch_answers", "batch_rules"]),
        (batches::Vice::OneFailsAll, &["batch_rules"]),
        (batches::Vice::NothingIsDone, &["batch_answers", "batch_rules"]),
        (batches::Vice::KeysAreItsOwn, &["batch_answers", "batch_rules"]),
        (batches::Vice::AnswersAreLost, &["batch_answers", "batch_rules"]),
    ];
    join_all(cases.map(|(vice, expected)| async move {
        let sandbox = sandbox(&[]).await;
        let url = batches::start(steps(&sandbox, "inventory"), vice).await;
        let output = check(&url, &["--races", "1"]).await;
        let report = report(&output);
        assert_eq!(rules(&report, "failed"), expected, "{vice:?}: {}", stderr(&output));
        assert_eq!(report["left_behind"], json!([]), "{vice:?}");
        assert_eq!(net_done(&sandbox, "inventory").await, 0, "{vice:?}");
        let exchanges = rule(&report, "batch_rules")["exchanges"].to_string();
        assert!(exchanges.contains("\"POST\""), "{vice:?}: {exchanges}");
    }))
    .await;
}

#[tokio::test]
async fn warnings_fail_only_a_strict_check() {
    let url = Service::start(Vice::ResultsAreLarge).await;
    for (arguments, code) in [(vec!["--races", "1"], 0), (vec!["--races", "1", "--strict"], 1)] {
        let output = check(&url, &arguments).await;
        assert_eq!(rules(&report(&output), "warning"), ["small_results"]);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn lost_answers_are_asked_for_again_and_told() {
    let sandbox = sandbox(&["inventory:lost_reply,times=3,verb=both"]).await;
    let output = check(&steps(&sandbox, "inventory"), &["--races", "4"]).await;
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(rules(&report, "warning"), ["definite_answers"]);
    assert_eq!(net_done(&sandbox, "inventory").await, 0);
}

#[tokio::test]
async fn an_order_that_is_refused_is_checked_too() {
    let folder = tempfile::tempdir().unwrap();
    let refused = file(&folder, "refused.json", &order_to("DE"));
    let order = file(&folder, "order.json", &order_to("FR"));
    let sandbox = sandbox(&["fulfilment:refuse_country=DE"]).await;
    let files = ["--races", "1", "--order", &order, "--refused-order", &refused, "--step", "fulfilment"];
    let output = check(&steps(&sandbox, "fulfilment"), &files).await;
    let report = report(&output);
    assert_eq!(rule(&report, "refusal")["verdict"], "passed", "{report}");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(net_done(&sandbox, "fulfilment").await, 0);
}

#[tokio::test]
async fn an_order_that_is_refused_by_surprise_is_named_as_the_cause() {
    let sandbox = sandbox(&["inventory:refuse"]).await;
    let output = check(&steps(&sandbox, "inventory"), &[]).await;
    let report = report(&output);
    assert_eq!(rules(&report, "failed"), ["do"]);
    assert!(text(&rule(&report, "do")["found"]).contains("refused_by_rule"));
    assert!(text(&rule(&report, "do")["mend"]).contains("accepts"));
    assert!(text(&rule(&report, "race")["found"]).contains("the do does not work"));
}

#[tokio::test]
async fn what_a_service_keeps_in_memory_only_is_missed_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = Some(folder.path().to_owned());
    for (data, verdict) in [(data, "passed"), (None, "failed")] {
        let options = Options { data, ..Options::on_free_port() };
        let sandbox = Sandbox::start(options.clone()).await.unwrap();
        let address = sandbox.address();
        let mut command =
            command(&steps(&sandbox, "accounting"), &["--yes", "--races", "1", "--pause-for-restart"]);
        let mut child = spawn(&mut command);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        while !lines.next_line().await.unwrap().unwrap().contains("press Enter") {}
        sandbox.shutdown().await;
        let sandbox = Sandbox::start(Options { listen: address, ..options }).await.unwrap();
        child.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
        while lines.next_line().await.unwrap().is_some() {}

        let report = report(&child.wait_with_output().await.unwrap());
        assert_eq!(rule(&report, "restart")["verdict"], verdict, "{report}");
        assert_eq!(net_done(&sandbox, "accounting").await, 0);
    }
}

#[tokio::test]
async fn nobody_to_restart_the_service_is_no_failure() {
    let sandbox = sandbox(&[]).await;
    let mut command =
        command(&steps(&sandbox, "inventory"), &["--yes", "--races", "1", "--pause-for-restart"]);
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(rules(&report(&output), "skipped"), ["refusal", "restart"]);
    assert_eq!(net_done(&sandbox, "inventory").await, 0);
}

#[tokio::test]
async fn an_interrupted_check_undoes_what_it_did() {
    let sandbox = sandbox(&["inventory:latency_ms=30,verb=both"]).await;
    let mut child = spawn(&mut command(&steps(&sandbox, "inventory"), &["--yes", "--races", "1000"]));
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().unwrap().contains("undo_before_do") {}
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    while lines.next_line().await.unwrap().is_some() {}

    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    let report = report(&output);
    assert_eq!((&report["interrupted"], &report["left_behind"]), (&json!(true), &json!([])));
    assert_eq!(net_done(&sandbox, "inventory").await, 0);
}

#[tokio::test]
async fn what_is_no_service_of_the_contract_gets_a_readable_report() {
    let http = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    let cases = [
        (http("200 OK", "{}"), "200 OK without a {\"result\":{…}}"),
        (http("200 OK", "<html>\u{1b}[2J welcome"), "200 OK without a {\"result\":{…}}"),
        (http("302 Found", ""), "302 Found"),
        (http("401 Unauthorized", ""), "401 Unauthorized: a wrong address, or wrong credentials"),
        (String::new(), "no answer: "),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"resu".to_owned(),
            "200 OK, but the answer was cut off",
        ),
    ];
    join_all(cases.map(|(answer, found)| async move {
        let output = check(&answering(answer).await, &[]).await;
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let report = report(&output);
        assert_eq!(rules(&report, "failed"), ["look_unknown", "do"]);
        let failed = rule(&report, "do");
        assert!(text(&failed["found"]).contains(found), "{found}: {failed}");
        assert!(!failed["exchanges"].as_array().unwrap().is_empty());
        assert!(!report.to_string().contains('\u{1b}') && !stderr(&output).contains('\u{1b}'));
        assert_eq!(report["left_behind"].as_array().unwrap().len(), 1, "it may have done what it was asked");
    }))
    .await;
}

#[tokio::test]
async fn a_service_that_hangs_is_given_up_soon() {
    let sandbox = sandbox(&["inventory:hang,verb=both"]).await;
    let output = check(&steps(&sandbox, "inventory"), &["--timeout-ms", "200"]).await;
    assert_eq!(output.status.code(), Some(1));
    let report = report(&output);
    assert_eq!(rules(&report, "failed"), ["do"]);
    assert_eq!(rule(&report, "do")["found"], "do: no answer within 200ms");
    assert_eq!(report["left_behind"].as_array().unwrap().len(), 1);
    assert_eq!(net_done(&sandbox, "inventory").await, 0);
}

#[tokio::test]
async fn nobody_there_is_a_dependency_down() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let output = check(&format!("http://{address}/steps"), &[]).await;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(6), b"".as_slice()));
    assert!(
        stderr(&output).contains("cannot be reached") && stderr(&output).contains("next:"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn credentials_are_sent_and_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let headers = file(&folder, "headers", "Authorization: Bearer s3cret-token\n");
    let (url, seen) = echoing().await;
    let mut with_variable = command(&url, &["--yes"]);
    with_variable.env("ORDERFLEET_DOWNSTREAM_HEADERS", "Authorization: Bearer s3cret-token");
    let outputs = [check(&url, &["--headers-file", &headers]).await, with_variable.output().await.unwrap()];
    for output in outputs {
        let shown = format!("{}{}", report(&output), stderr(&output));
        assert!(shown.contains("[masked]") && !shown.contains("s3cret"), "{shown}");
    }
    assert!(seen.lock().unwrap().iter().all(|value| value == "Bearer s3cret-token"));
}

#[tokio::test]
async fn mistakes_are_usage_errors_that_name_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let no_order = file(&folder, "order.json", r#"{"channel":"retail"}"#);
    let no_headers = file(&folder, "headers", "s3cret");
    let url = "http://127.0.0.1:9/steps";
    let cases: [(&str, &[&str], &str); 6] = [
        ("localhost:7070", &[], "http://HOST:PORT"),
        ("http://jo:pw@127.0.0.1:9/steps", &[], "as a header"),
        (url, &["--order", &no_order], "/v1/orders"),
        (url, &["--order", "no-such-file"], "no-such-file"),
        (url, &["--headers-file", &no_headers], "Name: value"),
        (url, &["--step", "Not A Step"], "step name"),
    ];
    for (url, arguments, right) in cases {
        let output = check(url, arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(right) && !stderr(&output).contains("s3cret"),
            "{}",
            stderr(&output)
        );
    }
}

#[tokio::test]
async fn people_get_a_table_and_every_failure_with_its_calls() {
    let url = Service::start(Vice::UnknownFieldsAreRefused).await;
    let output = check(&url, &["--races", "2", "--output", "table"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("RULE"), "{text}");
    for part in [
        "unknown_fields failed (docs/DOWNSTREAM.md: The body of a do)",
        "\n  sent      PUT check1-",
        "fence 1, the order, with unknown fields",
        "\n  answered  400",
        "\n  mend      ",
        "27 rules: 22 passed, 1 failed, 0 warnings, 4 skipped",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let table = text.split("\n\n").next().unwrap();
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

#[tokio::test]
async fn json_lines_have_a_line_per_rule_and_one_for_the_whole() {
    let sandbox = sandbox(&[]).await;
    let output = check(&steps(&sandbox, "inventory"), &["--races", "1", "--output", "jsonl"]).await;
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 28);
    assert_eq!((&lines[0]["rule"], &lines[27]["counts"]["failed"]), (&json!("look_unknown"), &json!(0)));
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}
