//! Agents and agent types as the cluster knows them: what there is, what runs, and what is wrong with it.
//!
//! Whether an agent is active, idle or failed stands nowhere: it is derived here from what runs and from what
//! its worker says with each heartbeat.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexMap;
use maestro_coordinator::health::agent_problems;
use maestro_model::agent_type::AgentType;
use maestro_model::assignment::Assignment;
use maestro_model::ids::{AgentId, AgentSlug, RunId, TaskId};
use maestro_model::task::TaskStatus;
use maestro_store::Store;
use maestro_store::worker::{AttachedProcess, ProcessRole, TaskUsage};

use crate::commands::task::entry::shared_parts;
use crate::config::settings::Settings;
use crate::failure::Failure;
use crate::ids::{NEWEST, closest};
use crate::output::moment::now_ms;

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AgentCondition {
    /// It works.
    Active,
    /// It could.
    Idle,
    /// It cannot, and why.
    Failed(String),
}

/// All of it, as it was at one moment.
#[derive(Debug)]
pub(crate) struct AgentOverview {
    pub(crate) types: IndexMap<AgentSlug, AgentType>,
    pub(crate) assigned: IndexMap<AgentId, Assignment>,
    /// What assigned agents work on.
    pub(crate) running: IndexMap<AgentId, TaskId>,
    /// What is run by types without an assigned agent.
    pub(crate) unassigned: BTreeMap<AgentSlug, Vec<TaskId>>,
    /// All workers, those too that have gone silent.
    pub(crate) workers: Vec<AttachedProcess>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FoundAgent<'o> {
    /// An agent.
    Assigned(&'o Assignment),
    /// A type of which no agent goes by this name.
    Type(&'o AgentType),
}

impl AgentOverview {
    /// Reads it.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn read(store: &Store) -> Result<AgentOverview, Failure> {
        let mut workers = store.processes().await?;
        workers.retain(|process| process.about.role == ProcessRole::Worker);
        let assigned = store.assignments().await?;
        let ids: Vec<AgentId> = assigned.keys().cloned().collect();
        let mut types = store.agent_types().await?;
        types.sort_keys();
        Ok(AgentOverview {
            types,
            running: store.agents_running(&ids).await?,
            unassigned: unassigned_tasks(store, &workers).await?,
            assigned,
            workers,
        })
    }

    /// What a user's word means: an agent's id, a type's slug, what only one of them begins with, or `last`
    /// for the agent that was assigned last.
    ///
    /// # Errors
    /// 66 if there is none, 2 if there are several.
    pub(crate) fn find(&self, text: &str) -> Result<FoundAgent<'_>, Failure> {
        if let Some(found) = text.parse().ok().and_then(|id: AgentId| self.assigned.get(&id)) {
            return Ok(FoundAgent::Assigned(found));
        }
        if let Some(found) = text.parse().ok().and_then(|slug: AgentSlug| self.types.get(&slug)) {
            return Ok(FoundAgent::Type(found));
        }
        if NEWEST.contains(&text)
            && let Some(newest) = self.assigned.values().max_by_key(|one| one.assigned_at_ms)
        {
            return Ok(FoundAgent::Assigned(newest));
        }
        let agents = self.assigned.values().filter(|one| one.id.as_str().starts_with(text));
        // A type that gave its name to an agent is that agent.
        let is_new = |slug: &AgentSlug| !self.assigned.keys().any(|id| id.as_str() == slug.as_str());
        let types =
            self.types.values().filter(|one| one.slug.as_str().starts_with(text) && is_new(&one.slug));
        let mut found: Vec<FoundAgent<'_>> = agents.map(FoundAgent::Assigned).collect();
        found.extend(types.map(FoundAgent::Type));
        match found[..] {
            [one] if !text.is_empty() => Ok(one),
            [] | [_] => Err(self.nothing_called(text)),
            _ if text.is_empty() => Err(self.nothing_called(text)),
            _ => {
                let names: Vec<String> =
                    found.iter().take(8).map(|one| format!("`{}`", one.name())).collect();
                Err(Failure::usage(format!("`{text}` can mean several agents: {}", names.join(", ")))
                    .hint("write more of the id"))
            }
        }
    }

    /// The assigned agent a text means.
    ///
    /// # Errors
    /// As `find`, and 77 for a type without an assignment.
    pub(crate) fn find_assigned(&self, text: &str) -> Result<&Assignment, Failure> {
        match self.find(text)? {
            FoundAgent::Assigned(found) => Ok(found),
            FoundAgent::Type(found) => {
                Err(Failure::refused(format!("`{}` is an agent type, and no agent of that id is assigned", found.slug))
                    .hint(format!(
                        "assign one with `maestro agent assign {} --to-workspace <PATH>`; a single task is ended with `maestro task cancel`",
                        found.slug
                    )))
            }
        }
    }

    fn nothing_called(&self, text: &str) -> Failure {
        let failure = Failure::not_found(format!("there is no agent and no agent type `{text}`"));
        let ids = self.assigned.keys().map(AgentId::as_str);
        match closest(text, ids.chain(self.types.keys().map(AgentSlug::as_str))) {
            Some(name) => failure.hint(format!("did you mean `{name}`?")),
            None => failure.hint("`maestro agent list` shows them all; `maestro agent register` adds a type"),
        }
    }

