//! Where questions arrive: a loop that fetches them, and a task for each.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use maestro_model::mailbox::WorkerAnswer;
use maestro_store::Store;
use maestro_store::mailbox::ReceivedQuestion;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use super::answering::MailDesk;
use crate::bells::BellTopic;
use crate::causes::with_sources;

/// Questions fetched at one time.
const PORTION: NonZeroUsize = NonZeroUsize::new(16).expect("it is not zero");
/// Answers worked on at one time; counting files takes a while, and others wait for it.
const ANSWERS_AT_ONCE: usize = 8;
/// Questions fetched and not answered yet; more stay in Redis.
const OPEN_MAX: usize = 64;
/// Questions remembered, so that one that was sent twice is answered once.
const REMEMBERED_MAX: usize = 256;
/// Wait before questions are fetched again after Redis did not answer.
const FETCH_AGAIN_WAIT: Duration = Duration::from_secs(1);

/// The loop. It ends when the worker does; what is being answered then ends with it.
pub struct MailRoom {
    desk: Arc<MailDesk>,
    topic: watch::Receiver<BellTopic>,
    arrived: Arc<Notify>,
    answering: JoinSet<()>,
    slots: Arc<Semaphore>,
    remembered: VecDeque<String>,
}

impl MailRoom {
    /// `topic` says who this worker is, `arrived` is woken by its own bell.
    pub fn new(desk: MailDesk, topic: watch::Receiver<BellTopic>, arrived: Arc<Notify>) -> MailRoom {
        MailRoom {
            desk: Arc::new(desk),
            topic,
            arrived,
            answering: JoinSet::new(),
            slots: Arc::new(Semaphore::new(ANSWERS_AT_ONCE)),
            remembered: VecDeque::new(),
        }
    }

    /// Fetches and answers, until dropped.
    pub async fn run(mut self) {
        loop {
            self.arrived.notified().await;
            while self.fetch().await {}
        }
    }

    /// Fetches one portion; whether there may be more.
    async fn fetch(&mut self) -> bool {
        while self.answering.try_join_next().is_some() {}
        while self.answering.len() >= OPEN_MAX {
            self.answering.join_next().await;
        }
        let who = self.topic.borrow().who.clone();
        // Not attached: the questions were to a predecessor, and expire.
        let Some((store, incarnation)) = who else { return false };
        match store.take_questions(&incarnation, PORTION).await {
            Ok(questions) => {
                let is_full = questions.len() == PORTION.get();
                for question in questions {
                    self.take_up(store.clone(), question);
                }
                is_full
            }
            Err(error) => {
                tracing::debug!("questions cannot be fetched: {}", with_sources(&error));
                tokio::time::sleep(FETCH_AGAIN_WAIT).await;
                // Once more, unless Redis forgets this worker: then its next life is rung for.
                error.may_pass()
            }
        }
    }

    fn take_up(&mut self, store: Store, question: ReceivedQuestion) {
        if self.remembered.contains(&question.id) {
            return;
        }
        if self.remembered.len() == REMEMBERED_MAX {
            self.remembered.pop_front();
        }
        self.remembered.push_back(question.id.clone());
        let (desk, slots) = (self.desk.clone(), self.slots.clone());
        self.answering.spawn(async move {
            let id = question.id.clone();
            let answer = tokio::spawn(async move {
                let _slot = slots.acquire().await;
                match question.question {
                    Some(question) => desk.answer(question).await,
                    None => WorkerAnswer::NotUnderstood,
                }
            });
            let answer = answer.await.unwrap_or_else(|error| {
                tracing::error!("a question broke down: {error}");
                WorkerAnswer::Failed { message: "the worker broke down over the question".to_owned() }
            });
            if let Err(error) = store.answer_question(&id, &answer).await {
                tracing::warn!("an answer did not reach redis: {}", with_sources(&error));
            }
        });
    }
}
