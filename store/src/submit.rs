//! Handing a run to the cluster: in chunks, repeatable, invisible until the last one.

use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::ids::{AgentSlug, RunId};
use maestro_model::plan::Plan;
use redis::Pipeline;

use crate::cell::{Reply, Store};
use crate::encode::{Chunk, Section, encode_plan, external_needs};
use crate::error::{Refusal, StoreError};

/// Chunks sent before an answer is awaited.
const CHUNKS_IN_FLIGHT: usize = 8;

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitAnswer {
    /// The run that carries it out: the one asked for, or the first one with the same key.
    pub run: RunId,
    /// Whether another run has the key, and nothing was stored.
    pub repeated: bool,
    /// Whether that other run has another plan.
    pub differs: bool,
}

/// All chunks of a submission carry this.
struct ChunkFrame<'a> {
    run: &'a RunId,
    digest: &'a str,
    key: &'a str,
    needs: String,
}

impl Store {
    /// Submits a run. Sending the same plan under the same id again carries on where it stopped and
    /// harms nothing; `lost_max` is `MAESTRO_MAX_ATTEMPTS`.
    ///
    /// # Errors
    /// `Refusal::RunConflict` if the id is in use for another plan, `NotFound` if a task or run that it
    /// waits for is not there (any more), `TooManyWait`, `Paused`, `OutOfMemory`.
    pub async fn submit(&self, run: &RunId, plan: &Plan, lost_max: u32) -> Result<SubmitAnswer, StoreError> {
        self.register_missing(&plan.agents).await?;
        let encoded = encode_plan(plan, lost_max);
        let frame = ChunkFrame {
            run,
            digest: &encoded.digest,
            key: plan.key.as_deref().unwrap_or_default(),
            needs: external_needs(plan),
        };
        let last = encoded.chunks.len() - 1;
        for (batch_number, batch) in encoded.chunks.chunks(CHUNKS_IN_FLIGHT).enumerate() {
            let mut pipeline = Pipeline::new();
            for (place, chunk) in batch.iter().enumerate() {
                let number = batch_number * CHUNKS_IN_FLIGHT + place;
                pipeline.add_command(self.chunk_command(&frame, number, number == last, chunk));
            }
            for value in self.ask_all(&pipeline).await? {
                let reply = Reply::read("submit", value)?;
                match reply.word.as_str() {
                    "OK" | "DUP" => {}
                    "KEY" => return repeated(&reply),
                    "NONE" => return Err(StoreError::not_found(need_words(&reply.text(0)?))),
                    "WAITERS" => return Err(too_many_waiters(&reply)?.into()),
                    "CONFLICT" => return Err(Refusal::RunConflict { run: run.to_string() }.into()),
                    "GONE" => return Err(Refusal::ClusterGone.into()),
                    _ => return Err(reply.unexpected()),
                }
            }
        }
        Ok(SubmitAnswer { run: run.clone(), repeated: false, differs: false })
    }

    fn chunk_command(
        &self,
        frame: &ChunkFrame<'_>,
        number: usize,
        commit: bool,
        chunk: &Chunk,
    ) -> redis::Cmd {
        self.prepare("submit", |command| {
            command.arg(self.epoch()).arg(frame.run.as_str()).arg(frame.digest);
            command.arg(number).arg(u8::from(commit)).arg(frame.key).arg(&frame.needs);
            for section in Section::ALL {
                let fields = || chunk.iter().filter(move |(of, _, _)| *of == section);
                command.arg(fields().count());
                for (_, field, value) in fields() {
                    command.arg(field).arg(value);
                }
            }
        })
    }

    /// Adds agent types that the registry lacks, with their limits; what is there stays as it is.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn register_missing(&self, agents: &IndexMap<AgentSlug, AgentType>) -> Result<(), StoreError> {
        let known: Vec<String> = {
            let command = redis::cmd("HKEYS").arg(self.keys().agents()).to_owned();
            crate::cell::decode("the registered agent types", self.ask(&command).await?)?
        };
        let missing: Vec<_> =
            agents.iter().filter(|(slug, _)| !known.iter().any(|one| one == slug.as_str())).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::new();
        for (slug, agent) in missing {
            let json = serde_json::to_string(agent).expect("an agent type is plain data");
            pipeline.cmd("HSETNX").arg(self.keys().agents()).arg(slug.as_str()).arg(json);
            if let Some(limit) = agent.limits.max_concurrent {
                pipeline.cmd("HSETNX").arg(self.keys().limits()).arg(slug.as_str()).arg(limit);
            }
        }
        pipeline.cmd("HINCRBY").arg(self.keys().ctl()).arg("registry").arg(1);
        self.ask_all(&pipeline).await.map(drop)
    }

    /// The registered agent types.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn agent_types(&self) -> Result<IndexMap<AgentSlug, AgentType>, StoreError> {
        let command = redis::cmd("HGETALL").arg(self.keys().agents()).to_owned();
        let stored: Vec<(String, String)> =
            crate::cell::decode("the registered agent types", self.ask(&command).await?)?;
        let mut types = IndexMap::new();
        for (slug, json) in stored {
            let unreadable = |_| StoreError::unreadable(format!("the agent type `{slug}`"), &json);
            let agent: AgentType = serde_json::from_str(&json).map_err(unreadable)?;
            types.insert(agent.slug.clone(), agent);
        }
        types.sort_keys();
        Ok(types)
    }
}

fn repeated(reply: &Reply) -> Result<SubmitAnswer, StoreError> {
    let first = reply.text(0)?;
    let run = first.parse().map_err(|_| StoreError::unreadable("the run of a key", &first))?;
    Ok(SubmitAnswer { run, repeated: true, differs: reply.get::<u8>(1)? == 0 })
}

/// What is waited for and is not there, in the user's words.
fn need_words(target: &str) -> String {
    if target.contains('.') { format!("task `{target}`") } else { format!("run `{target}`") }
}

fn too_many_waiters(reply: &Reply) -> Result<Refusal, StoreError> {
    Ok(Refusal::TooManyWait { run: reply.text(0)?, waiting: reply.get(1)? })
}
