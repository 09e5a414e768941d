//! `orderfleet topology` as a process, on a real broker.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod scene;

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use orderfleet_domain::saga::Lane;
use orderfleet_messaging::{Destination, Headers, Inspector, Item, Outgoing};
use orderfleet_native::{RabbitMq, RabbitMqOptions, TempFolder};
use orderfleet_operations::log::{LogRange, OperatorLog};
use scene::{Scene, json, stderr, stdout};

/// Names and states of what differs.
fn drifts(output: &std::process::Output) -> Vec<(String, String)> {
    let diff = json(output);
    let text = |drift: &serde_json::Value, field: &str| drift[field].as_str().unwrap().to_owned();
    let drifts = diff["drifts"].as_array().unwrap();
    drifts.iter().map(|drift| (text(drift, "name"), text(drift, "state"))).collect()
}

/// Who does what, in order.
fn steps(output: &std::process::Output) -> Vec<(String, String)> {
    let plan = json(output);
    let text = |step: &serde_json::Value, field: &str| step[field].as_str().unwrap().to_owned();
    plan["steps"].as_array().unwrap().iter().map(|step| (text(step, "by"), text(step, "action"))).collect()
}

fn words(steps: &[(&str, &str)]) -> Vec<(String, String)> {
    steps.iter().map(|(by, action)| ((*by).to_owned(), (*action).to_owned())).collect()
}

async fn publish(scene: &Scene, lane: Lane) {
    let publisher = scene.declare().await;
    let (headers, body) = (Headers::new("place"), "x".into());
    publisher.publish(&Outgoing { destination: Destination::Lane(lane), headers, body }).await.unwrap();
}

async fn inspector(scene: &Scene) -> Inspector {
    Inspector::connect(&scene.broker, scene.topology(), "test").await.unwrap()
}

/// What still holds messages is left to the end of the tests' broker.
async fn clean_up(scene: &Scene) {
    let inspector = inspector(scene).await;
    let queues = inspector.look().await.into_iter().map(|looked| looked.item);
    let queues: Vec<_> = queues.filter(|item| matches!(item, Item::Queue(_))).collect();
    join_all(queues.iter().map(|queue| inspector.delete(queue, true))).await;
}

#[tokio::test]
async fn on_an_empty_broker_everything_is_missing_and_apply_declares_it_once() {
    let scene = Scene::new().await;
    let all = scene.topology().queue_names().count() + 9;
    let output = scene.run("topology diff --output json").await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let missing = drifts(&output);
    assert!(missing.len() == all && missing.iter().all(|(_, state)| state == "missing"), "{missing:?}");

    let dry = scene.run("topology apply --output json").await;
    assert_eq!(dry.status.code(), Some(0));
    assert!(stderr(&dry).contains("nothing was done"), "{}", stderr(&dry));
    assert_eq!(
        drifts(&scene.run("topology diff --output json").await).len(),
        all,
        "a dry run declares nothing"
    );

    let applied = scene.run("topology apply --yes --reason first --output json").await;
    assert_eq!(applied.status.code(), Some(0), "{}", stderr(&applied));
    let equal = scene.run("topology diff").await;
    assert_eq!((equal.status.code(), stdout(&equal).as_str()), (Some(0), ""), "{}", stderr(&equal));
    assert!(stderr(&equal).contains("not visible"), "{}", stderr(&equal));
    publish(&scene, Lane::Retry).await;

    let again = scene.run("topology apply --yes --reason again --output json").await;
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    let left: Vec<_> = json(&again)["applied"].as_array().unwrap().clone();
    assert_eq!(left.len(), 1, "only the bindings, which AMQP does not show: {left:?}");
    assert_eq!(left[0]["action"], "bind");

    let mut entries = OperatorLog::new(scene.store().await).entries(LogRange::default());
    let first = entries.next().await.unwrap().unwrap();
    assert_eq!((first.record.who.as_str(), first.record.why.as_str()), ("tester", "first"));
    let end = entries.next().await.unwrap().unwrap();
    assert!(end.record.result.unwrap().contains(&format!("{0} of {0} done", all + 1)));
    clean_up(&scene).await;
}

