//! From the table of panels to the document that Grafana imports.

use serde_json::{Value, json};

use super::panels::{Kind, Panel, ROWS};

/// What the variables select.
const HOST: &str = "job=~\"$job\",instance=~\"$instance\"";
const FILESYSTEM: &str = "job=~\"$job\",instance=~\"$instance\",fstype=~\"$fstype\"";
const QUANTILES: [&str; 3] = ["0.5", "0.9", "0.99"];
/// Grafana's grid has 24 columns; these are heights in it.
const HEADING_HEIGHT: u32 = 1;
const STAT_HEIGHT: u32 = 4;
const HEIGHT: u32 = 8;
const COLUMNS: u32 = 24;

/// Counters that carry exemplars, if the exporter is told to.
const WITH_EXEMPLARS: [&str; 2] = ["prefault_copies_short_total", "prefault_prefaults_failed_total"];

/// The dashboard as text.
pub fn document() -> String {
    let document = json!({
        "title": "prefault",
        "uid": "prefault",
        "description": "Prefaults and atomic copies of buffered writes, as prefault export shows them.",
        "tags": ["linux", "filesystem", "prefault"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": variables()},
        "panels": panels(),
    });
    // Maps of text to values cannot fail to be written.
    format!("{document:#}\n")
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn variables() -> Value {
    let of_label = |label: &str, selector: &str| {
        let query = format!("label_values(prefault_up{selector}, {label})");
        variable(label, &query)
    };
    json!([
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        of_label("job", ""),
        of_label("instance", "{job=~\"$job\"}"),
        variable("fstype", &format!("label_values(prefault_writes_total{{{HOST}}}, fstype)")),
    ])
}

fn variable(name: &str, query: &str) -> Value {
    json!({
        "name": name,
        "type": "query",
        "datasource": datasource(),
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": true,
        "includeAll": true,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    })
}

fn panels() -> Vec<Value> {
    let mut panels = Vec::new();
    let mut top = 0;
    for row in ROWS {
        let id = panels.len() + 1;
        let place = json!({"x": 0, "y": top, "w": COLUMNS, "h": HEADING_HEIGHT});
        panels.push(
            json!({"id": id, "type": "row", "title": row.title, "collapsed": false, "gridPos": place, "panels": []}),
        );
        top += HEADING_HEIGHT;
        let mut left = 0;
        let mut tallest = 0;
        for panel in row.panels {
            if left + panel.width > COLUMNS {
                top += tallest;
                (left, tallest) = (0, 0);
            }
            let height = if row.panels.iter().all(|panel| panel.kind == Kind::Stat) { STAT_HEIGHT } else { HEIGHT };
            let place = json!({"x": left, "y": top, "w": panel.width, "h": height});
            panels.push(one(panels.len() + 1, panel, &place));
            left += panel.width;
            tallest = tallest.max(height);
        }
        top += tallest;
    }
    panels
}

fn one(id: usize, panel: &Panel, place: &Value) -> Value {
    let kind = match panel.kind {
        Kind::Stat => "stat",
        Kind::Lines | Kind::Quantiles => "timeseries",
        Kind::Heatmap => "heatmap",
        Kind::Table => "table",
    };
    let mut document = json!({
        "id": id,
        "type": kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": datasource(),
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": options(panel),
        "targets": targets(panel),
    });
    if panel.kind == Kind::Table {
        // The value of an info metric is always 1, and the labels say everything.
        let hidden = json!({"Time": true, "Value": panel.title != "Call sites"});
        document["transformations"] = json!([{"id": "organize", "options": {"excludeByName": hidden}}]);
    }
    document
}

fn options(panel: &Panel) -> Value {
    match panel.kind {
        Kind::Stat => json!({"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"}),
        Kind::Lines | Kind::Quantiles => {
            json!({"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}})
        }
        Kind::Heatmap => json!({"calculate": false, "yAxis": {"unit": panel.unit}, "cellGap": 0}),
        Kind::Table => json!({"showHeader": true}),
    }
}

fn targets(panel: &Panel) -> Vec<Value> {
    let mut targets = Vec::new();
    for &(query, legend) in panel.queries {
        // Behind a name there may be matchers of its own.
        let (name, matchers) = query.split_once('{').unwrap_or((query, "}"));
        let matchers = [matchers.trim_end_matches('}'), "%fs"].into_iter().filter(|part| !part.is_empty());
        let matchers = matchers.collect::<Vec<_>>().join(", ");
        let rate = |by: &str| format!("sum{by}(rate({name}{{{matchers}}}[$__rate_interval]))");
        match panel.kind {
            Kind::Quantiles => targets.extend(QUANTILES.map(|quantile| {
                let expression = format!("histogram_quantile({quantile}, {})", rate(" by (le, fstype) "));
                target(&expression, &format!("{legend} {quantile}"), panel.kind)
            })),
            Kind::Heatmap => targets.push(target(&rate(""), legend, panel.kind)),
            _ => targets.push(target(query, legend, panel.kind)),
        }
    }
    for (number, target) in targets.iter_mut().enumerate() {
        target["refId"] = json!(char::from(b'A' + number as u8).to_string());
    }
    targets
}

fn target(expression: &str, legend: &str, kind: Kind) -> Value {
    let expression = expression.replace("%fs", FILESYSTEM).replace("%host", HOST);
    let format = match kind {
        Kind::Heatmap => "heatmap",
        Kind::Table => "table",
        _ => "time_series",
    };
    let instant = kind == Kind::Table;
    let mut target = json!({
        "datasource": datasource(),
        "expr": &expression,
        "legendFormat": legend,
        "format": format,
        "instant": instant,
        "range": !instant,
    });
    if kind == Kind::Lines && WITH_EXEMPLARS.iter().any(|counter| expression.contains(counter)) {
        target["exemplar"] = json!(true);
    }
    target
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn panels_of_the_document() -> Vec<Value> {
        let document: Value = serde_json::from_str(&document()).expect("a document");
        document["panels"].as_array().expect("panels").clone()
    }

    #[test]
    fn numbers_of_panels_are_unique() {
        let panels = panels_of_the_document();
        let ids: HashSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("a number")).collect();
        assert_eq!(ids.len(), panels.len());
    }

    #[test]
    fn panels_have_everything_and_ask_the_chosen_source() {
        for panel in panels_of_the_document().iter().filter(|panel| panel["type"] != "row") {
            for member in ["title", "description"] {
                assert!(panel[member].as_str().is_some_and(|text| !text.is_empty()), "{panel:#}");
            }
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{panel:#}");
            let targets = panel["targets"].as_array().expect("targets");
            assert!(!targets.is_empty());
            for source in targets.iter().map(|target| &target["datasource"]).chain([&panel["datasource"]]) {
                assert_eq!(source["uid"], "${datasource}", "{panel:#}");
            }
            for target in targets {
                let expression = target["expr"].as_str().expect("an expression");
                assert!(expression.contains("$instance") && !expression.contains('%'), "{expression}");
                assert_eq!(expression.matches('(').count(), expression.matches(')').count(), "{expression}");
            }
        }
    }

    #[test]
    fn exemplars_are_asked_for_where_lines_show_what_has_them() {
        let panels = panels_of_the_document();
        let with = |target: &&Value| target["exemplar"] == true;
        let shown: HashSet<&str> = panels
            .iter()
            .filter(|panel| {
                panel["targets"].as_array().is_some_and(|targets| targets.iter().any(|target| with(&target)))
            })
            .filter_map(|panel| panel["title"].as_str())
            .collect();
        assert_eq!(shown, HashSet::from(["Page faults and failures", "Short copies"]));
    }

    #[test]
    fn panels_do_not_cover_one_another() {
        let mut taken = HashSet::new();
        for panel in panels_of_the_document() {
            let place = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
            assert!(place("x") + place("w") <= u64::from(COLUMNS));
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(taken.insert((x, y)), "{} covers another panel", panel["title"]);
                }
            }
        }
    }
}
