//! Taking secrets out of a report.
//!
//! What an agent prints is masked before anything reads it, but words may be put together after that: from
//! JSON, from the output file, from the error file. Nothing leaves the worker without having come through here.
//! Reported values only; what an agent sends out by itself is its own business.

use maestro_model::attempt::AttemptReport;
use serde_json::Value;

use crate::answer::{AnswerFindings, AnswerTrouble};
use crate::log_capture::SecretMask;

/// Masks everything in a report that an agent can have written.
pub(super) fn hide_secrets(report: &mut AttemptReport, mask: &SecretMask) {
    if let Some(message) = &mut report.message {
        *message = mask.text(message);
    }
    if let Some(outputs) = &mut report.outputs {
        hide_in_value(&mut outputs.result, mask);
        outputs.outputs.values_mut().for_each(|value| hide_in_value(value, mask));
    }
    if let Some(session) = report.model_use.as_mut().and_then(|used| used.session.as_mut()) {
        *session = mask.text(session);
    }
    report.publish.values_mut().for_each(|value| hide_in_value(value, mask));
}

/// Masks what was found in an output, before it is cut to what a report takes.
pub(super) fn hide_in_findings(found: &mut AnswerFindings, mask: &SecretMask) {
    if let Some(answer) = &mut found.answer {
        *answer = mask.text(answer);
    }
    match &mut found.trouble {
        Some(AnswerTrouble::Failed(message)) => *message = mask.text(message),
        Some(AnswerTrouble::UsageLimit(limit)) => limit.message = mask.text(&limit.message),
        None => {}
    }
}

fn hide_in_value(value: &mut Value, mask: &SecretMask) {
    match value {
        Value::String(text) => *text = mask.text(text),
        Value::Array(items) => items.iter_mut().for_each(|item| hide_in_value(item, mask)),
        Value::Object(fields) => fields.values_mut().for_each(|field| hide_in_value(field, mask)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use maestro_model::attempt::{AttemptOutcome, TaskOutputs};
    use maestro_model::model_use::ModelUse;
    use serde_json::json;

    use super::*;

    #[test]
    fn no_part_of_a_report_tells_a_secret() {
        let mask = SecretMask::new([b"s3cr3t \"x\"".as_slice()]).expect("a secret");
        let secret = "is s3cr3t \"x\"!";
        let mut report = AttemptReport {
            message: Some(secret.to_owned()),
            outputs: Some(TaskOutputs {
                result: json!({"deep": [secret]}),
                outputs: IndexMap::from([("name".to_owned(), json!(secret))]),
            }),
            publish: IndexMap::from([("key".to_owned(), json!([secret, 1]))]),
            model_use: Some(Box::new(ModelUse { session: Some(secret.to_owned()), ..ModelUse::default() })),
            ..AttemptReport::plain(AttemptOutcome::Completed)
        };
        hide_secrets(&mut report, &mask);
        let json = serde_json::to_string(&report).expect("plain data");
        assert!(!json.contains("s3cr3t"), "{json}");
        assert_eq!(json.matches("is ***!").count(), 5, "{json}");
    }
}