#[tokio::test]
async fn a_queue_with_messages_is_never_deleted_and_the_plan_says_what_people_have_to_do() {
    let mut scene = Scene::new().await;
    publish(&scene, Lane::New(0)).await;
    scene.broker.new_bytes_max *= 2;
    let name = scene.topology().queue(&Lane::New(0));
    let output = scene.run("topology diff --output json").await;
    assert_eq!(drifts(&output), [(name.clone(), "different".to_owned())]);
    let drift = &json(&output)["drifts"][0];
    assert_eq!(
        (drift["argument"].as_str(), drift["declared"].as_str(), drift["current"].as_str()),
        (Some("x-max-length-bytes"), Some("2000000"), Some("1000000"))
    );
    assert_eq!(drift["messages"], 1);

    let plan = scene.run("topology plan --output json").await;
    let by_people =
        [("person", "stop"), ("person", "drain"), ("person", "stop"), ("apply", "bind"), ("person", "start")];
    assert_eq!(steps(&plan), words(&by_people));
    let applied = scene.run(&format!("topology apply --yes --reason more --drained {name}")).await;
    assert_eq!(applied.status.code(), Some(3), "{}", stderr(&applied));
    let counts = inspector(&scene).await.counts(&name).await.unwrap();
    assert_eq!(counts.ready, 1, "the message is still there");
    clean_up(&scene).await;
}

#[tokio::test]
async fn an_empty_queue_is_switched_on_somebodys_word_and_a_second_time_nothing_is_left_to_do() {
    let mut scene = Scene::new().await;
    scene.declare().await;
    scene.broker.new_bytes_max *= 2;
    let name = scene.topology().queue(&Lane::New(0));
    let plan = scene.run("topology plan --output json").await;
    assert_eq!(steps(&plan), words(&[("person", "check"), ("apply", "bind")]));
    let unsure = scene.run("topology apply --yes --reason more").await;
    assert_eq!(unsure.status.code(), Some(3), "{}", stderr(&unsure));

    let drained = format!("--drained {name}");
    let plan = scene.run(&format!("topology plan --output json {drained}")).await;
    assert_eq!(steps(&plan), words(&[("apply", "switch"), ("apply", "bind")]));
    let id = json(&plan)["id"].as_str().unwrap().to_owned();
    let changed = scene.run("topology apply --yes --reason more --expect 000000000000").await;
    assert_eq!(changed.status.code(), Some(8), "{}", stderr(&changed));
    let still = scene.run("topology diff --output json").await;
    assert_eq!(drifts(&still).len(), 1, "a plan that has changed is not done");

    let switched = scene.run(&format!("topology apply --yes --reason more --expect {id} {drained}")).await;
    assert_eq!(switched.status.code(), Some(0), "{} {}", stdout(&switched), stderr(&switched));
    assert_eq!(drifts(&scene.run("topology diff --output json").await), []);
    publish(&scene, Lane::New(0)).await;
    clean_up(&scene).await;
}

#[tokio::test]
async fn a_word_for_a_queue_that_nobody_declares_and_a_change_without_a_reason_are_mistakes() {
    let scene = Scene::new().await;
    let output = scene.run("topology plan --drained no-such-queue").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("declares no such queue"), "{}", stderr(&output));
    assert_eq!(scene.run("topology apply --yes").await.status.code(), Some(2));
}

#[tokio::test]
async fn a_broker_that_is_down_refuses_us_or_has_no_address_has_an_exit_code_of_its_own() {
    let mut scene = Scene::new().await;
    let (_, place) = scene.broker.url.rsplit_once('@').unwrap();
    let wrong = format!("amqp://guest:s3cret-wrong@{place}");
    let (down, none) = ("amqp://guest:guest@127.0.0.1:1/%2f", "guest:s3cret@127.0.0.1");
    for (url, code) in [(down.to_owned(), 6), (wrong, 5), (none.to_owned(), 1)] {
        scene.broker.url = url;
        let output = scene.run("topology diff").await;
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("next:") && !stderr(&output).contains("s3cret"),
            "{}",
            stderr(&output)
        );
    }
}

