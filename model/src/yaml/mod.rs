//! YAML files as nodes that know their place, for everything that people write: workflows, agent
//! types, configuration.
//!
//! Nothing here knows what the keys mean. Nodes are read by hand and not through serde, because one
//! reading is to find all that is wrong, each with its own mark, and serde stops at the first.
//!
//! - `node`: what a document consists of, and the way from a character of a value back to the file
//! - `load`: text to nodes, with limits on aliases and depth
//! - `fields`: nodes to values, with an error for what does not fit

mod fields;
mod load;
mod node;

pub use fields::{Fields, Marked, YamlReader};
pub(crate) use fields::{quoted_list, shortened};
pub use load::{ALIAS_BYTES_MAX, ALIAS_NODES_MAX, DEPTH_MAX, DOCUMENT_BYTES_MAX, load};
pub use node::{Entry, Node, NodeContent, Notation, Scalar};
