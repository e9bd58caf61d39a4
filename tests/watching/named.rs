//! The alert rules, the dashboard and the documents name what is served, and the documents name all of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use maestro_vitals::gauges::{AgentDepth, ClusterGauges, SnapshotGauge};
use maestro_vitals::tally::tally;
use maestro_vitals::text::{cluster_text, worker_text};

/// What a series of a histogram may end with beside the name of its family.
const HISTOGRAM_ENDS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Families as people name them: a counter with its `_total`.
fn served() -> BTreeSet<String> {
    tally().attempt_recorded("shell", "completed", "");
    tally().workspaces_measured(1);
    let gauges = ClusterGauges {
        agents: vec![AgentDepth { agent: "shell".to_owned(), ..AgentDepth::default() }],
        snapshot: Some(SnapshotGauge { age: Duration::ZERO, bytes: 1 }),
        problems: vec![("disk", 0)],
        ..ClusterGauges::default()
    };
    let text = worker_text() + &cluster_text(Some(&gauges));
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let named = families
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() });
    named.collect()
}

fn text_of(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Everything in a text that looks like one of our metrics.
fn named_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("maestro_")).map(str::to_owned).collect()
}

#[test]
fn rules_and_dashboard_use_only_what_is_served() {
    let served = served();
    for file in ["charts/maestro/files/alerts.yaml", "charts/maestro/files/dashboard.json"] {
        let named = named_in(&text_of(file));
        assert!(named.len() > 8, "{file} names {named:?}");
        for name in named {
            let family = HISTOGRAM_ENDS.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
            assert!(
                served.contains(&name) || served.contains(family),
                "{file} names `{name}`, served is {served:?}"
            );
        }
    }
}

#[test]
fn the_documents_have_a_row_for_each_metric_and_for_nothing_else() {
    let text = text_of("docs/operating.md");
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `maestro_")?.split(['`', '{']).next());
    let documented: BTreeSet<String> = cells.map(|name| format!("maestro_{name}")).collect();
    assert_eq!(documented, served());
}

#[test]
fn every_health_rule_is_documented() {
    let text = text_of("docs/operating.md");
    for rule in maestro_coordinator::health::HealthRule::ALL {
        let row = format!("| `{}` |", rule.word());
        assert!(text.contains(&row), "docs/operating.md has no row {row}");
    }
}
