//! What attempts came to, on this host's disk until it is safe in Redis.
//!
//! Redis may lose the last second it acknowledged (a power cut, a failover to a replica), and this worker may
//! die between an agent's end and the report of it. Each outcome is therefore written here before it is
//! reported, and told again by `recovery`. A write goes to the page cache and costs microseconds; once a
//! second everything written is forced onto the disk, in a thread of its own.
//!
//! There are two files, the present one and the one before. Both together hold at least the last
//! `PART_AGE` of outcomes, and never more than twice `PART_BYTES_MAX` and one report.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use maestro_model::ids::{Incarnation, WorkerName};
use maestro_store::step::{Ending, StepReport};
use serde::{Deserialize, Serialize};

/// How long outcomes stay at least, unless there are too many: longer than any usual lag of a replica.
pub const PART_AGE: Duration = Duration::from_secs(15);
/// Bytes of one of the two files before the next begins.
pub const PART_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Between two times that what was written is forced onto the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often it is said that the disk refuses.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);
/// The version of the files.
const FORMAT: u32 = 1;

/// The first line of a file: for whom its outcomes speak.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalOwner {
    /// The format of the lines.
    pub v: u32,
    /// The cluster.
    pub cluster: String,
    /// The incarnation that held the attempts.
    pub incarnation: Incarnation,
}

impl JournalOwner {
    /// Of a process in a cluster.
    pub fn new(cluster: &str, incarnation: &Incarnation) -> JournalOwner {
        JournalOwner { v: FORMAT, cluster: cluster.to_owned(), incarnation: incarnation.clone() }
    }
}

/// Outcomes of one incarnation, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalledOutcomes {
    /// Whose they are.
    pub owner: JournalOwner,
    /// What they are.
    pub reports: Vec<StepReport>,
}

/// Where a worker's journal lies.
#[derive(Debug, Clone)]
pub struct JournalPlace {
    present: PathBuf,
    before: PathBuf,
}

impl JournalPlace {
    /// Beside the lock file of the worker's name, so that only one process writes it.
    pub fn of(root: &Path, name: &WorkerName) -> JournalPlace {
        JournalPlace {
            present: root.join(format!(".worker-{name}.journal")),
            before: root.join(format!(".worker-{name}.journal.before")),
        }
    }

    /// All outcomes that are written, oldest first, by incarnation. What cannot be read is passed over:
    /// a line that was being written when the host went down is no outcome.
    pub fn read(&self) -> Vec<JournalledOutcomes> {
        let mut all: Vec<JournalledOutcomes> = Vec::new();
        for path in [&self.before, &self.present] {
            match read_part(path) {
                Ok(Some(part)) => match all.last_mut().filter(|last| last.owner == part.owner) {
                    Some(last) => last.reports.extend(part.reports),
                    None => all.push(part),
                },
                Ok(None) => {}
                Err(error) => tracing::warn!("cannot read {}: {error}", path.display()),
            }
        }
        all
    }
}

fn read_part(path: &Path) -> std::io::Result<Option<JournalledOutcomes>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut lines = BufReader::new(file).split(b'\n');
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let Ok(owner) = serde_json::from_slice::<JournalOwner>(&first) else { return Ok(None) };
    if owner.v != FORMAT {
        return Ok(None);
    }
    let mut reports = Vec::new();
    for line in lines {
        if let Ok(report) = serde_json::from_slice(&line?) {
            reports.push(report);
        }
    }
    Ok(Some(JournalledOutcomes { owner, reports }))
}

/// Adds an outcome in the form in which it is written. What is given back is no outcome: the record still
/// says who holds it.
pub fn encode(report: &StepReport, into: &mut Vec<u8>) {
    if matches!(report.ending, Ending::Returned { .. }) {
        return;
    }
    serde_json::to_writer(&mut *into, report).expect("plain data, and memory takes it");
    into.push(b'\n');
}

/// The journal of a running worker.
#[derive(Debug)]
pub struct Journal {
    place: JournalPlace,
    owner: JournalOwner,
    present: Arc<SyncedFile>,
    bytes: u64,
    begun: Instant,
    complained: Option<Instant>,
}

/// The file that is written at present, for the thread that forces it onto the disk.
#[derive(Debug, Default)]
pub struct SyncedFile {
    /// The file, and whether something in it is not on the disk.
    state: Mutex<(Option<Arc<File>>, bool)>,
}

impl Journal {
    /// Begins anew for an incarnation; what was written before is gone.
    pub fn begin(place: JournalPlace, owner: JournalOwner) -> Journal {
        let _there_may_be_none = std::fs::remove_file(&place.before);
        let mut journal = Journal {
            place,
            owner,
            present: Arc::default(),
            bytes: 0,
            begun: Instant::now(),
            complained: None,
        };
        let opened = journal.open_part();
        journal.complain_of(opened);
        journal
    }

    /// Goes on for another incarnation of the same process.
    pub fn begin_again(&mut self, owner: JournalOwner) {
        let _there_may_be_none = std::fs::remove_file(&self.place.before);
        self.owner = owner;
        let opened = self.open_part();
        self.complain_of(opened);
    }

    /// Where it lies.
    pub fn place(&self) -> &JournalPlace {
        &self.place
    }

    /// For `sync_every_second`.
    pub fn file(&self) -> Arc<SyncedFile> {
        self.present.clone()
    }

