//! The agent's side door: shared state for the processes of one attempt, over a unix socket.
//!
//! `MAESTRO_SOCKET` names a socket of the attempt's own, behind which the worker answers a little HTTP/1.1,
//! for `maestro state` and for `curl --unix-socket` alike. The agent gets no address of Redis and needs none.
//!
//! - `place`: where the socket lies; paths of sockets are short
//! - `peer`: only processes of the attempt are heard
//! - `rate`: how often
//! - `route`: what a request asks for; `wire`: what is said, shared with the command; `pattern`: globs of keys
//! - `answer`: carrying it out in the store, which checks with each write that the attempt still counts;
//!   `refusal`: why not
//! - `watching`: one reader of the audit stream for all watchers of a worker; `watcher`: one of them
//! - `door`: the life of a door; `server`: connections and their limits; `access`: who wants to know of it
//!
//! Containers are not here: the one who starts them mounts the socket and says who is behind it.

mod access;
mod answer;
mod door;
mod pattern;
mod peer;
mod place;
mod rate;
mod refusal;
mod route;
mod server;
mod watcher;
mod watching;
mod wire;

pub use access::{AccessKind, DoorAccess};
pub use door::{BoundDoor, DoorPass, OpenDoor, SideDoors, SideDoorsSettings, TaskCard};
pub use pattern::{GlobError, KeyPattern};
pub use place::DoorPlaceError;
pub use rate::{READS_PER_SECOND, WRITES_BURST, WRITES_PER_SECOND};
pub use wire::{
    ChangeRecord, DoorError, DoorErrorCause, DoorErrorKind, ErrorBody, ListPage, ResultRecord, STATE_PATH,
    TASK_PATH, ValueRecord, WATCH_PATH, WrittenRecord, query_text, state_path,
};
