//! Which steps and items there is room for.
//!
//! Where not all fit, what is at work comes first, then what went wrong, then what is next; the rest is
//! counted. Rows keep the order of the tree, so that nothing jumps about.

use super::tree::TreeNode;
use super::view::{RunView, StepEnd, StepPhase};

/// Most items of one `foreach` that are shown.
pub(super) const ITEMS_SHOWN_MAX: usize = 5;

/// A row of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// Place in the order of drawing.
    pub(super) place: usize,
    /// What stands there.
    pub(super) content: RowContent,
}

/// What a row shows. The order is that of drawing within one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowContent {
    /// The step itself.
    Step,
    /// An item at work.
    Item(u32),
    /// So many items at work that are not shown.
    MoreItems(usize),
}

/// The rows of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    /// In the order of drawing.
    pub(super) rows: Vec<Row>,
    /// Steps that are not among them.
    pub(super) hidden: usize,
}

/// Chooses at most `room` rows.
pub(super) fn select(view: &RunView, room: usize) -> Selection {
    let mut candidates = Vec::new();
    for (place, node) in view.tree.nodes().iter().enumerate() {
        add_rows(view, place, *node, &mut candidates);
    }
    if candidates.len() > room {
        candidates.sort_by_key(|(urgency, row)| (*urgency, *row));
        candidates.truncate(room);
        candidates.sort_by_key(|(_, row)| *row);
    }
    let shown = candidates.iter().filter(|(_, row)| row.content == RowContent::Step).count();
    let hidden = view.steps.len() - shown;
    Selection { rows: candidates.into_iter().map(|(_, row)| row).collect(), hidden }
}

/// How much a row matters when not all fit; less comes first. Of steps that have ended well the latest
/// matters most, hence the second number.
type Urgency = (u8, u64);

fn add_rows(view: &RunView, place: usize, node: TreeNode, rows: &mut Vec<(Urgency, Row)>) {
    let step = &view.steps[node.step];
    let row = |content| Row { place, content };
    rows.push((urgency(&step.phase), row(RowContent::Step)));
    let Some(group) = &step.group else { return };
    if matches!(step.phase, StepPhase::Ended { .. }) {
        return;
    }
    let shown = group.at_work.keys().take(ITEMS_SHOWN_MAX);
    rows.extend(shown.map(|item| ((1, 0), row(RowContent::Item(*item)))));
    let more = group.at_work.len().saturating_sub(ITEMS_SHOWN_MAX);
    if more > 0 {
        rows.push(((1, 1), row(RowContent::MoreItems(more))));
    }
}

fn urgency(phase: &StepPhase) -> Urgency {
    match phase {
        StepPhase::Running { .. } | StepPhase::Parked { .. } => (0, 0),
        StepPhase::Ended { how: StepEnd::Failed, at, .. } => (2, u64::MAX - at),
        StepPhase::Ended { how: StepEnd::Cancelled, at, .. } => (3, u64::MAX - at),
        StepPhase::Queued => (4, 0),
        StepPhase::Ended { how: StepEnd::Completed, at, .. } => (5, u64::MAX - at),
        StepPhase::Waiting => (6, 0),
        StepPhase::Ended { how: StepEnd::Skipped, .. } => (7, 0),
    }
}
