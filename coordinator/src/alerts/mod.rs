//! Telling a webhook what has changed.
//!
//! `message` is what is sent and how it is signed, `post` sends it once, `courier` sends it again until it has
//! arrived, in order and off everybody's path, `notebook` remembers what was told. What is worth telling is found in `health`.

mod courier;
mod message;
mod notebook;
mod post;

pub use courier::AlertCourier;
pub use message::{ALERT_VERSION, AlertMessage, SIGNATURE_HEADER, signature};
pub use notebook::AlertNotebook;
pub use post::{AlertAddress, AlertAddressError};
