//! Stored workflow definitions: the text itself, every version readable.

use maestro_model::ids::WorkflowName;
use redis::Value;

use crate::cell::{Store, decode};
use crate::error::StoreError;

/// One stored version of a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDefinition {
    /// The workflow's name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// The YAML text.
    pub text: String,
    /// Values that override its `vars`, as JSON text.
    pub vars: String,
    /// When it was stored, ms since 1970.
    pub at_ms: u64,
}

impl Store {
    /// Stores a new version; its number. The same text and vars again is no new version.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn store_definition(
        &self,
        name: &WorkflowName,
        text: &str,
        vars: &str,
    ) -> Result<u32, StoreError> {
        if let Some(newest) = self.definition(name, None).await?
            && newest.text == text
            && newest.vars == vars
        {
            return Ok(newest.version);
        }
        let key = self.keys().workflow(name.as_str());
        let version: u32 = {
            let command = redis::cmd("HINCRBY").arg(&key).arg("latest").arg(1).to_owned();
            decode("a version", self.ask(&command).await?)?
        };
        let time: (u64, u64) = decode("the time", self.ask(&redis::cmd("TIME")).await?)?;
        let at_ms = time.0 * 1000 + time.1 / 1000;
        let mut pipeline = redis::pipe();
        let field = |part: &str| format!("{version}:{part}");
        pipeline
            .cmd("HSET")
            .arg(&key)
            .arg("v")
            .arg(1)
            .arg(field("text"))
            .arg(text)
            .arg(field("vars"))
            .arg(vars);
        pipeline.cmd("HSET").arg(&key).arg(field("at")).arg(at_ms);
        pipeline.cmd("SADD").arg(self.keys().workflows()).arg(name.as_str());
        self.ask_all(&pipeline).await?;
        Ok(version)
    }

    /// A version of a definition, the newest if none is named.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn definition(
        &self,
        name: &WorkflowName,
        version: Option<u32>,
    ) -> Result<Option<StoredDefinition>, StoreError> {
        let key = self.keys().workflow(name.as_str());
        let version = match version {
            Some(version) => version,
            None => {
                let command = redis::cmd("HGET").arg(&key).arg("latest").to_owned();
                let latest: Option<u32> = decode("a version", self.ask(&command).await?)?;
                let Some(latest) = latest else { return Ok(None) };
                latest
            }
        };
        let fields = ["text", "vars", "at"].map(|part| format!("{version}:{part}"));
        let command = redis::cmd("HMGET").arg(&key).arg(&fields[..]).to_owned();
        let values: Vec<Option<String>> = decode("a definition", self.ask(&command).await?)?;
        let [Some(text), vars, at] = &values[..] else { return Ok(None) };
        Ok(Some(StoredDefinition {
            name: name.to_string(),
            version,
            text: text.clone(),
            vars: vars.clone().unwrap_or_default(),
            at_ms: at.as_deref().and_then(|at| at.parse().ok()).unwrap_or(0),
        }))
    }

    /// The newest version of every stored workflow, by name.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn definitions(&self) -> Result<Vec<StoredDefinition>, StoreError> {
        let command = redis::cmd("SMEMBERS").arg(self.keys().workflows()).to_owned();
        let mut names: Vec<String> = decode("the stored workflows", self.ask(&command).await?)?;
        names.sort();
        let mut found = Vec::new();
        for name in names {
            let name = name.parse().map_err(|_| StoreError::unreadable("a workflow's name", &name))?;
            found.extend(self.definition(&name, None).await?);
        }
        Ok(found)
    }

    /// Removes a workflow with all its versions; false if there was none.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn delete_definition(&self, name: &WorkflowName) -> Result<bool, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("SREM").arg(self.keys().workflows()).arg(name.as_str());
        pipeline.cmd("UNLINK").arg(self.keys().workflow(name.as_str()));
        let values = self.ask_all(&pipeline).await?;
        Ok(!matches!(values.first(), Some(Value::Int(0))))
    }
}
