//! What agent types need of this host, and whether their programs answer.

use std::process::Stdio;
use std::time::Duration;

use maestro_model::agent_type::AgentType;
use maestro_model::ids::AgentSlug;
use maestro_model::mailbox::{TYPES_ASKED_MAX, TypeCheck, TypeFinding, WorkerAnswer};
use tokio::process::Command;
use tokio::time::timeout;

use super::answering::{MailAnswer, MailDesk};
use crate::attempt::HostEnvironment;
use crate::host_checks::{check_type, program_of};
use crate::launch::find_program;
use crate::serving::known_types;

/// How long a program has to end or say something after it was asked for its version.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

impl MailDesk {
    pub(super) async fn check_types(&self, types: &[AgentSlug], launch: bool) -> MailAnswer {
        let known = known_types(&self.settings, &self.store()).await?;
        let mut checks = Vec::new();
        for slug in types.iter().take(TYPES_ASKED_MAX) {
            let Some(agent) = known.get(slug) else {
                checks.push(unknown(slug));
                continue;
            };
            let mut check = check_type(&self.settings, agent);
            if launch && check.serves {
                self.launch(agent, &mut check).await;
            }
            checks.push(check);
        }
        Ok(WorkerAnswer::Types { checks })
    }

    /// Adds whether the program can be started; it gets `--version`, no input, and an empty environment.
    async fn launch(&self, agent: &AgentType, check: &mut TypeCheck) {
        let Some(program) = program_of(&self.settings, agent) else { return };
        let host = HostEnvironment::of_this_process();
        let found = find_program(program.as_ref(), host.path(), std::path::Path::new("/"));
        let Some(path) = found else { return };
        let mut command = Command::new(&path);
        command.arg("--version").current_dir(self.root.path());
        command.env_clear().env("PATH", host.path()).env("HOME", self.root.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0).kill_on_drop(true);
        let (good, text) = match command.spawn() {
            Err(error) => (false, format!("binary does not start: `{program}`: {error}")),
            Ok(mut child) => {
                let pid = child.id();
                match timeout(ANSWER_WITHIN, child.wait()).await {
                    Ok(Ok(_)) => (true, format!("`{program}` starts")),
                    Ok(Err(error)) => (false, format!("binary does not answer: `{program}`: {error}")),
                    Err(_) => {
                        kill_group(pid);
                        let waited = ANSWER_WITHIN.as_secs();
                        (false, format!("binary does not answer: `{program} --version` took over {waited} s"))
                    }
                }
            }
        };
        check.serves = good;
        check.findings.push(TypeFinding { subject: "answer".to_owned(), good, text });
    }
}

/// Ends a program that was asked too much of, with what it started.
fn kill_group(leader: Option<u32>) {
    let leader = leader.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(leader) = leader {
        // It may end by itself at this moment.
        let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
    }
}

fn unknown(slug: &AgentSlug) -> TypeCheck {
    let text = "it is not registered, as far as this worker knows".to_owned();
    let finding = TypeFinding { subject: "registration".to_owned(), good: false, text };
    TypeCheck { slug: slug.clone(), serves: false, findings: vec![finding] }
}
