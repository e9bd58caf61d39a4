//! What an operator does with agents, workers and folders day by day, against real processes.
//! - `calls`: calls that have to end as expected

mod assigning;
mod calls;
mod draining;
mod folders;
mod resetting;
mod standing;
mod trouble;
