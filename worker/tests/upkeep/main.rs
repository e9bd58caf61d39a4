//! What a worker does beside its tasks, against a real Redis: it renews its lease and notices when it
//! cannot, removes old workspaces, listens for work, and takes its name back.

mod bells;
mod janitor;
mod lease;
mod names;
mod support;
