//! The real agent programs, launched by Maestro as they are shipped, against a model that follows a script.
//!
//! `make test-agents` installs them and runs this; `make test` does not. Nothing here asks for a network: the
//! model is a small server on loopback, and what it answers hangs on a word in the prompt.
//!
//! - `model_server`: the server; `answers`: what it says, in the words of four providers
//! - `programs`: where the programs are, and their settings
//! - `scenes`: each program through each kind of answer; `relay`: one workflow through all of them

#[path = "real_agents/answers.rs"]
mod answers;
#[path = "real_agents/model_server.rs"]
mod model_server;
#[path = "real_agents/programs.rs"]
mod programs;
#[path = "real_agents/relay.rs"]
mod relay;
#[path = "real_agents/scenes.rs"]
mod scenes;
mod support;