    /// The worker that an agent is assigned to, if it is known.
    pub(crate) fn worker_of(&self, agent: &Assignment) -> Option<&AttachedProcess> {
        self.workers.iter().find(|worker| worker.name == agent.worker.as_str())
    }

    /// Live workers that serve a type.
    pub(crate) fn serving(&self, slug: &AgentSlug) -> impl Iterator<Item = &AttachedProcess> {
        let serves = move |worker: &&AttachedProcess| worker.types.iter().any(|one| one == slug.as_str());
        self.workers.iter().filter(|worker| worker.alive).filter(serves)
    }

    /// What is wrong with an agent, as far as heartbeats tell.
    pub(crate) fn problems_of(&self, agent: &Assignment) -> Vec<String> {
        let types = self.types.keys().cloned().collect();
        let found = agent_problems(agent, self.worker_of(agent), &types, now_ms());
        found.into_iter().map(|(_, problem)| problem).collect()
    }

    /// How an agent is.
    pub(crate) fn condition(&self, agent: &Assignment) -> AgentCondition {
        match self.problems_of(agent).into_iter().next() {
            Some(problem) => AgentCondition::Failed(problem),
            None if self.running.contains_key(&agent.id) => AgentCondition::Active,
            None => AgentCondition::Idle,
        }
    }

    /// What the tasks of an agent use, by its worker's last heartbeat.
    pub(crate) fn usage_of(&self, agent: &AgentId) -> Vec<&TaskUsage> {
        self.usage().filter(|usage| usage.assigned.as_ref() == Some(agent)).collect()
    }

    /// What the tasks of a type use, those of its assigned agents left out.
    pub(crate) fn usage_of_type(&self, slug: &AgentSlug) -> Vec<&TaskUsage> {
        self.usage().filter(|usage| usage.assigned.is_none() && usage.agent == *slug).collect()
    }

    fn usage(&self) -> impl Iterator<Item = &TaskUsage> {
        self.workers.iter().filter(|worker| worker.alive).flat_map(|worker| &worker.status.tasks)
    }
}

impl FoundAgent<'_> {
    /// Its id or slug.
    pub(crate) fn name(&self) -> &str {
        match self {
            FoundAgent::Assigned(agent) => agent.id.as_str(),
            FoundAgent::Type(agent) => agent.slug.as_str(),
        }
    }
}

/// Tasks that live workers run for types, those of assigned agents left out.
async fn unassigned_tasks(
    store: &Store,
    workers: &[AttachedProcess],
) -> Result<BTreeMap<AgentSlug, Vec<TaskId>>, Failure> {
    let alive: Vec<_> = workers.iter().filter(|worker| worker.alive && worker.holds > 0).collect();
    let incarnations: Vec<_> = alive.iter().map(|worker| worker.incarnation.clone()).collect();
    let mut by_run: HashMap<RunId, Vec<u32>> = HashMap::new();
    if !incarnations.is_empty() {
        for task in store.held_tasks(&incarnations).await?.into_iter().flatten() {
            by_run.entry(task.run).or_default().push(task.index);
        }
    }
    let mut found: BTreeMap<AgentSlug, Vec<TaskId>> = BTreeMap::new();
    for (id, indexes) in by_run {
        let Some(run) = store.run(&id).await? else { continue };
        let tasks = store.tasks_at(&id, &indexes).await?;
        let shared = shared_parts(store, &run, &tasks).await?;
        for task in tasks {
            let runs = matches!(task.status, TaskStatus::Running | TaskStatus::Cancelling);
            if let Some(part) = shared.get(&task.shared).filter(|part| runs && part.assigned.is_none()) {
                found.entry(part.agent.clone()).or_default().push(task.id);
            }
        }
    }
    Ok(found)
}

/// Makes sure that a type is registered, if this host has its file: types register themselves on first use.
///
/// # Errors
/// 65 if its file is wrong; what the store says.
pub(crate) async fn register_on_first_use(
    store: &Store,
    settings: &Settings,
    name: &str,
) -> Result<(), Failure> {
    let files = crate::agent_files::AgentFiles::find(&settings.agents_dirs());
    if files.source(name).is_none() {
        return Ok(());
    }
    let known = store.agent_types().await?;
    if name.parse().is_ok_and(|slug: AgentSlug| known.contains_key(&slug)) {
        return Ok(());
    }
    if let Some(parsed) = files.load(name)? {
        let types = IndexMap::from([(parsed.agent.slug.clone(), parsed.agent)]);
        store.register_missing(&types).await?;
    }
    Ok(())
}

/// Who gives an order, for those who look later.
pub(crate) fn who_asks(surroundings: &crate::config::surroundings::Surroundings) -> String {
    let user = surroundings.variable("USER").ok().flatten().unwrap_or("somebody");
    format!("{user} on {}", maestro_worker::identity::host_name())
}
