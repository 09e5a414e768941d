//! Orders that a person corrects before their next run.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use mongodb::bson::{Document, doc};
use orderfleet_tests::{Fleet, until_within};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::{ACT, CHOSEN, COUNTRY, PATIENCE, fleet_with_letters, letters, order_to, results};
use crate::operator::{JO, Ran, command, interrupt, read, run};

const TO: &str = "GB";
const PARTLY: i32 = 3;
const NONE: i32 = 4;
const INTERRUPTED: i32 = 130;

/// `dlq edit` by somebody whose editor is this, and who is at no terminal.
fn edit_command(fleet: &Fleet, letter: &str, editor: &str) -> Command {
    let arguments = ["dlq", "edit", letter, "--yes", "--reason", "wrong country", "--output", "json"];
    let mut command = command(fleet, JO, &arguments);
    let drafts = drafts(fleet);
    fs::create_dir_all(&drafts).unwrap();
    command.env_remove("VISUAL").env("EDITOR", editor).env("TMPDIR", drafts).stdin(Stdio::null());
    command
}

async fn edit(fleet: &Fleet, letter: &str, editor: &str) -> Ran {
    edit_command(fleet, letter, editor).output().await.unwrap().into()
}

fn drafts(fleet: &Fleet) -> PathBuf {
    fleet.folder().join("drafts")
}

/// The drafts that are there now.
fn found(fleet: &Fleet) -> Vec<PathBuf> {
    let folders = fs::read_dir(drafts(fleet)).unwrap();
    let drafts = folders.map(|folder| folder.unwrap().path().join("order.json"));
    drafts.filter(|draft| draft.exists()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// An editor that puts one text in the place of another.
fn editor(from: &str, to: &str) -> String {
    format!("sed -i 's/{from}/{to}/'")
}

async fn document(fleet: &Fleet, id: &str) -> Document {
    let orders = fleet.mongodb().await.collection("orders");
    orders.find_one(doc! { "_id": id }).await.unwrap().unwrap()
}

fn country<'a>(document: &'a Document, field: &str) -> &'a str {
    let order = document.get_document(field).unwrap();
    order.get_document("ship_to").unwrap().get_str("country").unwrap()
}

