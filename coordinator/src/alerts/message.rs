//! The body of an alert, and its signature.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::health::HealthChange;

/// Version of the body: fields may be added, none changes its meaning.
pub const ALERT_VERSION: u32 = 1;
/// The header that a signature stands in.
pub const SIGNATURE_HEADER: &str = "x-maestro-signature";

/// What is sent for one change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlertMessage {
    /// `ALERT_VERSION`.
    pub version: u32,
    /// The same for the beginning and the end of one problem, and for nothing else.
    pub id: String,
    /// `firing` or `resolved`.
    pub status: &'static str,
    /// Which health rule.
    pub rule: &'static str,
    /// With what: a worker, an agent, or a task.
    pub subject: String,
    /// In words.
    pub message: String,
    /// On which worker, if on one.
    pub worker: Option<String>,
    /// Whether it stays until a person does something.
    pub needs_person: bool,
    /// When it was first seen, RFC 3339.
    pub since: String,
    /// When it was seen to have changed, RFC 3339.
    pub at: String,
    /// The cluster's id.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
}

impl AlertMessage {
    /// Of a change in a cluster.
    pub fn of(change: &HealthChange, cluster: &str, namespace: &str) -> AlertMessage {
        let problem = &change.problem;
        let named = format!("{cluster}\0{}\0{}\0{}", problem.rule.word(), problem.subject, change.since_ms);
        AlertMessage {
            version: ALERT_VERSION,
            id: hex(&Sha256::digest(named.as_bytes())[..16]),
            status: change.kind.word(),
            rule: problem.rule.word(),
            subject: problem.subject.clone(),
            message: problem.message.clone(),
            worker: problem.worker.clone(),
            needs_person: problem.needs_person,
            since: rfc3339(change.since_ms),
            at: rfc3339(change.at_ms),
            cluster: cluster.to_owned(),
            namespace: namespace.to_owned(),
        }
    }

    /// The bytes that are sent and signed.
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }
}

/// `sha256=` and the HMAC of the body in hexadecimal digits.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key may be of any length");
    mac.update(body);
    format!("sha256={}", hex(&mac.finalize().into_bytes()))
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn rfc3339(unix_ms: u64) -> String {
    let stamp = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| unix_ms.to_string(), |stamp| stamp.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{ChangeKind, HealthProblem, HealthRule};

    #[test]
    fn the_signature_is_the_hmac_of_rfc_4231() {
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), expected);
    }

    #[test]
    fn beginning_and_end_of_a_problem_have_one_id_and_the_next_one_another() {
        let change = |kind, since_ms| HealthChange {
            kind,
            problem: HealthProblem {
                rule: HealthRule::Disk,
                subject: "w0".to_owned(),
                message: "full".to_owned(),
                worker: Some("w0".to_owned()),
                needs_person: true,
            },
            since_ms,
            at_ms: 1_763_662_920_000,
        };
        let id = |kind, since_ms| AlertMessage::of(&change(kind, since_ms), "c", "maestro").id;
        assert_eq!(id(ChangeKind::Firing, 5), id(ChangeKind::Resolved, 5));
        assert_ne!(id(ChangeKind::Firing, 5), id(ChangeKind::Firing, 6));
        let message = AlertMessage::of(&change(ChangeKind::Firing, 0), "c", "maestro");
        assert_eq!((message.status, message.at.as_str()), ("firing", "2025-11-20T18:22:00Z"));
    }
}
