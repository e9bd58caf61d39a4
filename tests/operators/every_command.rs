//! What every command prints: its table on a terminal of 80 columns, and the fields of its JSON.
//!
//! Deliberately not here: commands that go on until they are ended (`worker start` and the like), what
//! commands say about wrong input (`tests/commands`), and the numbers in the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::support::{Answer, ClusterSetup, TestCluster, skip};

/// Columns of the terminal.
const WIDTH: usize = 80;
/// Commands that serve until they are ended, or whose output is read by a shell.
const NO_RECORDS: [&str; 5] = ["completion", "coordinator start", "state watch", "up", "worker start"];
/// Lists, as they are looked at on a terminal.
const LISTS: [&str; 11] = [
    "agent list",
    "agent types",
    "config show",
    "events --run last",
    "queue status",
    "state list",
    "task list",
    "worker list",
    "workflow runs",
    "workflow status last",
    "workspace list",
];
/// Calls in the order in which they are made: for people, then for programs.
const CALLS: [(&str, &str); 64] = [
    ("version", "version"),
    ("config show", "config show --origin"),
    ("config reset --to-default", "config reset --to-default"),
    ("workflow validate pair.yaml", "workflow validate pair.yaml"),
    ("workflow graph pair.yaml", "workflow graph pair.yaml"),
    ("workflow schema", "workflow schema"),
    ("workflow create pair --definition pair.yaml", "workflow create twin --definition pair.yaml"),
    ("workflow list", "workflow list"),
    ("workflow show pair", "workflow show pair"),
    ("workflow delete pair", "workflow delete twin"),
    ("agent register types", "agent register types"),
    ("agent types", "agent types"),
    (
        "agent assign painter --to-workspace HOME/a --name smith --worker w0",
        "agent assign painter --to-workspace HOME/b --name jones --worker w1",
    ),
    ("agent list", "agent list"),
    ("agent show smith", "agent show smith"),
    ("agent health smith --detail", "agent health smith --detail"),
    ("agent stop smith", "agent stop smith"),
    ("agent restart smith", "agent restart smith"),
    ("agent reset smith --yes", "agent reset smith --yes"),
    ("state set key one", "state set other two"),
    ("state get key", "state get key"),
    ("state list", "state list"),
    ("state delete key", "state delete other"),
    ("workflow run pair.yaml --trace", "workflow run pair.yaml --trace"),
    ("workflow runs", "workflow runs"),
    ("workflow status last", "workflow status last"),
    ("workflow logs last", "workflow logs last"),
    ("workflow trace last --output trace.json", "workflow trace last --output trace.json"),
    ("workflow stop last", "workflow stop last"),
    ("task dispatch true --to smith --sync", "task dispatch true --to smith,painter --sync"),
    ("task list", "task list"),
    ("task list --last", "task list --last"),
    ("task status --last smith", "task status --last smith"),
    ("task logs last", "task logs last"),
    ("task wait last", "task wait last"),
    ("task explain last", "task explain last"),
    ("task cancel last", "task cancel last"),
    ("task retry last --downstream --dry-run", "task retry last --downstream --dry-run"),
    ("task retry last --downstream", "task retry last --downstream --dry-run"),
    ("events --run last", "events --run last"),
    ("monitor problems", "monitor problems"),
    ("monitor start --once", "monitor start --once"),
    ("queue status", "queue status"),
    ("queue pause --reason test", "queue pause --reason again"),
    ("queue resume", "queue resume"),
    ("worker list", "worker list"),
    ("workspace list", "workspace list"),
    ("workspace du", "workspace du"),
    ("workspace clean painter --dry-run", "workspace clean painter --dry-run"),
    ("workspace clean painter --yes", "workspace clean painter --yes"),
    ("state snapshot --output one.tar.gz", "state snapshot --output two.tar.gz"),
    ("state snapshots", "state snapshots"),
    ("state verify one.tar.gz", "state verify one.tar.gz"),
    ("state diff one.tar.gz", "state diff one.tar.gz"),
    ("state restore one.tar.gz --dry-run", "state restore one.tar.gz --dry-run"),
    ("shutdown --no-safety-copy", "shutdown --keep"),
    ("state rollback one.tar.gz", "state rollback two.tar.gz --skip-verify"),
    ("doctor", "doctor"),
    ("doctor --agent painter", "doctor --agent painter"),
    ("bench --tasks 20", "bench --tasks 20"),
    ("worker drain w0 --deadline 10s", "worker drain w1 --deadline 10s"),
    ("redis flush --dry-run", "redis flush --dry-run"),
    ("redis flush --yes", "redis flush --yes"),
    ("version", "version"),
];

/// A cluster with things in it, and the files that the calls name.
fn cluster() -> TestCluster {
    let mut cluster = TestCluster::start(ClusterSetup { workers: 0, ..ClusterSetup::default() });
    let painter = "description: Paints what it is told to paint, on walls, on paper, and on whatever else there may be\n\
                   command: [sh, -c, \"<< prompt >>\"]\ncapabilities: [colour]\nlimits: {max_concurrent: 2}\n";
    cluster.write_agent("painter", painter);
    for worker in ["w0", "w1"] {
        cluster.start_worker(worker);
        cluster.wait_for_worker(worker);
    }
    let written = cluster.shell(
        r#"set -eu
        mkdir -p types
        printf 'command: [cat]\nprompt_via: stdin\n' > types/reader.yaml
        printf 'name: pair\nsteps:\n  - {id: one, agent: probe, prompt: "echo a line"}\n  - {id: two, agent: probe, prompt: "true", depends_on: one}\n' > pair.yaml"#,
    );
    assert_eq!(written.code, 0, "{written:?}");
    cluster
}