#[tokio::test]
async fn the_next_run_works_on_the_corrected_order_and_what_was_posted_is_kept() {
    let (mut case, ids) = fleet_with_letters(1).await;
    let (fleet, id) = (&case.fleet, &ids[0]);
    let before = document(fleet, id).await;
    let letter = fleet.dead_letters().await.into_keys().next().unwrap();
    let edited = edit(fleet, &letter, &editor(COUNTRY, TO)).await;
    assert_eq!(edited.code, Some(0), "{}", edited.stderr);
    assert_eq!(edited.json(), json!({ "letter": letter, "kept": true }));
    for line in [format!(r#"-     "country": "{COUNTRY}""#), format!(r#"+     "country": "{TO}""#)] {
        assert!(edited.stderr.contains(&line), "{}", edited.stderr);
    }
    assert_eq!(document(fleet, id).await, before, "only the letter has it, until the next run");
    assert_eq!(read(fleet, &["dlq", "show", &letter]).await["is_corrected"], true);

    // Fulfilment still answers every order to the posted country with an error.
    assert_eq!(read(fleet, &[&CHOSEN[..], &ACT].concat()).await["done"], 1);
    let after = document(fleet, id).await;
    assert_eq!((&after.get("order"), &after.get("fp")), (&before.get("order"), &before.get("fp")));
    assert_eq!(country(after.get_document("corrected").unwrap(), "order"), TO);
    let shipments = fleet.sandbox.get("/fulfilment/shipments").await;
    let open: Vec<_> =
        shipments.as_array().unwrap().iter().filter(|shipment| shipment["status"] == "open").collect();
    assert_eq!((open.len(), &open[0]["country"]), (1, &json!(TO)), "{shipments:#}");

    let repeated = fleet.client.post("k0", &order_to(COUNTRY, 0)).await;
    assert_eq!(repeated.status, 202, "{}", repeated.text);
    let answer: Value = repeated.json();
    assert_eq!(
        (&answer["order_id"], &answer["fingerprint"]),
        (&json!(id), &json!(before.get_str("fp").unwrap()))
    );
    assert_eq!(fleet.client.post("k0", &order_to(TO, 0)).await.status, 422, "it is another body");
    case.asked_to_run(&ids, 2);
    case.assert_kept(1).await;
}

/// Another dead letter of the same order's run.
async fn another(fleet: &Fleet, letter: &str) -> String {
    let letters = letters(fleet).await;
    let mut other = letters.find_one(doc! { "_id": letter }).await.unwrap().unwrap();
    let id = format!("{}.other", other.get_str("order_id").unwrap());
    other.insert("_id", &id);
    letters.insert_one(other).await.unwrap();
    id
}

#[tokio::test]
async fn a_correction_is_for_the_next_run_whichever_dead_letter_of_the_order_begins_it() {
    let (mut case, ids) = fleet_with_letters(1).await;
    let fleet = &case.fleet;
    let letter = fleet.dead_letters().await.into_keys().next().unwrap();
    let other = another(fleet, &letter).await;
    let edited = edit(fleet, &letter, &editor(COUNTRY, TO)).await;
    assert_eq!(edited.code, Some(0), "{}", edited.stderr);

    let filter = format!("id={other}");
    let replay = ["dlq", "replay", "--where", &filter];
    let planned = read(fleet, &replay).await;
    assert_eq!(planned["groups"][0]["what"], "starts run 2, from the first step, on the corrected order");
    // Fulfilment still answers every order to the posted country with an error.
    assert_eq!(read(fleet, &[&replay[..], &ACT].concat()).await["done"], 1);
    assert_eq!(country(document(fleet, &ids[0]).await.get_document("corrected").unwrap(), "order"), TO);
    let left = read(fleet, &CHOSEN).await;
    assert_eq!((&left["count"], &left["groups"][0]["course"]), (&json!(1), &json!("settled")), "{left:#}");
    // No worker has made it, and the books would not balance with it.
    letters(fleet).await.delete_one(doc! { "_id": &other }).await.unwrap();
    case.asked_to_run(&ids, 2);
    case.assert_kept(1).await;
}

#[tokio::test]
async fn an_edit_by_way_of_another_dead_letter_goes_on_with_the_correction_that_is_kept() {
    let (mut case, ids) = fleet_with_letters(1).await;
    let fleet = &case.fleet;
    let letter = fleet.dead_letters().await.into_keys().next().unwrap();
    let other = another(fleet, &letter).await;
    let onward = editor(&format!("\"{TO}\""), "\"FR\"");
    for (letter, editor) in [(&letter, editor(COUNTRY, TO)), (&other, onward)] {
        let edited = edit(fleet, letter, &editor).await;
        assert_eq!((edited.code, &edited.json()["kept"]), (Some(0), &json!(true)), "{}", edited.stderr);
    }
    let by_other = ["dlq", "replay", "--where", &format!("id={other}")];
    assert_eq!(read(fleet, &[&by_other[..], &ACT].concat()).await["done"], 1);
    assert_eq!(country(document(fleet, &ids[0]).await.get_document("corrected").unwrap(), "order"), "FR");
    letters(fleet).await.delete_one(doc! { "_id": &other }).await.unwrap();
    case.asked_to_run(&ids, 2);
    case.assert_kept(1).await;
}

#[tokio::test]
async fn a_correction_that_comes_after_a_replay_was_confirmed_waits_for_another_one() {
    let (mut case, ids) = fleet_with_letters(2).await;
    case.fleet.sandbox.heal().await;
    case.fleet.until_drained(&[]).await;
    case.fleet.stop_workers().await;
    let fleet = &case.fleet;
    let open =
        run(fleet, &[&CHOSEN[..], &ACT, &["--batch-timeout", "1s", "--output", "json"]].concat()).await;
    assert_eq!(open.code, Some(PARTLY), "nobody works on the first one: {}", open.stderr);
    let replay = open.json()["replay"].as_str().unwrap().to_owned();
    let second = results(fleet, &replay).await[1]["letter"].as_str().unwrap().to_owned();
    assert_eq!(edit(fleet, &second, &editor(COUNTRY, TO)).await.code, Some(0));

    case.fleet.start_worker().await;
    let fleet = &case.fleet;
    let resumed = run(fleet, &["dlq", "replay", "--resume", &replay, "--output", "json"]).await;
    let told = resumed.json();
    assert_eq!(
        (resumed.code, &told["done"], &told["refused"]),
        (Some(PARTLY), &json!(1), &json!(1)),
        "{told}"
    );
    let note = results(fleet, &replay).await[1]["note"].as_str().unwrap().to_owned();
    assert!(note.contains("otherwise than planned") && note.contains("on the corrected order"), "{note}");
    assert_eq!(read(fleet, &[&CHOSEN[..], &ACT].concat()).await["done"], 1);
    case.asked_to_run(&ids, 2);
    case.assert_kept(2).await;
}

/// An edit that stays in its editor until there is a file `go`.
async fn begin_edit(fleet: &Fleet, letter: &str) -> Child {
    let go = fleet.folder().join("go");
    let editor = format!("until [ -e '{}' ]; do sleep 0.05; done; {}", go.display(), editor(COUNTRY, TO));
    let mut command = edit_command(fleet, letter, &editor);
    let editing = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until_within(PATIENCE, "the draft is there", async || {
        let drafts = found(fleet);
        if drafts.len() == 1 { Ok(()) } else { Err(drafts) }
    })
    .await;
    editing
}

#[tokio::test]
async fn an_edit_that_is_told_to_end_leaves_no_draft_behind_and_ctrl_c_is_the_editors() {
    let (mut case, _) = fleet_with_letters(1).await;
    let fleet = &case.fleet;
    let letter = fleet.dead_letters().await.into_keys().next().unwrap();
    let editing = begin_edit(fleet, &letter).await;
    let draft = found(fleet).remove(0);
    assert_eq!((mode(&draft), mode(draft.parent().unwrap())), (0o600, 0o700));
    let pid = editing.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let ended: Ran = editing.wait_with_output().await.unwrap().into();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(INTERRUPTED), ""), "{}", ended.stderr);
    assert_eq!(fs::read_dir(drafts(fleet)).unwrap().count(), 0);
    let log = read(fleet, &["log", "list"]).await;
    assert_eq!(
        (&log[0]["phase"], &log[0]["result"]),
        (&json!("end"), &json!("nothing was changed")),
        "{log:#}"
    );

    let editing = begin_edit(fleet, &letter).await;
    interrupt(&editing).await;
    fs::write(fleet.folder().join("go"), "").unwrap();
    let ended: Ran = editing.wait_with_output().await.unwrap().into();
    assert_eq!((ended.code, &ended.json()["kept"]), (Some(0), &json!(true)), "{}", ended.stderr);
    assert_eq!(found(fleet), Vec::<PathBuf>::new());
    case.assert_kept(0).await;
}

