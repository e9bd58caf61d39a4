//! Sending a step, and how request and answer lie on the wire: few words for much that is alike.
//!
//! What the words mean is said in `scripts/step.lua` and `scripts/grant.lua`; nothing is decided here.

use maestro_model::ids::{Incarnation, TaskId};
use redis::{Cmd, Value};

use crate::assignments::read_assignment;
use crate::cell::{Reply, Store};
use crate::error::{Refusal, StoreError};
use crate::record::TaskRecord;
use crate::step::{
    CellMode, Ending, GatheredValue, Grant, ReportAnswer, STEP_BATCH_MAX, StepReply, StepReport, StepRequest,
};

impl Store {
    /// Reports and claims.
    ///
    /// # Errors
    /// `Refusal::Paused` while the cell is frozen (reports are to be kept), `Epoch`, `ClusterGone`.
    ///
    /// # Panics
    /// If there are more reports than `STEP_BATCH_MAX`.
    pub async fn step(
        &self,
        incarnation: &Incarnation,
        request: &StepRequest,
    ) -> Result<StepReply, StoreError> {
        assert!(
            request.reports.len() <= STEP_BATCH_MAX,
            "a request carries at most {STEP_BATCH_MAX} reports"
        );
        let value = self.eval("step", |command| fill(command, &self.epoch(), incarnation, request)).await?;
        let reply = Reply::read("step", value)?;
        match reply.word.as_str() {
            "OK" => read_reply(reply),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }
}

/// Adds a request's words to the command.
fn fill(command: &mut Cmd, epoch: &str, incarnation: &Incarnation, request: &StepRequest) {
    command.arg(epoch).arg(incarnation.as_str()).arg(request.lane).arg(request.request_id);
    command.arg(request.want.min(STEP_BATCH_MAX)).arg(request.state_ttl_ms).arg(request.queues.len());
    for queue in &request.queues {
        command.arg(queue.as_str());
    }
    command.arg(request.reports.chunk_by(are_alike).count());
    for group in request.reports.chunk_by(are_alike) {
        fill_group(command, group);
    }
}

/// Whether two reports that follow each other are one group: they keep their order, and so do the answers.
fn are_alike(one: &StepReport, next: &StepReport) -> bool {
    let plain = one.publish.is_empty() && next.publish.is_empty();
    plain && one.task.run == next.task.run && one.ending == next.ending
}

fn fill_group(command: &mut Cmd, group: &[StepReport]) {
    let Some(first) = group.first() else { return };
    let code = |code: &Option<i32>| code.map(|code| code.to_string()).unwrap_or_default();
    let (letter, exit, reason, delay) = match &first.ending {
        Ending::Completed { exit_code } => ("C", code(exit_code), "", String::new()),
        Ending::Skipped => ("K", String::new(), "", String::new()),
        Ending::Failed { reason, exit_code, retry_in_ms } => (
            "F",
            code(exit_code),
            reason.word(),
            retry_in_ms.map(|delay| delay.to_string()).unwrap_or_default(),
        ),
        Ending::ComeBack { delay_ms } => ("A", "75".to_owned(), "exit", delay_ms.to_string()),
        Ending::Cancelled => ("N", String::new(), "", String::new()),
        Ending::Returned { host_failed: true } => ("Q", String::new(), "infra", String::new()),
        Ending::Returned { host_failed: false } => ("Q", String::new(), "", String::new()),
    };
    let has_outputs = group.iter().any(|report| !report.output.is_empty());
    command.arg(first.task.run.as_str()).arg(letter).arg(exit).arg(reason).arg(delay);
    command.arg(u8::from(has_outputs)).arg(first.publish.len()).arg(group.len());
    for report in group {
        command.arg(report.task.index);
    }
    for report in group {
        command.arg(report.attempt.0);
    }
    if has_outputs {
        for report in group {
            command.arg(&report.output);
        }
    }
    for value in &first.publish {
        command.arg(&value.key).arg(&value.value).arg(if value.json { "j" } else { "s" });
    }
}

/// Reads the answer.
fn read_reply(mut reply: Reply) -> Result<StepReply, StoreError> {
    let words: String = reply.get(0)?;
    let answers =
        words.split(' ').filter(|word| !word.is_empty()).map(read_answer).collect::<Result<_, _>>()?;
    let grants = match reply.rest.get_mut(1).map(std::mem::take) {
        Some(Value::Array(values)) => read_grants(values)?,
        other => return Err(StoreError::unreadable("the grants of a step", other)),
    };
    Ok(StepReply {
        answers,
        grants,
        more: reply.get::<u8>(2)? == 1,
        mode: CellMode::read(&reply.text(3)?),
        fenced: reply.get::<u8>(4)? == 1,
    })
}

fn read_answer(word: &str) -> Result<ReportAnswer, StoreError> {
    match word {
        "OK" => Ok(ReportAnswer::Accepted),
        "DUP" => Ok(ReportAnswer::Repeated),
        "CANCELLED" => Ok(ReportAnswer::Cancelled),
        "STALE" => Ok(ReportAnswer::Stale),
        "GONE" => Ok(ReportAnswer::Gone),
        _ => Err(StoreError::unreadable("the answer to a report", word)),
    }
}

/// A flat list of words, read from its front.
struct Words {
    values: std::vec::IntoIter<Value>,
}

impl Words {
    /// The next word; none where the script had none.
    fn text(&mut self) -> Result<Option<String>, StoreError> {
        match self.values.next() {
            Some(Value::BulkString(bytes)) => {
                String::from_utf8(bytes).map(Some).map_err(|_| StoreError::unreadable("a grant", "no UTF-8"))
            }
            Some(Value::Int(number)) => Ok(Some(number.to_string())),
            Some(Value::Nil) => Ok(None),
            other => Err(StoreError::unreadable("a grant", other)),
        }
    }

