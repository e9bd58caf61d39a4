//! An assigned agent at this moment: its folder, its process, its output, its log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use maestro_model::ids::AgentId;
use maestro_model::mailbox::{
    AgentHealthFacts, LOG_LINE_BYTES_MAX, LOG_LINES_TOLD_MAX, RunningFacts, WorkerAnswer,
};
use rustix::process::{Pid, test_kill_process};

use super::answering::{MailDesk, off_the_loop};
use super::folder::folder_problems;
use crate::held::AttemptKey;
use crate::host_checks::obstacle;
use crate::running::LiveAttempt;
use crate::serving::known_types;

/// How much of a log's end is read.
const LOG_BYTES_READ_MAX: u64 = 1024 * 1024;
/// Most folders in which the newest log is looked for.
const LOGS_LOOKED_AT_MAX: usize = 10_000;

impl MailDesk {
    pub(super) async fn agent_health(&self, agent: AgentId, path: String, log_lines: u32) -> WorkerAnswer {
        let running = self.running_of(&agent);
        let own_files = self.root.path().join(agent.as_str());
        let hindrance = self.hindrance(&agent).await;
        off_the_loop(move || {
            let (folder, mut problems) = folder_problems(Path::new(&path));
            problems.extend(hindrance);
            let log = match &running {
                Some((_, live)) => Some(live.paths.log()),
                None => newest_log(&own_files),
            };
            let running = running.map(|(key, live)| running_facts(&key, &live, &mut problems));
            let lines = log_lines.min(LOG_LINES_TOLD_MAX) as usize;
            let health = AgentHealthFacts {
                problems,
                folder,
                running,
                log: log.as_deref().map(|log| last_lines(log, lines)).unwrap_or_default(),
                log_path: log.map(|log| log.to_string_lossy().into_owned()),
            };
            WorkerAnswer::Health { health }
        })
        .await
    }

    /// Why an agent's type cannot be launched here, as far as Redis answers.
    async fn hindrance(&self, agent: &AgentId) -> Option<String> {
        let store = self.store();
        let assignment = store.assignment(agent).await.ok()??;
        let known = known_types(&self.settings, &store).await.ok()?;
        obstacle(&self.settings, known.get(&assignment.agent_type)?)
    }

    /// What an assigned agent runs here: one task at a time.
    pub(super) fn running_of(&self, agent: &AgentId) -> Option<(AttemptKey, LiveAttempt)> {
        let live = self.live.lock().expect("no holder panics");
        let found = live.iter().find(|(_, one)| one.assigned.as_ref() == Some(agent));
        found.map(|(key, one)| (key.clone(), one.clone()))
    }
}

fn running_facts((task, _): &AttemptKey, live: &LiveAttempt, problems: &mut Vec<String>) -> RunningFacts {
    let view = live.handle.live();
    problems.extend(view.pid.and_then(process_problem));
    RunningFacts {
        task: task.clone(),
        pid: view.pid,
        silent_ms: view.last_output.elapsed().as_millis() as u64,
        output_bytes: view.output_bytes,
        last_line: view.last_line,
    }
}

/// What is wrong with a process that should run; nothing, if it takes signals.
pub(crate) fn process_problem(pid: u32) -> Option<String> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    match test_kill_process(number) {
        Ok(()) => None,
        Err(rustix::io::Errno::SRCH) => Some(format!("process {pid} is gone")),
        Err(error) => Some(format!("process {pid} takes no signals: {error}")),
    }
}

/// The log that was written to last among those of an agent's attempts.
fn newest_log(own_files: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(own_files).ok()?.flatten().take(LOGS_LOOKED_AT_MAX);
    let logs = entries.filter_map(|entry| {
        let name = entry.file_name();
        let is_own = name.to_str().is_some_and(|name| name.ends_with(".maestro"));
        let log = is_own.then(|| entry.path().join("agent.log"))?;
        let written = std::fs::symlink_metadata(&log).ok()?.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some((written, log))
    });
    logs.max().map(|(_, log)| log)
}

/// The last lines of a file, each cut to a length that fits a letter.
fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let text = read_end(path).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().rev().take(count).map(cut).collect();
    lines.reverse();
    lines
}

fn read_end(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LOG_BYTES_READ_MAX)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_READ_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn cut(line: &str) -> String {
    let most = line.len().min(LOG_LINE_BYTES_MAX);
    let end = (0..=most).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    line[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_log_is_found_and_its_end_is_read() {
        let place = tempfile::tempdir().expect("a folder");
        assert_eq!(newest_log(&place.path().join("none")), None);
        for (age, name) in [(100, "a.maestro"), (50, "b.maestro"), (10, "not-ours")] {
            let folder = place.path().join(name);
            std::fs::create_dir(&folder).expect("a folder");
            let log = folder.join("agent.log");
            std::fs::write(&log, format!("one\ntwo\nthree of {name}")).expect("a file");
            let written = SystemTime::now() - std::time::Duration::from_secs(age);
            File::options().write(true).open(&log).expect("ours").set_modified(written).expect("ours");
        }
        let log = newest_log(place.path()).expect("there is one");
        assert_eq!(last_lines(&log, 2), ["two", "three of b.maestro"]);
        assert_eq!(last_lines(&log, 0), [] as [String; 0]);
        assert_eq!(last_lines(Path::new("/nowhere"), 3), [] as [String; 0]);
        assert_eq!(cut(&"ä".repeat(LOG_LINE_BYTES_MAX)).len(), LOG_LINE_BYTES_MAX);
    }

    #[test]
    fn a_process_that_is_gone_is_a_problem() {
        assert_eq!(process_problem(std::process::id()), None);
        let mut child = std::process::Command::new("true").spawn().expect("it starts");
        let pid = child.id();
        child.wait().expect("it is ours");
        assert_eq!(process_problem(pid), Some(format!("process {pid} is gone")));
    }
}
