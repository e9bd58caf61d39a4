//! Who waits for whom: edges between steps, the circles among them, and what templates imply.
//!
//! A step that reads `steps.x` waits for `x` as if by `depends_on`, unless `x` is upstream of it by
//! other edges already. What that means does not depend on the order of the file: all references
//! are laid in first, and those for which another way exists are taken out again.
//!
//! Names and messages about steps that do not exist are not here (see `check`).

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use crate::plan::EdgeKind;

/// An edge between two steps, by their places in the workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepEdge {
    /// The step that is waited for.
    pub from: u32,
    /// The step that waits.
    pub to: u32,
    /// For what; never `EdgeKind::Item`.
    pub kind: EdgeKind,
    /// Whether it comes from a template, not from a key.
    pub implied: bool,
    /// The bytes in the file that say so.
    pub place: Range<usize>,
}

/// How many upstream questions are answered in one walk over the graph: the bits of a word.
const QUESTIONS_PER_WALK: usize = u64::BITS as usize;

/// The edges of a workflow, in both directions.
pub(super) struct StepGraph {
    edges: Vec<StepEdge>,
    /// Numbers of edges by the step they start at.
    outgoing: Vec<Vec<u32>>,
    /// Numbers of edges by the step they lead to.
    incoming: Vec<Vec<u32>>,
}

impl StepGraph {
    /// A graph of so many steps. Of edges that say the same, the first stays; one that is implied
    /// stays only if no `depends_on` says the same.
    pub(super) fn new(steps: usize, edges: Vec<StepEdge>) -> StepGraph {
        let (written, implied): (Vec<StepEdge>, Vec<StepEdge>) =
            edges.into_iter().partition(|edge| !edge.implied);
        let mut seen = HashSet::new();
        let mut graph = StepGraph {
            edges: Vec::new(),
            outgoing: vec![Vec::new(); steps],
            incoming: vec![Vec::new(); steps],
        };
        for edge in written.into_iter().chain(implied) {
            if seen.insert((edge.from, edge.to, edge.kind)) {
                graph.add(edge);
            }
        }
        graph
    }

    fn add(&mut self, edge: StepEdge) {
        let number = self.edges.len() as u32;
        self.outgoing[edge.from as usize].push(number);
        self.incoming[edge.to as usize].push(number);
        self.edges.push(edge);
    }

