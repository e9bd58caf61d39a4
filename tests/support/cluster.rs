//! A cluster of real processes around a Redis of its own, in one folder that nothing outside knows.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use maestro_model::ids::RunId;
use maestro_store::runs::RunRecord;
use maestro_store::worker::AttachedProcess;

use super::fault_proxy::FaultProxy;
use super::leftovers::{files_below, processes_with, unexpected_keys};
use super::observer::{Observer, RunStory};
use super::process::Member;
use super::redis_server::TestServer;
use super::wait::wait_until;

/// Prefix of every key of a test's cluster.
const NAMESPACE: &str = "trial";
/// Until a process that was started serves.
const START_WITHIN: Duration = Duration::from_secs(20);
/// Until a process that was told to end has ended.
const END_WITHIN: Duration = Duration::from_secs(30);
/// Until processes of agents are gone after their worker is.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// How a cluster is set up.
#[derive(Debug, Clone)]
pub struct ClusterSetup {
    /// Redis keeps its data on disk.
    pub durable: bool,
    pub coordinators: usize,
    /// Named `w0`, `w1`, …
    pub workers: usize,
    /// Tasks of one worker at a time.
    pub concurrency: usize,
    /// Further environment, such as `MAESTRO_MAX_ATTEMPTS`.
    pub env: Vec<(&'static str, String)>,
    /// Where Redis is, in place of the one of its own: several servers that a test has made (`RedisGroup`).
    pub address: Option<String>,
    /// The user and group whose processes they are, in place of the test's own: only root can ask for that.
    pub user: Option<u32>,
}

impl Default for ClusterSetup {
    fn default() -> ClusterSetup {
        ClusterSetup {
            durable: false,
            coordinators: 1,
            workers: 1,
            concurrency: 4,
            env: Vec::new(),
            address: None,
            user: None,
        }
    }
}

impl ClusterSetup {
    /// Time between two heartbeats.
    pub const HEARTBEAT: Duration = Duration::from_millis(500);
    /// How long a worker keeps its tasks without one.
    pub const LEASE: Duration = Duration::from_secs(9);
    /// SIGTERM to SIGKILL of an agent.
    pub const GRACE: Duration = Duration::from_secs(1);
    /// A dead worker's task starts again within this time: see the table of numbers in the specification.
    pub const RECOVERY: Duration = Duration::from_secs(9 + 5);
}

/// What a call of the command gave.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The cluster. Dropped, it ends everything and fails if something is left or has crashed.
pub struct TestCluster {
    pub redis: TestServer,
    members: BTreeMap<String, Member>,
    setup: ClusterSetup,
    observer: Observer,
    /// Everything of the cluster lies below it, and all its processes name it in their environment.
    folder: tempfile::TempDir,
}

impl TestCluster {
    /// Starts Redis, coordinators `c0`, … and workers `w0`, …, and waits until they serve.
    pub fn start(setup: ClusterSetup) -> TestCluster {
        let folder = tempfile::Builder::new().prefix("maestro-trial-").tempdir().expect("a folder");
        for name in ["home", "run", "config", "data", "tmp", "root", "agents.d", "witness", "work"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let redis = TestServer::start(&folder.path().join("redis"), setup.durable);
        if let Some(user) = setup.user {
            hand_over(folder.path(), user);
        }
        let address = setup.address.clone().unwrap_or_else(|| redis.url());
        let observer = Observer::connect(&address, NAMESPACE);
        let cluster = TestCluster { redis, members: BTreeMap::new(), setup, observer, folder };
        cluster.write_agent(
            "probe",
            &format!(
                "command: [sh, -e, \"<< prompt >>\"]\nprompt_via: file\npaths: {{write: [{}]}}\n",
                cluster.witness().display()
            ),
        );
        cluster.with_processes()
    }

    fn with_processes(mut self) -> TestCluster {
        for number in 0..self.setup.coordinators {
            self.start_coordinator(&format!("c{number}"));
        }
        for number in 0..self.setup.workers {
            self.start_worker(&format!("w{number}"));
        }
        let names: Vec<String> = (0..self.setup.workers).map(|number| format!("w{number}")).collect();
        for name in names {
            self.wait_for_worker(&name);
        }
        self
    }

    /// Where its processes look for Redis.
    pub fn address(&self) -> String {
        self.setup.address.clone().unwrap_or_else(|| self.redis.url())
    }

    /// The folder to which agents of type `probe` may write.
    pub fn witness(&self) -> PathBuf {
        self.folder.path().join("witness")
    }

    /// The workspace root.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Adds an agent type; `rest` is its file without the slug.
    pub fn write_agent(&self, slug: &str, rest: &str) {
        let path = self.folder.path().join(format!("agents.d/{slug}.yaml"));
        fs::write(path, format!("slug: {slug}\n{rest}")).expect("an agent file");
    }

    /// Writes a workflow where calls are made.
    pub fn write_workflow(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(format!("work/{name}.yaml"));
        fs::write(&path, text).expect("a workflow file");
        path
    }

    /// The binary with the cluster's environment and nothing else.
    fn command(&self, words: &[&str], redis_url: &str) -> Command {
        let below = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_maestro"));
        command.args(words).current_dir(below("work")).env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        command.env("HOME", below("home")).env("TMPDIR", below("tmp"));
        command.env("XDG_RUNTIME_DIR", below("run")).env("XDG_CONFIG_HOME", below("config"));
        command.env("XDG_DATA_HOME", below("data"));
        // Whoever may write to the default place shares it with everybody on the host.
        command.env("MAESTRO_SNAPSHOT_DIR", below("data").join("snapshots"));
        command.env("MAESTRO_REDIS_URL", redis_url).env("MAESTRO_NAMESPACE", NAMESPACE);
        command.env("MAESTRO_WORKSPACE_ROOT", self.root());
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("agents.d");
        let folders = format!("{}:{}", below("agents.d").display(), shipped.display());
        command.env("MAESTRO_AGENTS_DIR", folders);
        let ms = |time: Duration| format!("{}ms", time.as_millis());
        command.env("MAESTRO_HEARTBEAT", ms(ClusterSetup::HEARTBEAT));
        command.env("MAESTRO_LEASE", ms(ClusterSetup::LEASE));
        command.env("MAESTRO_GRACE_PERIOD", ms(ClusterSetup::GRACE));
        command.env("MAESTRO_MAX_CONCURRENT", self.setup.concurrency.to_string());
        command.envs(self.setup.env.iter().map(|(name, value)| (name, value)));
        if let Some(user) = self.setup.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Starts a worker of a name; see `wait_for_worker`.
    pub fn start_worker(&mut self, name: &str) {
        self.start_worker_by(name, &self.address());
    }

    /// Starts a worker that reaches Redis by another road.
    pub fn start_worker_by(&mut self, name: &str, redis_url: &str) {
        let command = self.command(&["worker", "start", "--name", name], redis_url);
        self.add(name, command);
    }

    /// Starts a worker with another folder for its workspaces.
    pub fn start_worker_in(&mut self, name: &str, root: &str) {
        self.start_worker_with(name, root, &[]);
    }

    /// As `start_worker_in`, with further words on its command line.
    pub fn start_worker_with(&mut self, name: &str, root: &str, further: &[&str]) {
        let words = [&["worker", "start", "--name", name], further].concat();
        let mut command = self.command(&words, &self.address());
        command.env("MAESTRO_WORKSPACE_ROOT", root);
        self.add(name, command);
    }

    pub fn start_coordinator(&mut self, name: &str) {
        self.start_coordinator_by(name, &self.address());
    }

    pub fn start_coordinator_by(&mut self, name: &str, redis_url: &str) {
        let command = self.command(&["coordinator", "start"], redis_url);
        self.add(name, command);
    }

    fn add(&mut self, name: &str, command: Command) {
        let member = Member::start(name, self.folder.path(), command);
        self.members.insert(name.to_owned(), member);
    }

    /// A road to this cluster's Redis on which things can go wrong.
    pub fn proxy(&self) -> FaultProxy {
        FaultProxy::open(&self.redis.socket())
    }

    /// A process by the name it was started under.
    pub fn member(&mut self, name: &str) -> &mut Member {
        self.members.get_mut(name).unwrap_or_else(|| panic!("no process `{name}` was started"))
    }

    /// Waits until a worker has attached and its lease lives.
    pub fn wait_for_worker(&self, name: &str) -> AttachedProcess {
        self.wait_until(&format!("worker `{name}`"), START_WITHIN, |observer| {
            let alive = observer.alive();
            let pid = self.members[name].pid();
            let found = alive.iter().find(|process| process.name == name && process.about.pid == pid);
            found
                .cloned()
                .ok_or_else(|| format!("{:?}", alive.iter().map(|one| &one.name).collect::<Vec<_>>()))
        })
    }

    /// The coordinator that leads and lives, by the name it was started under.
    pub fn wait_for_leader(&mut self, longest: Duration) -> String {
        let members = &mut self.members;
        let observer = &self.observer;
        let found = wait_until("a leader", longest, || {
            let leader =
                observer.ask(async |store| store.leader().await).map_err(|error| error.to_string())?;
            let alive = observer.alive();
            let found = alive.iter().find(|one| Some(&one.incarnation) == leader.as_ref());
            let pid = found.map(|process| process.about.pid);
            let member = members.values_mut().find(|member| Some(member.pid()) == pid);
            if let Some(member) = member
                && member.is_running()
            {
                return Ok(member.name.clone());
            }
            Err(format!("leader {leader:?}"))
        });
        found.unwrap_or_else(|error| panic!("{error}"))
    }

    /// One call of the command.
    pub fn maestro(&self, words: &[&str]) -> Answer {
        self.maestro_with(&[], words)
    }

    /// One call of the command with variables set.
    pub fn maestro_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Answer {
        let mut command = self.command(words, &self.address());
        command.envs(variables.iter().copied());
        let output = command.stdin(Stdio::null()).output().expect("the binary starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// A script as a person would type it, with `maestro` on PATH.
    pub fn shell(&self, script: &str) -> Answer {
        let environment = self.command(&[], &self.address());
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).env_clear();
        command.current_dir(environment.get_current_dir().expect("calls have a folder"));
        command.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let binary = Path::new(env!("CARGO_BIN_EXE_maestro")).parent().expect("it lies in a folder");
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", binary.display()));
        let output = command.output().expect("a shell starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Starts the command as a process that the test waits for by its name.
    pub fn start_command(&mut self, name: &str, words: &[&str]) {
        self.start_command_by(name, words, &self.address());
    }

    /// Starts the command as a process that reaches Redis by another road.
    pub fn start_command_by(&mut self, name: &str, words: &[&str], redis_url: &str) {
        let command = self.command(words, redis_url);
        self.add(name, command);
    }

    /// Starts the command as a process with variables set.
    pub fn start_command_with(&mut self, name: &str, words: &[&str], variables: &[(&str, &str)]) {
        let mut command = self.command(words, &self.address());
        command.envs(variables.iter().copied());
        self.add(name, command);
    }

    /// Looks anew at what is in Redis: it was started again, and what it had is gone.
    pub fn look_again(&mut self) {
        self.observer = Observer::connect(&self.address(), NAMESPACE);
    }

    /// A folder of the cluster's own for whatever a test needs.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join("scratch").join(name);
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    /// Submits a workflow and does not follow it.
    pub fn submit(&self, workflow: &str, further: &[&str]) -> RunId {
        let words = [&["workflow", "run", workflow, "--detach", "--format", "json"], further].concat();
        let answer = self.maestro(&words);
        assert_eq!(answer.code, 0, "{answer:?}");
        let record: serde_json::Value = serde_json::from_str(&answer.out).expect("JSON");
        record["id"].as_str().expect("a run has an id").parse().expect("a lawful id")
    }

    /// Writes a workflow and submits it.
    pub fn submit_text(&self, name: &str, text: &str) -> RunId {
        let path = self.write_workflow(name, text);
        self.submit(path.to_str().expect("a plain path"), &[])
    }

    /// Waits for a condition; failing, shows what was seen last and the ends of all logs.
    pub fn wait_until<T>(
        &self,
        what: &str,
        longest: Duration,
        mut look: impl FnMut(&Observer) -> Result<T, String>,
    ) -> T {
        match wait_until(what, longest, || look(&self.observer)) {
            Ok(found) => found,
            Err(error) => panic!("{error}\n{}", self.tails()),
        }
    }

    /// Waits until a run has ended.
    pub fn wait_for_run(&self, run: &RunId, longest: Duration) -> RunRecord {
        self.wait_until(&format!("the end of run {run}"), longest, |observer| {
            let record = observer.run(run);
            if record.status.is_final() {
                return Ok(record);
            }
            let open: Vec<String> = observer
                .tasks(run)
                .iter()
                .filter(|task| !task.status.is_final())
                .map(|task| format!("{} {:?} {:?}", task.own.label(), task.status, task.record))
                .collect();
            Err(format!("{record:?}\n{}", open.join("\n")))
        })
    }

    /// All of a run.
    pub fn story(&self, run: &RunId) -> RunStory {
        self.observer.story(run, &self.observer.events())
    }

    /// The lines that agents have written into a file of the witness folder.
    pub fn witnessed(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.witness().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// All that a process has said so far.
    pub fn log(&self, name: &str) -> String {
        self.members.get(name).map(Member::log).unwrap_or_default()
    }

    /// Whether one of its processes has said so.
    pub fn has_said(&self, words: &str) -> bool {
        self.members.values().any(|member| member.log().contains(words))
    }

    /// The ends of all logs.
    pub fn tails(&self) -> String {
        let tails: String = self.members.values().map(Member::tail).collect();
        format!("{tails}{}", self.redis.tail())
    }

    /// Ends everything in order, and says what is wrong.
    fn faults_at_the_end(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        // Workers first: what they give back still has somebody who sweeps.
        let (workers, others): (Vec<&mut Member>, Vec<&mut Member>) =
            self.members.values_mut().partition(|member| member.name.starts_with('w'));
        for group in [workers, others] {
            let running: Vec<&mut Member> =
                group.into_iter().filter_map(|one| one.is_running().then_some(one)).collect();
            let mut ending = Vec::new();
            for member in running {
                member.resume();
                member.terminate();
                ending.push(member);
            }
            for member in ending {
                match member.wait(END_WITHIN) {
                    Ok(0) => {}
                    Ok(code) => faults.push(format!("`{}` ended with {code} after SIGTERM", member.name)),
                    Err(error) => faults.push(error),
                }
            }
        }
        for member in self.members.values() {
            let log = member.log();
            if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
                faults.push(format!("`{}` crashed: {line}", member.name));
            }
        }
        let redis = self.redis.socket();
        let left = wait_until("all processes to go", GONE_WITHIN, || {
            let left: Vec<(u32, String)> = processes_with(self.folder.path())
                .into_iter()
                .filter(|(_, line)| !line.contains(redis.to_str().expect("a plain path")))
                .collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        faults.extend(left.err());
        for folder in ["run", "tmp"] {
            faults.extend(
                files_below(&self.folder.path().join(folder)).into_iter().map(|file| format!("left: {file}")),
            );
        }
        if self.redis.is_running() {
            faults.extend(self.keys_left());
        }
        faults
    }

    /// Keys that stay once every run is collected and every lease of the dead has run out.
    fn keys_left(&self) -> Vec<String> {
        // A handle of its own: a test may have emptied Redis, and an older epoch is refused.
        let observer = Observer::connect(&self.redis.url(), NAMESPACE);
        if let Err(error) = observer.collect_all() {
            return vec![error];
        }
        let mut connection = self.redis.connection().expect("redis is there");
        let left = wait_until("keys to go", ClusterSetup::RECOVERY, || {
            observer.ask(async |store| store.sweep(50).await).map_err(|error| error.to_string())?;
            let left = unexpected_keys(&Observer::keys(&mut connection), NAMESPACE);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        left.err().into_iter().collect()
    }
}

/// Gives a folder and what is in it to a user.
pub fn hand_over(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).expect("only root can ask for another user");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("a folder of the test's own") {
            hand_over(&entry.expect("an entry").path(), user);
        }
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            use std::io::Write;
            let _nobody_reads = write!(std::io::stderr(), "{}", self.tails());
            self.members.clear();
            return;
        }
        let faults = self.faults_at_the_end();
        let tails = self.tails();
        self.members.clear();
        assert!(faults.is_empty(), "left at the end:\n  {}\n{tails}", faults.join("\n  "));
    }
}