/// Starts the management plugin of a running broker, on loopback alone, and returns its address.
async fn enable_management(server: &RabbitMq, folder: &Path) -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let plugins = folder.canonicalize().unwrap().join("enabled_plugins");
    std::fs::write(&plugins, "[rabbitmq_management].\n").unwrap();
    let enable = format!(
        "ok = application:set_env(rabbitmq_management, tcp_config, [{{port, {port}}}, {{ip, \"127.0.0.1\"}}], \
         [{{persistent, true}}]), {{ok, _, _}} = rabbit_plugins:ensure(\"{}\"), ok",
        plugins.display()
    );
    server.eval(&enable).await.unwrap();
    format!("http://127.0.0.1:{port}")
}

async fn unbind(server: &RabbitMq, exchange: &str, queue: &str, key: &str) {
    let resource = |kind: &str, name: &str| format!("rabbit_misc:r(<<\"/\">>, {kind}, <<\"{name}\">>)");
    let (source, target) = (resource("exchange", exchange), resource("queue", queue));
    let removed = format!(
        "ok = rabbit_binding:remove({{binding, {source}, <<\"{key}\">>, {target}, []}}, <<\"test\">>)"
    );
    server.eval(&removed).await.unwrap();
}

#[tokio::test]
async fn with_the_management_api_bindings_and_strange_queues_are_seen_and_figures_replace_somebodys_word() {
    let folder = TempFolder::new().unwrap();
    let server = RabbitMq::start(folder.path(), RabbitMqOptions::default()).await.unwrap();
    let url = enable_management(&server, folder.path()).await;
    let shared = Scene::new().await;
    let mut scene = Scene::at(&server.amqp_url(), &shared.database.uri).await;
    scene.broker.partitions = 2;
    scene.declare().await;
    scene.broker.partitions = 1;
    scene.broker.new_bytes_max *= 2;
    let (topology, retry) = (scene.topology(), scene.topology().queue(&Lane::Retry));
    let (orders, new, left) =
        (topology.own_prefix(), topology.queue(&Lane::New(0)), topology.queue(&Lane::New(1)));
    unbind(&server, &orders, &retry, "retry").await;

    let output = scene.run(&format!("topology diff --output json --management-url {url}")).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let state = |name: &str, state: &str| (name.to_owned(), state.to_owned());
    assert_eq!(
        drifts(&output),
        [
            state(&new, "different"),
            state(&format!("{orders}>{retry}:retry"), "missing"),
            state(&format!("{orders}>{left}:new.1"), "unexpected"),
            state(&left, "unexpected"),
        ]
    );
    let doctor = scene.run(&format!("doctor --output json --management-url {url}")).await;
    let findings = json(&doctor);
    let verdict = |check: &str| {
        let finding = findings.as_array().unwrap().iter().find(|finding| finding["name"] == check);
        finding.unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(["topology", "bindings", "leftovers"].map(verdict), ["error", "error", "warning"]);
    assert_eq!(verdict("queue replicas"), "ok");

    // The figures come with the plugin's next round of statistics.
    let wanted = words(&[("apply", "switch"), ("apply", "bind")]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while steps(&scene.run(&format!("topology plan --output json --management-url {url}")).await) != wanted {
        assert!(Instant::now() < deadline, "the queue is known to be empty");
    }
    let applied = scene.run(&format!("topology apply --yes --reason more --management-url {url}")).await;
    assert_eq!(applied.status.code(), Some(0), "{} {}", stdout(&applied), stderr(&applied));
    let left_over = drifts(&scene.run(&format!("topology diff --output json --management-url {url}")).await);
    assert!(left_over.iter().all(|(_, state)| state == "unexpected"), "{left_over:?}");
    publish(&scene, Lane::Retry).await;

    let lookup = format!("rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{retry}\">>))");
    server
        .eval(&format!("{{ok, Q}} = {lookup}, ok = ra:stop_server(quorum_queues, amqqueue:get_pid(Q))"))
        .await
        .unwrap();
    // RabbitMQ 4.0.5 goes on telling this member as online: there the test fails.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let findings = json(&scene.run(&format!("doctor --output json --management-url {url}")).await);
        let replicas =
            findings.as_array().unwrap().iter().find(|finding| finding["name"] == "queue replicas");
        let replicas = replicas.unwrap();
        let found = replicas["found"].as_str().unwrap();
        if replicas["verdict"] == "error" && found.contains(&format!("{retry} has 0 of 1 members online")) {
            break;
        }
        assert!(Instant::now() < deadline, "{replicas}");
    }
}