    fn followers(&self, step: u32) -> impl Iterator<Item = u32> + '_ {
        self.outgoing[step as usize].iter().map(|number| self.edges[*number as usize].to)
    }

    fn leaders(&self, step: u32) -> impl Iterator<Item = u32> + '_ {
        self.incoming[step as usize].iter().map(|number| self.edges[*number as usize].from)
    }

    /// The steps in an order in which each comes after all it waits for; without those that lie in a
    /// circle or behind one.
    pub(super) fn order(&self) -> Vec<u32> {
        let mut waits_for: Vec<usize> = self.incoming.iter().map(Vec::len).collect();
        let free = (0..self.outgoing.len() as u32).filter(|step| waits_for[*step as usize] == 0);
        let mut queue: VecDeque<u32> = free.collect();
        let mut order = Vec::with_capacity(self.outgoing.len());
        while let Some(step) = queue.pop_front() {
            order.push(step);
            for follower in self.followers(step) {
                waits_for[follower as usize] -= 1;
                if waits_for[follower as usize] == 0 {
                    queue.push_back(follower);
                }
            }
        }
        order
    }

    /// Circles, each as the edges that lead around it: a shortest one out of every knot of steps.
    pub(super) fn circles(&self) -> Vec<Vec<&StepEdge>> {
        let ordered: HashSet<u32> = self.order().into_iter().collect();
        if ordered.len() == self.outgoing.len() {
            return Vec::new();
        }
        // What is left lies in a circle or behind one; taken away from behind, circles and ways
        // between them are left.
        let mut left: Vec<bool> =
            (0..self.outgoing.len() as u32).map(|step| !ordered.contains(&step)).collect();
        self.take_away_ends(&mut left);
        let mut circles = Vec::new();
        for start in 0..left.len() as u32 {
            if !left[start as usize] {
                continue;
            }
            match self.shortest_circle(start, &left) {
                Some(circle) => {
                    for edge in &circle {
                        left[edge.to as usize] = false;
                    }
                    circles.push(circle);
                }
                None => left[start as usize] = false,
            }
            if circles.len() == CIRCLES_MAX {
                break;
            }
        }
        circles
    }

    fn take_away_ends(&self, left: &mut [bool]) {
        let count = |step: u32| self.followers(step).filter(|follower| left[*follower as usize]).count();
        let mut followers: Vec<usize> = (0..left.len() as u32).map(count).collect();
        let ends =
            (0..left.len() as u32).filter(|step| left[*step as usize] && followers[*step as usize] == 0);
        let mut queue: Vec<u32> = ends.collect();
        while let Some(step) = queue.pop() {
            left[step as usize] = false;
            for leader in self.leaders(step).filter(|leader| left[*leader as usize]) {
                followers[leader as usize] -= 1;
                if followers[leader as usize] == 0 {
                    queue.push(leader);
                }
            }
        }
    }

    /// The shortest way from a step back to itself through steps that are left.
    fn shortest_circle(&self, start: u32, left: &[bool]) -> Option<Vec<&StepEdge>> {
        let mut reached_by: Vec<Option<u32>> = vec![None; left.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(step) = queue.pop_front() {
            for number in &self.outgoing[step as usize] {
                let to = self.edges[*number as usize].to;
                if !left[to as usize] || reached_by[to as usize].is_some() {
                    continue;
                }
                reached_by[to as usize] = Some(*number);
                if to == start {
                    return Some(self.walk_back(start, &reached_by));
                }
                queue.push_back(to);
            }
        }
        None
    }

    fn walk_back(&self, start: u32, reached_by: &[Option<u32>]) -> Vec<&StepEdge> {
        let mut circle = Vec::new();
        let mut step = start;
        while let Some(number) = reached_by[step as usize] {
            let edge = &self.edges[number as usize];
            circle.push(edge);
            step = edge.from;
            if step == start {
                break;
            }
        }
        circle.reverse();
        circle
    }

    /// For each pair (upstream, downstream) whether there is a way from the first to the second, not
    /// counting an implied edge between the two. The graph must have no circle.
    pub(super) fn ways(&self, pairs: &[(u32, u32)]) -> Vec<bool> {
        let order = self.order();
        let mut rank = vec![0_u32; self.outgoing.len()];
        for (place, step) in order.iter().enumerate() {
            rank[*step as usize] = place as u32;
        }
        let mut by_source: Vec<usize> = (0..pairs.len()).collect();
        by_source.sort_by_key(|pair| rank[pairs[*pair].0 as usize]);
        let mut answers = vec![false; pairs.len()];
        let mut reached = vec![0_u64; self.outgoing.len()];
        let mut rest = by_source.as_slice();
        while let Some(first) = rest.first() {
            let mut sources: Vec<u32> = Vec::new();
            let mut taken = 0;
            let from = rank[pairs[*first].0 as usize];
            let mut until = from;
            for pair in rest {
                let (source, target) = pairs[*pair];
                if sources.last() != Some(&source) {
                    if sources.len() == QUESTIONS_PER_WALK {
                        break;
                    }
                    sources.push(source);
                }
                until = until.max(rank[target as usize]);
                taken += 1;
            }
            let walk = Walk { sources: &sources, order: &order[from as usize..=until as usize] };
            let (now, later) = rest.split_at(taken);
            self.walk(walk, &mut reached, now, pairs, &mut answers);
            rest = later;
        }
        answers
    }

    /// Answers some pairs in one walk: each source has a bit, and a step has the bits of all that lead to it.
    fn walk(
        &self,
        walk: Walk<'_>,
        reached: &mut [u64],
        asked: &[usize],
        pairs: &[(u32, u32)],
        answers: &mut [bool],
    ) {
        for (bit, source) in walk.sources.iter().enumerate() {
            reached[*source as usize] |= 1 << bit;
        }
        for step in walk.order {
            let bits = reached[*step as usize];
            if bits != 0 {
                for follower in self.followers(*step) {
                    reached[follower as usize] |= bits;
                }
            }
        }
        let bit_of = |source: u32| walk.sources.iter().position(|known| *known == source);
        for pair in asked {
            let (source, target) = pairs[*pair];
            let bit = 1_u64 << bit_of(source).expect("each source asked for has a bit");
            answers[*pair] = self.incoming[target as usize].iter().any(|number| {
                let edge = &self.edges[*number as usize];
                match edge.from == source {
                    true => !edge.implied,
                    false => reached[edge.from as usize] & bit != 0,
                }
            });
        }
        // No bit of this walk may be taken for one of the next.
        for step in walk.order {
            reached[*step as usize] = 0;
            for follower in self.followers(*step) {
                reached[follower as usize] = 0;
            }
        }
    }

    /// The edges, without those implied ones that another way makes needless. The graph must have no circle.
    pub(super) fn without_needless(self) -> Vec<StepEdge> {
        let implied: Vec<usize> =
            (0..self.edges.len()).filter(|number| self.edges[*number].implied).collect();
        let pairs: Vec<(u32, u32)> =
            implied.iter().map(|number| (self.edges[*number].from, self.edges[*number].to)).collect();
        let answers = self.ways(&pairs);
        let needless: HashSet<usize> =
            implied.into_iter().zip(answers).filter(|(_, way)| *way).map(|(number, _)| number).collect();
        let edges = self.edges.into_iter().enumerate();
        edges.filter(|(number, _)| !needless.contains(number)).map(|(_, edge)| edge).collect()
    }
}

/// Most circles reported for one file.
const CIRCLES_MAX: usize = 10;

