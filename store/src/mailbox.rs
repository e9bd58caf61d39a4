//! Letters to workers: a question into a worker's list, a ring of its bell, an answer into a list of the
//! question's own.
//!
//! Plain lists, because no task and no assignment changes by a letter. All of it is bounded and goes by
//! itself: a full list takes no more, and what nobody fetches expires.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use maestro_model::ids::Incarnation;
use maestro_model::mailbox::{LETTER_VERSION, WorkerAnswer, WorkerQuestion};
use redis::Value;
use serde::{Deserialize, Serialize};

use crate::cell::{Store, decode};
use crate::error::StoreError;
use crate::worker::own_bell;

/// Most questions that wait for one worker.
const WAITING_MAX: usize = 64;
/// How long a question waits to be fetched.
const QUESTION_STAYS: Duration = Duration::from_secs(120);
/// How long an answer waits to be fetched.
const ANSWER_STAYS: Duration = Duration::from_secs(60);
/// Longest wait in Redis before it is looked whether the worker is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A question as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    v: u32,
    id: String,
    question: serde_json::Value,
}

/// A question that a worker has fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedQuestion {
    /// To whom the answer goes. The same id again is the same question again: its asker heard no answer.
    pub id: String,
    /// What is asked; none if it cannot be understood.
    pub question: Option<WorkerQuestion>,
}

/// How a question to a worker ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Hearing {
    /// It answered.
    Answered(WorkerAnswer),
    /// It did not answer in time; it may still do what was asked.
    Silent,
    /// It has ended, or its lease has been given up.
    Gone,
    /// Too many questions wait for it: this one was not asked.
    Full,
}

impl Store {
    /// Asks a worker, and waits for its answer, at most `longest`.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn ask_worker(
        &self,
        worker: &Incarnation,
        question: &WorkerQuestion,
        longest: Duration,
    ) -> Result<Hearing, StoreError> {
        let deadline = Instant::now() + longest;
        let id = Incarnation::random().to_string();
        let mut connection = self.link().dedicated(LOOK_EVERY).await?;
        let letter = letter(&id, question);
        if !self.post(worker, &letter).await? {
            return Ok(Hearing::Full);
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.take_back(worker, &letter).await?;
                return Ok(Hearing::Silent);
            }
            let mut command = redis::cmd("BLPOP").arg(self.keys().answer(&id)).to_owned();
            command.arg(left.min(LOOK_EVERY).as_secs_f64());
            let answer = connection.send_packed_command(&command).await.and_then(Value::extract_error);
            let value = match answer {
                Ok(value) => value,
                // The answer, if it came meanwhile, is still to be fetched or lost with this connection.
                Err(error) => return Err(self.link().sort(error)),
            };
            let found: Option<(String, String)> = decode("the answer of a worker", value)?;
            if let Some((_, text)) = found {
                let answer = serde_json::from_str(&text);
                return Ok(Hearing::Answered(answer.unwrap_or(WorkerAnswer::NotUnderstood)));
            }
            if !self.is_known(worker).await? {
                self.take_back(worker, &letter).await?;
                // Nobody else takes the token of a worker that is gone.
                let bell = redis::cmd("DEL").arg(self.keys().bell(&own_bell(worker))).to_owned();
                self.ask(&bell).await?;
                return Ok(Hearing::Gone);
            }
        }
    }

    /// Puts a question into a worker's list; false if the list is full.
    async fn post(&self, worker: &Incarnation, letter: &str) -> Result<bool, StoreError> {
        let (list, bell) = (self.keys().questions(worker.as_str()), self.keys().bell(&own_bell(worker)));
        let mut pipeline = redis::pipe();
        pipeline.cmd("RPUSH").arg(&list).arg(letter);
        pipeline.cmd("PEXPIRE").arg(&list).arg(QUESTION_STAYS.as_millis() as u64);
        pipeline.cmd("RPUSH").arg(&bell).arg("1");
        // The bell of a worker that is gone goes as well.
        pipeline.cmd("PEXPIRE").arg(&bell).arg(QUESTION_STAYS.as_millis() as u64);
        let values = self.ask_all(&pipeline).await?;
        let waiting: usize = decode("a list of questions", values.into_iter().next().unwrap_or(Value::Nil))?;
        if waiting > WAITING_MAX {
            self.take_back(worker, letter).await?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Takes a question back that nobody has fetched: what nobody waits for any more is not to be done.
    async fn take_back(&self, worker: &Incarnation, letter: &str) -> Result<(), StoreError> {
        let list = self.keys().questions(worker.as_str());
        let command = redis::cmd("LREM").arg(list).arg(0).arg(letter).to_owned();
        self.ask(&command).await.map(drop)
    }

    async fn is_known(&self, worker: &Incarnation) -> Result<bool, StoreError> {
        let command = redis::cmd("EXISTS").arg(self.keys().worker(worker.as_str())).to_owned();
        let found: u32 = decode("a worker", self.ask(&command).await?)?;
        Ok(found > 0)
    }

    /// Fetches what is asked of a worker, at most `most` questions.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn take_questions(
        &self,
        worker: &Incarnation,
        most: NonZeroUsize,
    ) -> Result<Vec<ReceivedQuestion>, StoreError> {
        let command =
            redis::cmd("LPOP").arg(self.keys().questions(worker.as_str())).arg(most.get()).to_owned();
        let letters: Option<Vec<String>> = decode("the questions to a worker", self.ask(&command).await?)?;
        // What is no letter at all has nobody to answer to.
        let letters = letters.unwrap_or_default().into_iter();
        let read = letters.filter_map(|text| serde_json::from_str::<Letter>(&text).ok());
        Ok(read.map(received).collect())
    }

    /// Answers a question.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn answer_question(&self, id: &str, answer: &WorkerAnswer) -> Result<(), StoreError> {
        let key = self.keys().answer(id);
        let mut pipeline = redis::pipe();
        pipeline.cmd("RPUSH").arg(&key).arg(serde_json::to_string(answer).expect("plain data"));
        pipeline.cmd("PEXPIRE").arg(&key).arg(ANSWER_STAYS.as_millis() as u64);
        self.ask_all(&pipeline).await.map(drop)
    }
}

fn letter(id: &str, question: &WorkerQuestion) -> String {
    let question = serde_json::to_value(question).expect("plain data");
    let letter = Letter { v: LETTER_VERSION, id: id.to_owned(), question };
    serde_json::to_string(&letter).expect("plain data")
}

fn received(letter: Letter) -> ReceivedQuestion {
    let is_ours = letter.v == LETTER_VERSION;
    let question = is_ours.then(|| serde_json::from_value(letter.question).ok()).flatten();
    ReceivedQuestion { id: letter.id, question }
}