    fn word(&mut self) -> Result<String, StoreError> {
        self.text()?.ok_or_else(|| StoreError::unreadable("a grant", "a word is missing"))
    }

    fn number(&mut self) -> Result<u32, StoreError> {
        let word = self.word()?;
        word.parse().map_err(|_| StoreError::unreadable("a number of a grant", word))
    }

    fn record(&mut self) -> Result<Option<TaskRecord>, StoreError> {
        self.text()?.map(|line| TaskRecord::read(&line)).transpose()
    }
}

fn read_grants(values: Vec<Value>) -> Result<Vec<Grant>, StoreError> {
    let mut grants = Vec::new();
    let mut words = Words { values: values.into_iter() };
    while words.values.len() > 0 {
        grants.push(read_grant(&mut words)?);
    }
    Ok(grants)
}

fn read_grant(words: &mut Words) -> Result<Grant, StoreError> {
    let task = words.word()?;
    let task: TaskId = task.parse().map_err(|_| StoreError::unreadable("a grant's task", &task))?;
    let record = TaskRecord::read(&words.word()?)?;
    let spec = words.word()?;
    let own = spec.split_once('\n').and_then(|(_, own)| serde_json::from_str(own).ok());
    let own = own.ok_or_else(|| StoreError::unreadable("a task's own part", &spec))?;
    let agent = words.word()?;
    let count = words.number()?;
    Ok(Grant {
        task,
        attempt: record.attempt,
        failures: record.failures,
        losses: record.losses,
        come_backs: record.come_backs,
        host_failures: record.host_failures,
        shared: record.shared,
        group: record.window.strip_prefix('g').and_then(|group| group.parse().ok()),
        own,
        values: (0..count).map(|_| read_gathered(words)).collect::<Result<_, _>>()?,
        agent: (!agent.is_empty()).then(|| read_assignment(&agent)).transpose()?,
        waited_ms: record
            .started_at_ms
            .zip(record.queued_at_ms)
            .map_or(0, |(now, then)| now.saturating_sub(then)),
    })
}

/// Five words, whatever it is; those it has no use for are empty.
fn read_gathered(words: &mut Words) -> Result<GatheredValue, StoreError> {
    let kind = words.word()?;
    match kind.as_str() {
        "o" => {
            let (index, output, record) = (words.number()?, words.text()?, words.record()?);
            words.text()?;
            Ok(GatheredValue::Step { index, record, output })
        }
        "g" => Ok(GatheredValue::Group {
            index: words.number()?,
            first: words.number()?,
            count: words.number()?,
            record: words.record()?,
        }),
        "s" => {
            let (key, value, kind) = (words.word()?, words.text()?, words.text()?);
            words.text()?;
            Ok(GatheredValue::State { key, value, json: kind.as_deref() == Some("j") })
        }
        _ => Err(StoreError::unreadable("a gathered value", kind)),
    }
}
