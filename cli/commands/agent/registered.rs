//! What live workers say of agent types: whether their hosts have what these need.

use maestro_model::ids::AgentSlug;
use maestro_model::mailbox::{TYPES_ASKED_MAX, TypeCheck, TypeFinding, WorkerAnswer, WorkerQuestion};
use maestro_store::Store;
use maestro_store::worker::AttachedProcess;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::letters::{ANSWER_WITHIN, ask_worker, misunderstood};

/// What one worker says of one type.
#[derive(Debug, Clone, Serialize)]
pub(super) struct WorkerVerdict {
    /// The worker.
    pub(super) name: String,
    /// Whether it serves the type.
    pub(super) serves: bool,
    /// What it looked at.
    pub(super) findings: Vec<TypeFinding>,
}

impl WorkerVerdict {
    /// What it found of one thing that a type needs.
    pub(super) fn finding(&self, subject: &str) -> Option<&TypeFinding> {
        self.findings.iter().find(|finding| finding.subject == subject)
    }

    /// What is missing, in one line.
    pub(super) fn obstacle(&self) -> Option<String> {
        let missing = self.findings.iter().find(|finding| !finding.good);
        missing.map(|finding| format!("worker `{}`: {}", self.name, finding.text))
    }
}

/// What workers say of types, by type and in the order of the workers. A worker that does not answer is
/// named in `silent`.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    of_types: Vec<(AgentSlug, WorkerVerdict)>,
    /// Why a worker said nothing.
    pub(super) silent: Vec<String>,
}

impl Verdicts {
    /// All that is said of one type.
    pub(super) fn of(&self, slug: &AgentSlug) -> Vec<WorkerVerdict> {
        let of_it = self.of_types.iter().filter(|(one, _)| one == slug);
        of_it.map(|(_, verdict)| verdict.clone()).collect()
    }
}

/// Asks all of them at once.
pub(super) async fn ask_about(
    store: &Store,
    workers: &[AttachedProcess],
    types: &[AgentSlug],
    launch: bool,
) -> Verdicts {
    let mut asking = JoinSet::new();
    for (place, worker) in workers.iter().enumerate() {
        let (store, worker, types) = (store.clone(), worker.clone(), types.to_vec());
        asking.spawn(
            async move { (place, worker.name.clone(), ask_one(&store, &worker, &types, launch).await) },
        );
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(place, ..)| *place);
    let mut verdicts = Verdicts::default();
    for (_, name, answer) in answers {
        match answer {
            Ok(checks) => verdicts.of_types.extend(checks.into_iter().map(|check| {
                let TypeCheck { slug, serves, findings } = check;
                (slug, WorkerVerdict { name: name.clone(), serves, findings })
            })),
            Err(failure) => verdicts.silent.push(failure.one_line()),
        }
    }
    verdicts
}

async fn ask_one(
    store: &Store,
    worker: &AttachedProcess,
    types: &[AgentSlug],
    launch: bool,
) -> Result<Vec<TypeCheck>, Failure> {
    let mut found = Vec::new();
    for portion in types.chunks(TYPES_ASKED_MAX) {
        let question = WorkerQuestion::CheckTypes { types: portion.to_vec(), launch };
        match ask_worker(store, worker, &question, ANSWER_WITHIN).await? {
            WorkerAnswer::Types { checks } => found.extend(checks),
            _ => return Err(misunderstood(worker)),
        }
    }
    Ok(found)
}
