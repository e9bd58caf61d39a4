//! The `maestro` command: parse, call, print. The rules of the domain are in `model`, everything that
//! touches Redis in `store`.

mod agent_files;
mod agents;
mod args;
mod bench;
mod catalogue;
mod cluster;
mod commands;
mod config;
mod consent;
mod endpoint;
mod engine;
mod exit;
mod failure;
mod following;
mod ids;
mod letters;
mod live;
mod local_run;
mod local_workspaces;
mod logging;
mod output;
mod private_redis;
mod shipped;
mod side_door;
mod since;
mod trace_file;
mod traced_output;
mod up_file;
mod waiting;
mod watched;
mod within_task;
mod work;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A launcher must begin before any thread and any runtime exists: it forks.
    if let Some(code) = maestro_worker::launch::launcher_main() {
        return ExitCode::from(code as u8);
    }
    commands::run(std::env::args_os().collect()).into()
}
