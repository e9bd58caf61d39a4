//! Answers to questions that people ask this worker: about folders, programs and processes of its host.
//!
//! - `room`: fetches questions when the worker's own bell rings, and sees to it that each is answered
//! - `answering`: which answer belongs to which question
//! - `folder`: whether an agent may work in a folder, and whether that is as it must be
//! - `health`: an assigned agent at this moment
//! - `reset`: emptying an assigned folder after a copy
//! - `archive`: that copy
//! - `listing`, `cleaning`: workspaces: which there are, and removing those nothing needs
//! - `staged`: folders of a snapshot, on their way into their places
//! - `types`: what agent types need of this host
//!
//! No task and no assignment is changed here: whoever asks does that through the store, before or after. All
//! runs off the worker's main loop, a bounded number of answers at one time.

mod answering;
mod archive;
mod cleaning;
pub(crate) mod folder;
mod health;
mod listing;
mod reset;
mod room;
mod staged;
mod types;

pub use answering::MailDesk;
pub use room::MailRoom;