    /// Writes encoded outcomes. `unreported` encodes those that are not acknowledged yet, which a new file
    /// begins with. A disk that refuses is complained of and stops nobody.
    pub fn write(&mut self, outcomes: &[u8], unreported: impl FnOnce() -> Vec<u8>) {
        if outcomes.is_empty() {
            return;
        }
        let is_full = self.bytes + outcomes.len() as u64 > PART_BYTES_MAX;
        let written = if is_full || self.begun.elapsed() > PART_AGE {
            // Those that are written now are among the unreported ones.
            self.next_part().and_then(|()| self.append(&unreported()))
        } else {
            self.append(outcomes)
        };
        self.complain_of(written);
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut state = self.present.state.lock().expect("no holder panics");
        let Some(file) = &state.0 else { return Ok(()) };
        file.as_ref().write_all(bytes)?;
        state.1 = true;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn next_part(&mut self) -> std::io::Result<()> {
        match std::fs::rename(&self.place.present, &self.place.before) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.open_part()
    }

    fn open_part(&mut self) -> std::io::Result<()> {
        let opened =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&self.place.present);
        let (file, failed) = match opened {
            Ok(file) => (Some(Arc::new(file)), None),
            Err(error) => (None, Some(error)),
        };
        self.present.state.lock().expect("no holder panics").0 = file;
        (self.bytes, self.begun) = (0, Instant::now());
        if let Some(error) = failed {
            return Err(error);
        }
        let mut header = serde_json::to_vec(&self.owner).expect("plain data");
        header.push(b'\n');
        self.append(&header)
    }

    fn complain_of(&mut self, result: std::io::Result<()>) {
        let Err(error) = result else { return };
        if self.complained.is_none_or(|last| last.elapsed() > COMPLAINT_EVERY) {
            self.complained = Some(Instant::now());
            tracing::warn!(
                "outcomes are not written to {}: {error}; they are safe only in redis",
                self.place.present.display()
            );
        }
    }
}

/// Forces what was written onto the disk, once a second for all. To be dropped when the worker ends.
pub async fn sync_every_second(present: Arc<SyncedFile>) {
    loop {
        tokio::time::sleep(SYNC_EVERY).await;
        let unsafe_file = {
            let mut state = present.state.lock().expect("no holder panics");
            let is_unsafe = std::mem::take(&mut state.1);
            state.0.clone().filter(|_| is_unsafe)
        };
        let Some(file) = unsafe_file else { continue };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || file.sync_data()).await {
            tracing::warn!("outcomes are not forced onto the disk: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(index: u32, output: &str) -> StepReport {
        let (task, attempt) = crate::samples::key(index, 1);
        let ending = Ending::Completed { exit_code: Some(0) };
        StepReport { task, attempt, ending, output: output.to_owned(), publish: Vec::new() }
    }

    fn encoded(reports: &[StepReport]) -> Vec<u8> {
        let mut bytes = Vec::new();
        reports.iter().for_each(|report| encode(report, &mut bytes));
        bytes
    }

    fn place(root: &Path) -> JournalPlace {
        JournalPlace::of(root, &"alpha".parse().expect("a lawful name"))
    }

    fn owner() -> JournalOwner {
        JournalOwner::new("cluster", &Incarnation::random())
    }

    #[test]
    fn what_is_written_is_read_again_but_for_what_is_torn() {
        let root = tempfile::tempdir().expect("a folder");
        let (place, owner) = (place(root.path()), owner());
        assert_eq!(place.read(), []);
        let mut journal = Journal::begin(place.clone(), owner.clone());
        let reports = [report(1, "{\"x\":\"a\\nb\"}"), report(2, "")];
        let given_back = StepReport { ending: Ending::Returned { host_failed: false }, ..report(3, "") };
        journal.write(&encoded(&[&reports[..], &[given_back]].concat()), Vec::new);
        journal.write(b"{\"task\":{\"ru", Vec::new);
        assert_eq!(place.read(), [JournalledOutcomes { owner, reports: reports.to_vec() }]);
    }

    #[test]
    fn it_stays_small_and_keeps_what_is_not_reported() {
        let root = tempfile::tempdir().expect("a folder");
        let (place, owner) = (place(root.path()), owner());
        let mut journal = Journal::begin(place.clone(), owner);
        let waiting = report(0, "waiting");
        let large = "x".repeat(1024 * 1024);
        for index in 1..=40 {
            let report = report(index, &large);
            let unreported = encoded(&[waiting.clone(), report.clone()]);
            journal.write(&encoded(&[report]), || unreported);
        }
        let bytes: u64 =
            [&place.present, &place.before].iter().map(|path| path.metadata().expect("a file").len()).sum();
        assert!(bytes <= 2 * PART_BYTES_MAX + 2 * large.len() as u64, "{bytes}");
        let kept = place.read().remove(0).reports;
        assert!(kept.contains(&waiting) && kept.contains(&report(40, &large)));
        assert!(!kept.contains(&report(1, &large)));
    }

    #[test]
    fn another_incarnation_begins_anew() {
        let root = tempfile::tempdir().expect("a folder");
        let place = place(root.path());
        let mut journal = Journal::begin(place.clone(), owner());
        journal.write(&encoded(&[report(1, "")]), Vec::new);
        let next = owner();
        journal.begin_again(next.clone());
        assert_eq!(place.read(), [JournalledOutcomes { owner: next, reports: Vec::new() }]);
    }

    #[test]
    fn a_disk_that_refuses_stops_nobody() {
        let root = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::begin(place(&root.path().join("missing")), owner());
        journal.write(&encoded(&[report(1, "")]), Vec::new);
        assert_eq!(journal.place().read(), []);
    }
}
