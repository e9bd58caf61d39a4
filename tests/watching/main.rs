//! Being watched: what daemons serve, what is found wrong with real processes, and what is told to a webhook.
//!
//! - `metrics`: numbers, liveness and readiness over HTTP, and the log in JSON
//! - `rules`: each health rule begins and ends with something that really happens
//! - `webhooks`: endpoints that hang, refuse, or answer 500
//! - `named`: rules, dashboard and documents name only what is served
//! - `http`: a client and a webhook for them

mod http;
mod metrics;
mod named;
mod rules;
#[path = "../support/mod.rs"]
mod support;
mod webhooks;
