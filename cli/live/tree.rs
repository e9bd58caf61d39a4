//! Which step is drawn below which.
//!
//! A step may wait for several others; a tree shows it once, below the one it most likely waits for
//! longest: the deepest, and of several the last. Where a step has no such step it stands at the margin.

/// The order in which steps are drawn, and how each is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepTree {
    nodes: Vec<TreeNode>,
}

/// A drawn step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeNode {
    /// Its place in the list of steps.
    pub(crate) step: usize,
    /// Its place in the order of drawing of the step it hangs from.
    parent: Option<usize>,
    /// Steps above it.
    pub(crate) depth: usize,
    /// Whether nothing hangs from the same step after it.
    last: bool,
}

impl StepTree {
    /// Makes the tree. `depends_on[n]` are the places of the steps that step n waits for.
    pub(crate) fn new(depends_on: &[Vec<usize>]) -> StepTree {
        let parents = parents_of(depends_on);
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); depends_on.len()];
        let mut roots = Vec::new();
        for (step, parent) in parents.iter().enumerate() {
            match parent {
                Some(parent) => children[*parent].push(step),
                None => roots.push(step),
            }
        }
        let mut nodes: Vec<TreeNode> = Vec::with_capacity(depends_on.len());
        // Not recursive: a chain may be 100,000 steps long.
        let mut pending: Vec<TreeNode> = roots.into_iter().rev().map(root_node).collect();
        while let Some(node) = pending.pop() {
            let place = nodes.len();
            nodes.push(node);
            let below = &children[node.step];
            let as_nodes = below.iter().enumerate().rev().map(|(nth, step)| TreeNode {
                step: *step,
                parent: Some(place),
                depth: node.depth + 1,
                last: nth + 1 == below.len(),
            });
            pending.extend(as_nodes);
        }
        StepTree { nodes }
    }

    /// The steps in the order of drawing.
    pub(crate) fn nodes(&self) -> &[TreeNode] {
        &self.nodes
    }

    /// Whether each level above a node goes on below it, from the margin inwards; the last entry is the
    /// node's own. At most `levels`; what lies deeper is drawn as if it hung from there.
    pub(crate) fn branches(&self, place: usize, levels: usize) -> Vec<Branch> {
        let mut branches = Vec::new();
        let mut next = Some(place);
        while let Some(current) = next {
            let node = self.nodes[current];
            if node.parent.is_some() && (node.depth <= levels || current == place) {
                branches.push(if node.last { Branch::Last } else { Branch::More });
            }
            next = node.parent;
        }
        branches.truncate(levels);
        branches.reverse();
        branches
    }
}

/// What is drawn for one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Branch {
    /// Another step hangs there further down.
    More,
    /// This is the last one.
    Last,
}

fn root_node(step: usize) -> TreeNode {
    TreeNode { step, parent: None, depth: 0, last: true }
}

/// For each step the one it is drawn below. Steps may be listed in any order; a circle, which no checked
/// workflow has, is cut where it is met.
fn parents_of(depends_on: &[Vec<usize>]) -> Vec<Option<usize>> {
    let count = depends_on.len();
    let mut depths: Vec<Option<usize>> = vec![None; count];
    let mut entered = vec![false; count];
    for start in 0..count {
        let mut pending = vec![start];
        while let Some(step) = pending.last().copied() {
            entered[step] = true;
            let missing = depends_on[step].iter().find(|needed| **needed < count && !entered[**needed]);
            if let Some(needed) = missing {
                pending.push(*needed);
                continue;
            }
            let known = depends_on[step].iter().filter(|needed| **needed < count && **needed != step);
            let deepest = known.filter_map(|needed| depths[*needed]).max();
            depths[step] = depths[step].or(Some(deepest.map_or(0, |depth| depth + 1)));
            pending.pop();
        }
    }
    let parent_of = |step: usize| {
        let depth = depths[step]?;
        let above = depends_on[step].iter().filter(|needed| **needed < count);
        above.filter(|needed| depths[**needed].is_some_and(|above| above + 1 == depth)).max().copied()
    };
    (0..count).map(parent_of).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drawn(depends_on: &[&[usize]]) -> Vec<(usize, usize)> {
        let depends_on: Vec<Vec<usize>> = depends_on.iter().map(|needed| needed.to_vec()).collect();
        StepTree::new(&depends_on).nodes().iter().map(|node| (node.step, node.depth)).collect()
    }

    #[test]
    fn a_join_hangs_from_the_deepest_of_those_it_waits_for() {
        // 0 → 1 → 3, 0 → 2 → 3, and 4 alone.
        assert_eq!(drawn(&[&[], &[0], &[0], &[1, 2], &[]]), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 0)]);
        // The last of several equally deep; a shallow one loses although it comes later.
        assert_eq!(drawn(&[&[], &[0], &[1, 3], &[]]), [(0, 0), (1, 1), (2, 2), (3, 0)]);
    }

    #[test]
    fn a_step_may_stand_before_those_it_waits_for() {
        assert_eq!(drawn(&[&[1], &[2], &[]]), [(2, 0), (1, 1), (0, 2)]);
    }

    #[test]
    fn branches_say_what_goes_on_further_down() {
        let tree = StepTree::new(&[vec![], vec![0], vec![0], vec![1]]);
        let all: Vec<Vec<Branch>> = (0..4).map(|place| tree.branches(place, 9)).collect();
        let (more, last) = (Branch::More, Branch::Last);
        assert_eq!(all, [vec![], vec![more], vec![more, last], vec![last]]);
        assert_eq!(tree.branches(2, 1).len(), 1, "no more levels than there is room for");
    }

    proptest! {
        #[test]
        fn every_step_is_drawn_once_whatever_the_edges(
            depends_on in prop::collection::vec(prop::collection::vec(0_usize..12, 0..4), 0..10)
        ) {
            let tree = StepTree::new(&depends_on);
            let mut steps: Vec<usize> = tree.nodes().iter().map(|node| node.step).collect();
            steps.sort_unstable();
            prop_assert_eq!(steps, (0..depends_on.len()).collect::<Vec<usize>>());
            for (place, node) in tree.nodes().iter().enumerate() {
                prop_assert_eq!(tree.branches(place, 99).len(), node.depth);
                prop_assert!(tree.branches(place, 2).len() <= 2);
            }
        }
    }
}
