//! Frames of the live tree as pictures: every state, every width, hostile output, many steps.

use maestro_model::task::Reason;

use super::frame::{FrameSize, Glyphs, Look};
use super::screen::{FRAME_EVERY, LiveScreen};
use super::*;
use crate::output::foreign::columns;
use crate::output::tone::Paint;

const PLAIN: Look = Look { paint: Paint::Plain, glyphs: Glyphs::Unicode };

fn step(id: &str, depends_on: &[&str]) -> StepPlan {
    let depends_on = depends_on.iter().map(|id| (*id).to_owned()).collect();
    StepPlan { id: id.to_owned(), depends_on, is_group: false, items: None }
}

fn group(id: &str, depends_on: &[&str], items: Option<u32>) -> StepPlan {
    StepPlan { is_group: true, items, ..step(id, depends_on) }
}

/// A view to which events are told shortly.
struct Story {
    view: RunView,
}

impl Story {
    fn new(plan: Vec<StepPlan>) -> Story {
        Story { view: RunView::new("demo", "0k3v9x2mqf1a", 0, plan) }
    }

    fn tell(&mut self, at: u64, label: &str, kind: StepEventKind) -> &mut Story {
        let (step, item) = match label.split_once('[') {
            Some((step, item)) => (step, Some(item.trim_end_matches(']').parse().expect("a number"))),
            None => (label, None),
        };
        self.view.on_event(&StepEvent { at, step: step.to_owned(), item, kind });
        self
    }

    fn started(&mut self, at: u64, label: &str, attempt: u32, worker: &str) -> &mut Story {
        self.tell(at, label, StepEventKind::Started { attempt, worker: worker.to_owned() })
    }

    fn prints(&mut self, at: u64, label: &str, line: &str) -> &mut Story {
        self.tell(at, label, StepEventKind::Output { line: line.to_owned() })
    }

    fn fails(&mut self, at: u64, label: &str, message: &str) -> &mut Story {
        let message = Some(message.to_owned());
        self.tell(at, label, StepEventKind::Failed { reason: Reason::Exit, exit_code: Some(3), message })
    }