#[tokio::test]
async fn an_edit_that_breaks_a_rule_or_is_given_up_changes_nothing() {
    let (mut case, _) = fleet_with_letters(1).await;
    let fleet = &case.fleet;
    let before = fleet.dead_letters().await;
    let letter = before.keys().next().unwrap();
    for (editor, told, drafts) in [
        (editor(r#""quantity": [0-9]*"#, r#""quantity": 0"#), "quantity", 1),
        (editor(r#""retail""#, r#""by post""#), "breaks a rule", 1),
        (r"printf '\377' >".to_owned(), "what the editor has left", 1),
        ("false".to_owned(), "the editor", 0),
    ] {
        let refused = edit(fleet, letter, &editor).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{editor}: {}", refused.stderr);
        assert!(refused.stderr.contains(told), "{editor}: {}", refused.stderr);
        let kept = found(fleet);
        assert_eq!(kept.len(), drafts, "what was written is not lost: {}", refused.stderr);
        for draft in kept {
            assert_eq!(mode(&draft), 0o600);
            assert!(refused.stderr.contains(&format!("--file {}", draft.display())), "{}", refused.stderr);
            fs::remove_file(draft).unwrap();
        }
    }
    let same = edit(fleet, letter, "true").await;
    assert_eq!((same.code, &same.json()["kept"]), (Some(0), &json!(false)), "{}", same.stderr);
    assert_eq!(fleet.dead_letters().await, before);
    let log = read(fleet, &["log", "list"]).await;
    let ends = log.as_array().unwrap().iter().filter(|entry| entry["phase"] == "end");
    let ends: Vec<_> = ends.map(|entry| (&entry["what"], &entry["result"])).collect();
    assert_eq!(ends, [(&json!("dlq.edit"), &json!("nothing was changed")); 5], "each was shown the order");
    let absent = edit(fleet, "absent", "true").await;
    assert_eq!(absent.code, Some(NONE), "{}", absent.stderr);
    case.assert_kept(0).await;
}
