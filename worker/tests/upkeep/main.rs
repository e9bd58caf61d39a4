//! What a worker does beside its tasks, against a real Redis: it renews its lease and notices when it
//! cannot, removes old workspaces, listens for work, takes its name back, and answers
//! what people ask.

mod bells;
mod janitor;
mod lease;
mod mailbox;
mod names;
mod support;