/// The words of a call; `HOME` is a folder of the test's.
fn words<'a>(call: &'a str, home: &'a str) -> Vec<String> {
    call.split(' ').map(|word| word.replace("HOME", home)).collect()
}

fn call(cluster: &TestCluster, call: &str, form: &str) -> Answer {
    let home = cluster.scratch("folders").display().to_string();
    let mut words = words(call, &home);
    words.extend(["--format".to_owned(), form.to_owned()]);
    cluster.maestro(&words.iter().map(String::as_str).collect::<Vec<&str>>())
}

/// The form of what people see: titles of columns and names of fields, or else the beginning of what is said.
/// What stands below them differs from run to run and has tests of its own.
fn outline(text: &str) -> String {
    let is_title = |line: &str| {
        line.contains(char::is_alphabetic)
            && !line.contains(|letter: char| letter.is_lowercase() || letter.is_numeric())
    };
    let field = |line: &str| {
        let name = line.split_once(':')?.0;
        (!name.trim().contains("  ")
            && name.chars().all(|letter| letter.is_ascii_lowercase() || "_/ ".contains(letter)))
        .then(|| format!("{name}:"))
    };
    let form = text.lines().filter_map(|line| {
        let title = is_title(line).then(|| line.split_whitespace().collect::<Vec<_>>().join(" "));
        title.or_else(|| field(line))
    });
    let form: Vec<String> = form.collect();
    if form.is_empty() {
        let words = text.lines().next().unwrap_or_default().split_whitespace();
        let plain = words.map(|word| {
            if word.contains(|letter: char| letter.is_ascii_digit() || letter == '/') { "…" } else { word }
        });
        return plain.collect::<Vec<_>>().join(" ");
    }
    form.join("\n")
}

/// Every field of a document, as a path; entries of lists have one in common.
fn fields_of(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                fields_of(value, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(values) => {
            for value in values {
                fields_of(value, &format!("{path}[]"), found);
            }
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

/// The commands of the help, with those below them.
fn commands(cluster: &TestCluster, above: &[&str]) -> BTreeSet<String> {
    let help = cluster.maestro(&[above, &["--help"]].concat());
    assert_eq!(help.code, 0, "{help:?}");
    let listed = help.out.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    let mut found = BTreeSet::new();
    for name in names.filter(|name| *name != "help") {
        let below = commands(cluster, &[above, &[name]].concat());
        let whole = [above, &[name]].concat().join(" ");
        found.extend(if below.is_empty() { BTreeSet::from([whole]) } else { below });
    }
    found
}

#[test]
fn every_command_prints_a_table_and_json_that_keep_their_form() {
    let cluster = cluster();
    let mut unseen = commands(&cluster, &[]);
    assert!(unseen.len() > 50, "the help lists them: {unseen:?}");
    for command in NO_RECORDS {
        assert!(unseen.remove(command), "`{command}` is a command");
    }
    let (mut tables, mut fields, mut failed) = (String::new(), BTreeMap::new(), Vec::new());
    for (people, programs) in CALLS {
        unseen.retain(|command| people != command && !people.starts_with(&format!("{command} ")));
        let table = call(&cluster, people, "table");
        failed.extend((table.code != 0).then(|| format!("{people}: {table:?}")));
        tables.push_str(&format!("$ maestro {people}\n{}\n\n", outline(&table.out)));
        let json = call(&cluster, programs, "json");
        failed.extend((json.code != 0).then(|| format!("{programs}: {json:?}")));
        let mut found = BTreeSet::new();
        for document in serde_json::Deserializer::from_str(&json.out).into_iter::<Value>() {
            match document {
                Ok(document) => fields_of(&document, "", &mut found),
                Err(error) => {
                    failed.push(format!("{programs}: {error}: {json:?}"));
                    break;
                }
            }
        }
        fields.insert(programs, found.into_iter().collect::<Vec<_>>());
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(unseen.is_empty(), "no call of {unseen:?}");
    insta::assert_snapshot!("tables", tables);
    let fields: Vec<String> =
        fields.iter().map(|(call, found)| format!("$ maestro {call}\n{}\n", found.join("\n"))).collect();
    insta::assert_snapshot!("json_fields", fields.join("\n"));
}

#[test]
fn lists_fit_on_a_terminal_of_eighty_columns_and_without_colour_if_asked() {
    let cluster = cluster();
    for setup in [
        "workflow run pair.yaml",
        "state set a-key-with-a-name a-value-that-is-longer-than-the-terminal-is-wide-so-that-it-has-to-be-cut",
    ] {
        let answer = call(&cluster, setup, "json");
        assert_eq!(answer.code, 0, "{answer:?}");
    }
    if !Path::new("/usr/bin/script").exists() {
        skip("lists on a terminal", "script(1) is not installed (Debian: bsdutils)");
        return;
    }
    for list in LISTS {
        for colour in ["", "NO_COLOR=1 "] {
            let line =
                format!("script -qec 'stty cols {WIDTH}; {colour}TERM=xterm maestro {list}' /dev/null");
            let answer = cluster.shell(&line);
            assert_eq!(answer.code, 0, "{answer:?}");
            let is_plain = !answer.out.contains('\u{1b}');
            // Events have no colours.
            assert!(is_plain != colour.is_empty() || list.starts_with("events"), "{line}: {answer:?}");
            if is_plain {
                let longest = answer.out.lines().map(|line| line.trim_end().chars().count()).max();
                assert!(
                    longest.is_some_and(|longest| longest <= WIDTH),
                    "{list}: {longest:?}\n{}",
                    answer.out
                );
            }
        }
    }
}