/// One walk over part of the graph.
struct Walk<'a> {
    /// At most `QUESTIONS_PER_WALK`.
    sources: &'a [u32],
    /// From the first source to the last target.
    order: &'a [u32],
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edge(from: u32, to: u32, implied: bool) -> StepEdge {
        StepEdge { from, to, kind: EdgeKind::Needs, implied, place: 0..0 }
    }

    fn kept(steps: usize, edges: &[(u32, u32, bool)]) -> Vec<(u32, u32)> {
        let edges = edges.iter().map(|(from, to, implied)| edge(*from, *to, *implied)).collect();
        let kept = StepGraph::new(steps, edges).without_needless();
        kept.iter().map(|edge| (edge.from, edge.to)).collect()
    }

    #[test]
    fn a_reference_counts_only_where_nothing_else_leads() {
        // Alone; beside `depends_on`; with a way around; with a way around that is implied itself.
        assert_eq!(kept(2, &[(0, 1, true)]), [(0, 1)]);
        assert_eq!(kept(2, &[(0, 1, true), (0, 1, false)]), [(0, 1)]);
        assert_eq!(kept(3, &[(0, 1, false), (1, 2, false), (0, 2, true)]), [(0, 1), (1, 2)]);
        assert_eq!(kept(3, &[(0, 1, true), (1, 2, true), (0, 2, true)]), [(0, 1), (1, 2)]);
    }

    #[test]
    fn an_on_failure_edge_makes_a_step_upstream() {
        let failure = StepEdge { kind: EdgeKind::OnFailure, ..edge(0, 1, false) };
        let kept = StepGraph::new(2, vec![failure.clone(), edge(0, 1, true)]).without_needless();
        assert_eq!(kept, [failure]);
    }

    #[test]
    fn circles_are_found_and_are_short() {
        let edges = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 3), (5, 0), (4, 6)];
        let graph = StepGraph::new(7, edges.iter().map(|(from, to)| edge(*from, *to, false)).collect());
        let circles: Vec<Vec<u32>> =
            graph.circles().iter().map(|circle| circle.iter().map(|edge| edge.from).collect()).collect();
        assert_eq!(circles, [vec![0, 1, 2], vec![3, 4]]);
    }

    #[test]
    fn a_long_chain_with_references_across_is_quick() {
        let count = 100_000;
        let mut edges: Vec<StepEdge> = (1..count).map(|to| edge(to - 1, to, false)).collect();
        edges.extend((2..count).map(|to| edge(0, to, true)));
        edges.extend((4..count).map(|to| edge(to - 3, to, true)));
        assert_eq!(StepGraph::new(count as usize, edges).without_needless().len(), count as usize - 1);
    }

    fn graphs() -> impl Strategy<Value = (usize, Vec<StepEdge>)> {
        (2_usize..90).prop_flat_map(|steps| {
            let one = (0..steps as u32, 0..steps as u32, any::<bool>());
            let edges = proptest::collection::vec(one, 0..steps * 3);
            edges.prop_map(move |edges| {
                let forward = edges.into_iter().filter(|(from, to, _)| from < to);
                (steps, forward.map(|(from, to, implied)| edge(from, to, implied)).collect())
            })
        })
    }

    /// All ways of a graph, the plain way: for each step, the bits of those it leads to.
    fn closure(steps: usize, edges: &[StepEdge]) -> Vec<u128> {
        let mut ways = vec![0_u128; steps];
        for edge in edges {
            ways[edge.from as usize] |= 1 << edge.to;
        }
        for middle in 0..steps {
            for from in 0..steps {
                if ways[from] & (1 << middle) != 0 {
                    ways[from] |= ways[middle];
                }
            }
        }
        ways
    }

    proptest! {
        #[test]
        fn needless_references_go_and_no_way_is_lost((steps, edges) in graphs()) {
            let kept = StepGraph::new(steps, edges.clone()).without_needless();
            prop_assert_eq!(closure(steps, &kept), closure(steps, &edges));
            for edge in edges.iter().filter(|edge| !edge.implied) {
                prop_assert!(kept.iter().any(|one| (one.from, one.to) == (edge.from, edge.to) && !one.implied));
            }
            for (number, one) in kept.iter().enumerate().filter(|(_, edge)| edge.implied) {
                let mut others = kept.clone();
                others.remove(number);
                prop_assert_eq!(closure(steps, &others)[one.from as usize] & (1 << one.to), 0);
            }
        }

        #[test]
        fn there_is_a_circle_exactly_if_there_is_no_order(
            steps in 1_usize..20,
            pairs in proptest::collection::vec((0_u32..20, 0_u32..20), 0..40),
        ) {
            let pairs = pairs.into_iter().filter(|(from, to)| from != to);
            let pairs = pairs.filter(|(from, to)| (*from as usize) < steps && (*to as usize) < steps);
            let graph = StepGraph::new(steps, pairs.map(|(from, to)| edge(from, to, false)).collect());
            let circles = graph.circles();
            prop_assert_eq!(circles.is_empty(), graph.order().len() == steps);
            for circle in circles {
                for (edge, next) in circle.iter().zip(circle.iter().cycle().skip(1)) {
                    prop_assert_eq!(edge.to, next.from);
                }
            }
        }
    }
}