    fn frame(&self, width: usize, height: usize, now: u64) -> String {
        let lines = self.view.frame(FrameSize { width, height }, now, PLAIN);
        assert!(lines.len() <= height, "{} lines in a height of {height}", lines.len());
        for line in &lines {
            assert!(columns(line) <= width, "{line:?} is wider than {width}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        lines.join("\n")
    }
}

/// A run in the middle of everything.
fn everything() -> Story {
    let mut story = Story::new(vec![
        step("fix-commit", &[]),
        step("count-lines", &["fix-commit"]),
        step("largest", &["fix-commit"]),
        group("sweep", &["fix-commit"], None),
        step("flaky", &["count-lines"]),
        step("report", &["count-lines", "largest", "sweep"]),
        step("cleanup", &["largest"]),
        step("alone", &[]),
    ]);
    story.started(0, "fix-commit", 1, "a").prints(500, "fix-commit", "commit 1234abc");
    story.tell(1_200, "fix-commit", StepEventKind::Completed);
    story.started(1_300, "count-lines", 1, "b").tell(2_300, "count-lines", StepEventKind::Completed);
    story.started(1_300, "largest", 1, "a").fails(3_300, "largest", "no such file");
    story.tell(1_400, "sweep", StepEventKind::Expanded { count: 12 });
    story.started(1_500, "sweep[0]", 1, "a").tell(1_900, "sweep[0]", StepEventKind::Completed);
    story.started(1_500, "sweep[1]", 1, "b").fails(1_900, "sweep[1]", "no test");
    story.started(2_000, "sweep[2]", 1, "a").prints(2_100, "sweep[2]", "compiling serde");
    story.started(2_000, "sweep[3]", 2, "b");
    story.started(2_400, "flaky", 1, "b");
    let retrying =
        StepEventKind::Retrying { reason: Reason::Timeout, exit_code: None, message: None, until: 15_000 };
    story.tell(5_000, "flaky", retrying);
    story.tell(3_400, "cleanup", StepEventKind::Skipped);
    story.tell(0, "alone", StepEventKind::Queued);
    story
}

#[test]
fn a_frame_shows_where_every_step_is() {
    insta::assert_snapshot!(everything().frame(80, 24, 8_200), @r"
    demo  0k3v9x2mqf1a
    ✔ fix-commit        1.2s  commit 1234abc
    ├─ ✔ count-lines    1.0s
    │  └─ ↻ flaky             again in 6.8s  timeout
    ├─ ✘ largest        2.0s  exit 3: no such file
    │  └─ – cleanup
    └─ ⠹ sweep 2/12     6.8s  1 failed  [1] exit 3: no test
         ⠹ [2]          6.2s  on a  compiling serde
         ⠹ [3]          6.2s  attempt 2  on b
       └─ · report
    ○ alone                   waits for a worker
    8.2s, 8 steps: 2 completed, 1 failed, 1 skipped, 2 running, 2 waiting
    ");
}

#[test]
fn a_narrow_frame_keeps_names_and_drops_the_rest() {
    insta::assert_snapshot!(everything().frame(40, 24, 8_200), @r"
    demo  0k3v9x2mqf1a
    ✔ fix-commit        1.2s  commit 1234abc
    ├─ ✔ count-lines    1.0s
    │  └─ ↻ flaky             again in 6.8s…
    ├─ ✘ largest        2.0s  exit 3: no su…
    │  └─ – cleanup
    └─ ⠹ sweep 2/12     6.8s  1 failed  [1]…
         ⠹ [2]          6.2s  on a  compili…
         ⠹ [3]          6.2s  attempt 2  on…
       └─ · report
    ○ alone                   waits for a w…
    8.2s, 8 steps: 2 completed, 1 failed, 1…
    ");
    insta::assert_snapshot!(everything().frame(20, 24, 8_200), @r"
    demo  0k3v9x2mqf1a
    ✔ fix-commit
    ├─ ✔ count-…
    └─ ↻ flaky
    ├─ ✘ largest
    └─ – cleanup
    └─ ⠹ sweep …
         ⠹ [2]
         ⠹ [3]
    └─ · report
    ○ alone
    8.2s, 8 steps: 2 co…
    ");
}

#[test]
fn a_low_frame_shows_what_is_at_work_and_what_went_wrong() {
    insta::assert_snapshot!(everything().frame(80, 8, 8_200), @r"
    demo  0k3v9x2mqf1a
          ↻ flaky            again in 6.8s  timeout
       ✘ largest       2.0s  exit 3: no such file
       ⠹ sweep 2/12    6.8s  1 failed  [1] exit 3: no test
         ⠹ [2]         6.2s  on a  compiling serde
         ⠹ [3]         6.2s  attempt 2  on b
      … 5 more steps
    8.2s, 8 steps: 2 completed, 1 failed, 1 skipped, 2 running, 2 waiting
    ");
}

#[test]
fn an_ascii_terminal_gets_ascii_alone() {
    let look = Look { glyphs: Glyphs::Ascii, ..PLAIN };
    let lines = everything().view.frame(FrameSize { width: 80, height: 24 }, 8_200, look).join("\n");
    assert!(lines.is_ascii(), "{lines}");
    insta::assert_snapshot!(lines, @r"
    demo  0k3v9x2mqf1a
    + fix-commit        1.2s  commit 1234abc
    |- + count-lines    1.0s
    |  `- ~ flaky             again in 6.8s  timeout
    |- x largest        2.0s  exit 3: no such file
    |  `- - cleanup
    `- - sweep 2/12     6.8s  1 failed  [1] exit 3: no test
         - [2]          6.2s  on a  compiling serde
         - [3]          6.2s  attempt 2  on b
       `- . report
    o alone                   waits for a worker
    8.2s, 8 steps: 2 completed, 1 failed, 1 skipped, 2 running, 2 waiting
    ");
}

#[test]
fn colour_changes_nothing_but_colour() {
    let size = FrameSize { width: 80, height: 24 };
    let painted = everything().view.frame(size, 8_200, Look { paint: Paint::Coloured, ..PLAIN }).join("\n");
    let stripped = anstream::adapter::strip_str(&painted).to_string();
    let stripped: Vec<&str> = stripped.lines().map(str::trim_end).collect();
    assert_eq!(stripped.join("\n"), everything().frame(80, 24, 8_200));
}

#[test]
fn every_size_is_kept_to() {
    for width in 0..60 {
        for height in 0..16 {
            everything().frame(width, height, 8_200);
        }
    }
}

#[test]
fn the_end_is_shown_whole_with_its_totals() {
    let mut story = everything();
    for label in ["alone", "report", "flaky", "sweep"] {
        story.tell(9_000, label, StepEventKind::Cancelled);
    }
    story.view.on_run_end(RunEnd::Failed, 9_100);
    let lines = story.view.closing_frame(80, 60_000, PLAIN).join("\n");
    insta::assert_snapshot!(lines, @r"
    ✔ fix-commit        1.2s  commit 1234abc
    ├─ ✔ count-lines    1.0s
    │  └─ ■ flaky
    ├─ ✘ largest        2.0s  exit 3: no such file
    │  └─ – cleanup
    └─ ■ sweep 2/12     7.6s  1 failed  [1] exit 3: no test
       └─ ■ report
    ■ alone
    run 0k3v9x2mqf1a failed in 9.1s, 8 steps: 2 completed, 1 failed, 1 skipped, 4 cancelled
    ");
}

#[test]
fn what_agents_print_never_reaches_the_terminal_as_it_is() {
    let mut story = Story::new(vec![step("evil", &[]), step("wide", &[])]);
    story.started(0, "evil", 1, "w\u{1b}[2J").prints(
        1,
        "evil",
        "10%\r\u{1b}[31m20%\u{1b}]0;title\u{7}\u{9b}2J\r\n",
    );
    story.started(0, "wide", 1, "w").prints(1, "wide", &"日本語".repeat(40));
    insta::assert_snapshot!(story.frame(60, 10, 1_000), @r"
    demo  0k3v9x2mqf1a
    ⠋ evil    1.0s  on w  20%2J
    ⠋ wide    1.0s  on w  日本語日本語日本語日本語日本語日本語…
    1.0s, 2 steps: 2 running
    ");
}

#[test]
fn a_thousand_steps_fit_and_are_counted() {
    let mut plan = vec![step("first", &[])];
    plan.extend((0..999).map(|number| step(&format!("step-{number}"), &["first"])));
    let mut story = Story::new(plan);
    story.started(0, "first", 1, "a").tell(1_000, "first", StepEventKind::Completed);
    for number in 0..500_u64 {
        let label = format!("step-{number}");
        story.started(1_000 + number, &label, 1, "a");
        story.tell(2_000 + number, &label, StepEventKind::Completed);
    }
    story.started(3_000, "step-700", 1, "b").fails(3_500, "step-600", "broken");
    insta::assert_snapshot!(story.frame(60, 10, 4_000), @r"
    demo  0k3v9x2mqf1a
       ✔ step-495    1.0s
       ✔ step-496    1.0s
       ✔ step-497    1.0s
       ✔ step-498    1.0s
       ✔ step-499    1.0s
       ✘ step-600          exit 3: broken
       ⠋ step-700    1.0s  on b
      … 993 more steps
    4.0s, 1000 steps: 501 completed, 1 failed, 1 running, 497 w…
    ");
}

#[test]
fn a_chain_of_a_hundred_thousand_steps_is_drawn() {
    let id = |number: u32| format!("step-{number}");
    let mut plan = vec![step(&id(0), &[])];
    plan.extend((1..100_000).map(|number| step(&id(number), &[&id(number - 1)])));
    let mut story = Story::new(plan);
    story.started(0, "step-77777", 1, "a");
    let frame = story.frame(60, 10, 1_000);
    assert!(frame.contains("step-77777") && frame.contains("99993 more steps"), "{frame}");
}

#[test]
fn more_items_at_work_than_there_is_room_for_are_counted() {
    let mut story = Story::new(vec![group("sweep", &[], Some(40))]);
    for item in 0..9 {
        story.started(1_000, &format!("sweep[{item}]"), 1, "a");
    }
    insta::assert_snapshot!(story.frame(60, 20, 2_000), @r"
    demo  0k3v9x2mqf1a
    ⠋ sweep 0/40          1.0s
      ⠋ [0]               1.0s  on a
      ⠋ [1]               1.0s  on a
      ⠋ [2]               1.0s  on a
      ⠋ [3]               1.0s  on a
      ⠋ [4]               1.0s  on a
        4 more at work
    2.0s, 1 step: 1 running
    ");
}

#[test]
fn a_frame_is_drawn_over_the_one_before() {
    let mut bytes = Vec::new();
    let mut screen = LiveScreen::new(&mut bytes);
    let now = std::time::Instant::now();
    assert!(screen.is_due(now));
    screen.draw(&["one".to_owned(), "two two".to_owned()], 80, now).expect("written");
    assert!(!screen.is_due(now) && screen.is_due(now + FRAME_EVERY));
    screen.draw(&["three".to_owned()], 80, now).expect("written");
    // Three lines now, if the terminal became four columns wide: "three" takes two of them.
    screen.draw(&["x".to_owned()], 4, now).expect("written");
    let text = String::from_utf8(bytes).expect("UTF-8");
    insta::assert_snapshot!(text.escape_debug().to_string().replace("\\r\\n", "\\r\\n\n"), @r"
    \u{1b}[?2026h\u{1b}[1Gone\u{1b}[K\r\n
    two two\u{1b}[K\r\n
    \u{1b}[J\u{1b}[?2026l\u{1b}[?2026h\u{1b}[1G\u{1b}[2Athree\u{1b}[K\r\n
    \u{1b}[J\u{1b}[?2026l\u{1b}[?2026h\u{1b}[1G\u{1b}[2Ax\u{1b}[K\r\n
    \u{1b}[J\u{1b}[?2026l
    ");
    assert!(!text.contains("?25l"), "the cursor is never hidden, so nobody has to show it again");
}
