//! What it means that an agent ended by itself.
//!
//! Three may speak: the exit code, the program's own JSON if it prints any, and the files it wrote. An exit
//! code of 0 is not enough: what says in its JSON that it failed has failed, and what never came to its answer
//! was cut off. A program that prints no JSON at all is another one than its type says, a wrapper perhaps: what it
//! printed is its answer, as with plain text. The wait for a usage limit is only told here; whether there is another attempt, the retry
//! policy of the step decides.

use indexmap::IndexMap;
use maestro_model::attempt::{AttemptOutcome, AttemptReport, TaskOutputs};
use maestro_model::output_file::OUTPUT_FILE_BYTES_MAX;
use maestro_model::retry::EXIT_COME_BACK;
use maestro_model::task::Reason;
use serde_json::Value;

use super::ending::{EndingFacts, OutputsError, OwnFiles, bounded};
use crate::answer::{AnswerFindings, AnswerTrouble, UsageLimit};
use crate::launch::MainEnd;
use crate::workspace::OwnFileError;

/// The report of an agent that ended by itself.
pub(super) fn conclude_own_end(main: MainEnd, facts: EndingFacts, files: &impl OwnFiles) -> AttemptReport {
    let EndingFacts { result, answer, last_error_line, ran_out_of_memory, .. } = facts;
    let model_use = answer.as_ref().and_then(AnswerFindings::told_use);
    let found = answer
        .filter(|found| found.events > 0)
        .unwrap_or(AnswerFindings { answer: Some(result), ..AnswerFindings::default() });
    let report = if main == MainEnd::Exited(0) {
        // What lost a part of itself and still came to its end is judged by its end.
        conclude_success(found, files)
    } else if ran_out_of_memory {
        let message = "the kernel ended a process of the agent at its limit on memory (`resources.memory`)";
        AttemptReport::failed(Reason::Oom, None, message)
    } else {
        conclude_failure(main, found, last_error_line, files)
    };
    AttemptReport { model_use, ..report }
}

fn conclude_failure(
    main: MainEnd,
    found: AnswerFindings,
    last_error_line: String,
    files: &impl OwnFiles,
) -> AttemptReport {
    let (code, ended) = match main {
        MainEnd::Exited(code) => (code, format!("the agent ended with exit code {code}")),
        MainEnd::Signaled(signal) => (128 + signal, format!("the agent was ended by signal {signal}")),
    };
    let from_file = files.error_text().filter(|text| !text.is_empty()).map(|text| bounded(&text));
    let from_stderr = Some(last_error_line).filter(|line| !line.is_empty()).map(|line| bounded(&line));
    if main == MainEnd::Exited(EXIT_COME_BACK) {
        let message = from_file.or(from_stderr);
        return AttemptReport { message, ..AttemptReport::plain(AttemptOutcome::ComeBack) };
    }
    match (from_file, found.trouble) {
        (None, Some(trouble)) => troubled(trouble, Some(code)),
        (from_file, _) => {
            AttemptReport::failed(Reason::Exit, Some(code), from_file.or(from_stderr).unwrap_or(ended))
        }
    }
}

fn conclude_success(found: AnswerFindings, files: &impl OwnFiles) -> AttemptReport {
    // Its code was 0, which would tell whoever passes it on that all was well: there is none.
    let result = match found {
        AnswerFindings { trouble: Some(trouble), .. } => return troubled(trouble, None),
        AnswerFindings { answer: Some(answer), .. } => answer,
        AnswerFindings { events, .. } => {
            return AttemptReport::failed(Reason::Exit, None, without_answer(events));
        }
    };
    match files.outputs() {
        Ok(pairs) => {
            let outputs: IndexMap<String, Value> =
                pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
            let outputs = TaskOutputs { result: Value::String(result), outputs };
            AttemptReport { outputs: Some(outputs), ..AttemptReport::plain(AttemptOutcome::Completed) }
        }
        // The agent's own code is known, and it was 0: what failed is what it wrote.
        Err(OutputsError::Unreadable(OwnFileError::TooLarge { .. })) => AttemptReport::failed(
            Reason::Config,
            Some(0),
            format!("the output file has more than {OUTPUT_FILE_BYTES_MAX} bytes"),
        ),
        Err(OutputsError::Unreadable(OwnFileError::Host(error))) => {
            AttemptReport::failed(Reason::Infra, None, format!("cannot read the output file: {error}"))
        }
        Err(error) => AttemptReport::failed(Reason::Config, Some(0), bounded(&error.to_string())),
    }
}

/// What is said of an output that ends before its answer.
fn without_answer(events: u64) -> String {
    let events = if events == 1 { "1 event".to_owned() } else { format!("{events} events") };
    format!("the agent ended without an answer: what it printed was cut off after {events}")
}

