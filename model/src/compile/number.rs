//! Which task gets which number.
//!
//! Tasks without incoming edges come first, by queue and in it by priority, so that what has not
//! been released yet is one number per queue; then all other steps in the order of the file; then
//! the items of each group, side by side.

use std::collections::HashMap;

use crate::plan::{QueueName, RootRange};

/// What numbering must know of a step.
pub(super) struct StepPlace {
    /// The queue it waits in; none for a group.
    pub(super) queue: Option<QueueName>,
    /// 1 (first) to 5 (last).
    pub(super) priority: u8,
    /// Whether nothing leads to it.
    pub(super) root: bool,
    /// Items, if it is a group.
    pub(super) items: u32,
}

/// The numbers of all tasks.
pub(super) struct Numbering {
    /// Task by step.
    pub(super) steps: Vec<u32>,
    /// Steps in the order of their tasks.
    pub(super) order: Vec<usize>,
    /// First item by step; of a step without items a number that means nothing.
    pub(super) first_items: Vec<u32>,
    /// The roots.
    pub(super) roots: Vec<RootRange>,
}

impl Numbering {
    /// Numbers them all. There must be no more than fit into a run.
    pub(super) fn new(places: &[StepPlace]) -> Numbering {
        let mut queue_numbers: HashMap<Option<&QueueName>, usize> = HashMap::new();
        let mut order: Vec<usize> = Vec::with_capacity(places.len());
        let mut keys = Vec::with_capacity(places.len());
        for place in places {
            let next = queue_numbers.len();
            let queue = match place.root {
                true => *queue_numbers.entry(place.queue.as_ref()).or_insert(next),
                false => 0,
            };
            let priority = if place.root { place.priority } else { 0 };
            keys.push((!place.root, queue, priority));
            order.push(order.len());
        }
        order.sort_by_key(|step| keys[*step]);
        let mut steps = vec![0; places.len()];
        let mut roots: Vec<RootRange> = Vec::new();
        for (number, step) in order.iter().enumerate() {
            steps[*step] = number as u32;
            let place = &places[*step];
            match roots.last_mut() {
                _ if !place.root => {}
                Some(range) if range.queue == place.queue => range.count += 1,
                _ => roots.push(RootRange { queue: place.queue.clone(), first: number as u32, count: 1 }),
            }
        }
        let mut next = places.len() as u32;
        let mut first_items = vec![0; places.len()];
        for step in &order {
            first_items[*step] = next;
            next += places[*step].items;
        }
        Numbering { steps, order, first_items, roots }
    }
}
