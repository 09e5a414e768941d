//! The shipped dashboards: whole, and understood by whoever looks at them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::read;

const NAMES: [&str; 3] = ["fleet", "orders", "dead-letters"];
/// The schema of Grafana 10.0, which newer ones read and raise by themselves.
const SCHEMA_VERSION: u64 = 39;
const COLUMNS: u64 = 24;
/// Units that the dashboards use, of those that Grafana knows.
const UNITS: [&str; 5] = ["short", "s", "ops", "percentunit", "bytes"];
/// Grafana's choice for a window: at least four scrapes.
const RATE_INTERVAL: &str = "$__rate_interval";
const DATA_SOURCE: &str = "${datasource}";

/// A query of a panel.
pub(crate) struct Query {
    pub(crate) dashboard: &'static str,
    pub(crate) panel: String,
    pub(crate) expression: String,
}

/// Every query of every dashboard, its windows being `window` where Grafana would choose them.
pub(crate) fn queries(window: &str) -> Vec<Query> {
    let of_panel = |dashboard: &'static str, panel: &Value| {
        let title = text(panel, "title").to_owned();
        let of_target = |target: &Value| Query {
            dashboard,
            panel: title.clone(),
            expression: text(target, "expr").replace(RATE_INTERVAL, window),
        };
        targets(panel).iter().map(of_target).collect::<Vec<_>>()
    };
    let dashboards = NAMES.iter().map(|name| (*name, panels(&load(name))));
    dashboards
        .flat_map(|(name, panels)| panels.into_iter().flat_map(move |panel| of_panel(name, &panel)))
        .collect()
}

fn load(name: &str) -> Value {
    serde_json::from_str(&read(&format!("observability/grafana/dashboards/{name}.json"))).unwrap()
}

/// All but the rows, which only divide them.
fn panels(dashboard: &Value) -> Vec<Value> {
    let panels = dashboard["panels"].as_array().unwrap();
    panels.iter().filter(|panel| panel["type"] != "row").cloned().collect()
}

fn targets(panel: &Value) -> &[Value] {
    panel["targets"].as_array().unwrap()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().filter(|text| !text.is_empty()).unwrap_or_else(|| panic!("no {field}: {value:#}"))
}

/// Squares of the grid that a panel covers.
fn squares(panel: &Value) -> Vec<(u64, u64)> {
    let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
    assert!(x + w <= COLUMNS, "{panel:#}");
    (y..y + h).flat_map(|row| (x..x + w).map(move |column| (column, row))).collect()
}

#[test]
fn every_dashboard_is_found_under_a_name_of_its_own_and_asks_which_prometheus() {
    let mut uids = BTreeSet::new();
    for name in NAMES {
        let dashboard = load(name);
        assert_eq!(text(&dashboard, "uid"), format!("orderfleet-{name}"));
        assert!(uids.insert(text(&dashboard, "title").to_owned()));
        assert_eq!(dashboard["schemaVersion"], SCHEMA_VERSION);
        let variable = &dashboard["templating"]["list"][0];
        assert_eq!((text(variable, "name"), text(variable, "type")), ("datasource", "datasource"));
        assert_eq!(dashboard["templating"]["list"].as_array().unwrap().len(), 1, "{name}");
    }
}

#[test]
fn every_panel_has_an_id_a_place_a_unit_and_says_what_it_shows() {
    for name in NAMES {
        let dashboard = load(name);
        let (mut ids, mut titles, mut taken) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {panel:#}");
            assert!(squares(panel).into_iter().all(|square| taken.insert(square)), "{name}: {panel:#}");
        }
        for panel in panels(&dashboard) {
            assert!(titles.insert(text(&panel, "title").to_owned()), "{name}: {panel:#}");
            assert!(text(&panel, "description").ends_with('.'), "{name}: {panel:#}");
            assert!(["timeseries", "stat"].contains(&text(&panel, "type")), "{name}: {panel:#}");
            let unit = text(&panel["fieldConfig"]["defaults"], "unit");
            assert!(UNITS.contains(&unit), "{name}: {panel:#}");
        }
    }
}

#[test]
fn every_query_has_a_legend_and_asks_the_chosen_prometheus() {
    for name in NAMES {
        for panel in panels(&load(name)) {
            assert_eq!(panel["datasource"]["uid"], DATA_SOURCE, "{panel:#}");
            let mut letters = BTreeSet::new();
            for target in targets(&panel) {
                assert_eq!(target["datasource"]["uid"], DATA_SOURCE, "{target:#}");
                assert!(letters.insert(text(target, "refId")), "{panel:#}");
                assert!(!text(target, "legendFormat").is_empty());
            }
            assert!(!letters.is_empty(), "{panel:#}");
        }
    }
    let left = queries("1m").into_iter().find(|query| query.expression.contains('$'));
    assert!(left.is_none(), "a variable that nobody sets: {:?}", left.map(|query| query.expression));
}