/// The failure that a program told of itself.
fn troubled(trouble: AnswerTrouble, exit_code: Option<i32>) -> AttemptReport {
    match trouble {
        AnswerTrouble::Failed(message) => AttemptReport::failed(Reason::Exit, exit_code, bounded(&message)),
        AnswerTrouble::UsageLimit(UsageLimit { message, reset }) => {
            let text = match reset {
                Some(reset) => format!("usage limit until {}: {message}", reset.at.strftime("%FT%TZ")),
                None => format!("usage limit: {message}"),
            };
            AttemptReport {
                not_before_ms: reset.map(|reset| reset.wait.as_millis() as u64),
                ..AttemptReport::failed(Reason::Budget, exit_code, bounded(&text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use maestro_model::model_use::{ModelTokens, ModelUse};

    use super::*;
    use crate::answer::LimitReset;
    use crate::attempt::agent::AgentExit;
    use crate::launch::{ProcessEnd, TreeEnd, TreeEndCause};

    #[derive(Default)]
    struct Files {
        error_text: Option<&'static str>,
    }

    impl OwnFiles for Files {
        fn outputs(&self) -> Result<IndexMap<String, String>, OutputsError> {
            Ok(IndexMap::from([("id".to_owned(), "7".to_owned())]))
        }

        fn error_text(&self) -> Option<String> {
            self.error_text.map(str::to_owned)
        }
    }

    fn report_of(main: MainEnd, answer: AnswerFindings, files: &Files) -> AttemptReport {
        let process = ProcessEnd::Ended(TreeEnd {
            main,
            cause: TreeEndCause::Asked,
            survivors: 0,
            leftovers: 0,
            max_rss_kib: 0,
            user_us: 0,
            system_us: 0,
        });
        let facts = EndingFacts {
            cause: None,
            exit: AgentExit::Process(process),
            result: "plain words".to_owned(),
            answer: Some(answer),
            last_error_line: "a warning".to_owned(),
            ran_out_of_memory: false,
        };
        conclude_own_end(main, facts, files)
    }

    fn used() -> ModelUse {
        let tokens = Some(ModelTokens { input: 3, cached: 1, output: 2 });
        ModelUse { session: Some("s-1".to_owned()), tokens, ..ModelUse::default() }
    }

    #[test]
    fn the_answer_is_the_result_and_what_it_took_is_told() {
        let answer = AnswerFindings {
            answer: Some("42".to_owned()),
            model_use: used(),
            events: 2,
            ..AnswerFindings::default()
        };
        let report = report_of(MainEnd::Exited(0), answer, &Files::default());
        assert_eq!(report.outcome, AttemptOutcome::Completed);
        assert_eq!(report.model_use.as_deref(), Some(&used()));
        let outputs = report.outputs.expect("it completed");
        assert_eq!((outputs.result, &outputs.outputs["id"]), (Value::from("42"), &Value::from("7")));
    }

    #[test]
    fn an_error_in_json_is_a_failure_whatever_the_code() {
        let failed = || AnswerFindings {
            answer: Some("half of it".to_owned()),
            trouble: Some(AnswerTrouble::Failed("API Error: 400".to_owned())),
            model_use: used(),
            events: 2,
        };
        for (main, exit_code) in [(MainEnd::Exited(0), None), (MainEnd::Exited(1), Some(1))] {
            let report = report_of(main, failed(), &Files::default());
            assert_eq!(report.outcome, AttemptOutcome::Failed { reason: Reason::Exit, exit_code });
            assert_eq!(report.message.as_deref(), Some("API Error: 400"));
            assert_eq!((report.outputs, report.model_use.as_deref()), (None, Some(&used())));
        }
        let told = Files { error_text: Some("from the error file") };
        let report = report_of(MainEnd::Exited(1), failed(), &told);
        assert_eq!(
            report.message.as_deref(),
            Some("from the error file"),
            "the agent's own file comes first"
        );
    }

    #[test]
    fn an_output_without_an_answer_was_cut_off() {
        let cut = AnswerFindings { events: 3, ..AnswerFindings::default() };
        let report = report_of(MainEnd::Exited(0), cut, &Files::default());
        assert_eq!(report.outcome, AttemptOutcome::Failed { reason: Reason::Exit, exit_code: None });
        let message = report.message.expect("it says why");
        assert!(message.ends_with("cut off after 3 events"), "{message}");
    }

    #[test]
    fn what_prints_no_json_is_taken_as_text() {
        let report = report_of(MainEnd::Exited(0), AnswerFindings::default(), &Files::default());
        assert_eq!(report.outcome, AttemptOutcome::Completed);
        assert_eq!(report.outputs.expect("it completed").result, "plain words");
    }

    #[test]
    fn a_usage_limit_has_its_own_reason_and_says_until_when() {
        let at: Timestamp = "2026-11-20T14:08:44Z".parse().expect("a time");
        let reset = Some(LimitReset { at, wait: Duration::from_secs(7_200) });
        let limit = UsageLimit { message: "You've hit your 5-hour limit".to_owned(), reset };
        let answer = AnswerFindings {
            trouble: Some(AnswerTrouble::UsageLimit(limit)),
            events: 2,
            ..AnswerFindings::default()
        };
        let report = report_of(MainEnd::Exited(1), answer, &Files::default());
        assert_eq!(report.outcome, AttemptOutcome::Failed { reason: Reason::Budget, exit_code: Some(1) });
        assert_eq!(report.not_before_ms, Some(7_200_000));
        let expected = "usage limit until 2026-11-20T14:08:44Z: You've hit your 5-hour limit";
        assert_eq!(report.message.as_deref(), Some(expected));
    }

    #[test]
    fn an_agent_that_asks_to_be_called_again_is_called_again() {
        let answer = AnswerFindings { model_use: used(), ..AnswerFindings::default() };
        let report = report_of(MainEnd::Exited(EXIT_COME_BACK), answer, &Files::default());
        assert_eq!(report.outcome, AttemptOutcome::ComeBack);
    }
}
