//! Every event in every situation, and long random lives: actions compared whole, and the rules of
//! `dispatcher` checked after each event.

mod agents;
mod pairs;
mod random_lives;
mod scenes;
mod stage;
