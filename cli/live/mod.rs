//! What `workflow run` shows while a run goes on: a live tree on a terminal, one line per event elsewhere.
//!
//! The tree is a pure state: events go in, a frame of lines comes out for a size and a time. Only
//! `screen` touches a terminal. Where events come from is the caller's business.
//!
//! - `event`: what can happen to a step, and the one line that says so
//! - `view`: what is known of a run
//! - `tree`: which step is drawn below which
//! - `rows`: which of them there is room for
//! - `frame`: the lines
//! - `screen`: the lines on a terminal, over and over in the same place
//! - `display`: all of it together: the one thing a command needs

mod display;
mod event;
mod frame;
mod rows;
mod screen;
mod tree;
mod view;

#[cfg(test)]
mod tests;

pub(crate) use display::RunDisplay;
pub(crate) use event::{StepEvent, StepEventKind};
pub(crate) use screen::can_move_cursor;
pub(crate) use view::{RunEnd, RunView, StepPlan};
