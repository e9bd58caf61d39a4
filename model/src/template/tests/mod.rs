//! What SPEC 8 says of templates, sentence by sentence, as tables.

mod expressions;
mod limits;
mod messages;
mod names;
mod parity;
mod scope;
mod texts;
