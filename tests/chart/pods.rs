//! Starts pods of the rendered chart in a container engine, as a kubelet would: arguments and environment with
//! names put in, user and groups, read-only root, no capabilities, volumes, memory; the hook before the end, then
//! SIGTERM and the grace period. Services are names on a network.
//!
//! Not here: scheduling, init containers, and probes by themselves; a test asks what a probe would ask.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::support::engine::TestEngine;
use crate::support::wait_until;

/// Until a probe hears something, as the chart has it.
const PROBE_WITHIN: Duration = Duration::from_secs(3);

/// Objects of a rendering, and the containers that were started of them.
pub(crate) struct Pods<'e> {
    engine: &'e TestEngine,
    objects: Vec<Value>,
    network: String,
    folder: tempfile::TempDir,
    started: Vec<StartedPod>,
}

/// A pod, and the services that lead to it.
struct StartedPod {
    name: String,
    services: Vec<String>,
}

/// How a pod ended.
#[derive(Debug)]
pub(crate) struct PodEnd {
    pub(crate) exit_code: i64,
    pub(crate) took: Duration,
}

impl<'e> Pods<'e> {
    /// Renders the chart with these values, and makes a network for its pods.
    pub(crate) fn render(engine: &'e TestEngine, python: &Path, values: &Value) -> Pods<'e> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart");
        let mut render = Command::new(python)
            .args(["-B", "render.py"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setup.sh has installed it");
        serde_json::to_writer(render.stdin.take().expect("piped"), values).expect("it reads");
        let rendered = render.wait_with_output().expect("ours");
        assert!(rendered.status.success(), "the chart is rendered");
        let objects = serde_json::from_slice(&rendered.stdout).expect("JSON");
        let folder = tempfile::Builder::new().prefix("maestro-pods-").tempdir().expect("a folder");
        // Others than root pass through it to their volumes.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        let network = format!("chart-{}", std::process::id());
        engine.docker(&["network", "create", &network]);
        Pods { engine, objects, network, folder, started: Vec::new() }
    }

    /// Starts a pod of a workload (`Deployment/demo-maestro-coordinator`) under a name of its own.
    pub(crate) fn start(&mut self, workload: &str, pod: &str) {
        self.start_with(workload, pod, &[]);
    }

    /// The same with further words for the engine, such as `--entrypoint` and what an image would do by itself.
    pub(crate) fn start_with(&mut self, workload: &str, pod: &str, words: &[&str]) {
        let template = self.template(workload).clone();
        let spec = &template["spec"];
        let container = &spec["containers"][0];
        let env = self.env(container, pod);
        let name = self.container(pod);
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut say = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        say("--name", name);
        say("--hostname", pod.to_owned());
        say("--network", self.network.clone());
        let services = self.services(&template["metadata"]["labels"]);
        for service in &services {
            say("--network-alias", service.clone());
        }
        say("--network-alias", pod.to_owned());
        for (name, value) in &env {
            say("--env", format!("{name}={value}"));
        }
        let number = |name: &str| spec["securityContext"][name].as_u64().expect("the chart says it");
        say("--user", format!("{}:{}", number("runAsUser"), number("runAsGroup")));
        say("--group-add", number("fsGroup").to_string());
        for capability in
            container["securityContext"]["capabilities"]["drop"].as_array().into_iter().flatten()
        {
            say("--cap-drop", capability.as_str().expect("a word").to_owned());
        }
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        say("--security-opt", "no-new-privileges".to_owned());
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        say("--memory", bytes(container["resources"]["limits"]["memory"].as_str().expect("a limit")));
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let from = self.volume(pod, workload, mount["name"].as_str().expect("a name"), number("fsGroup"));
            let end = if mount["readOnly"] == true { ":ro" } else { "" };
            let place = mount["mountPath"].as_str().expect("a path");
            say("--volume", format!("{}:{place}{end}", from.display()));
        }
        let args = container["args"].as_array().cloned().unwrap_or_default();
        let args: Vec<String> = args.iter().map(|arg| put_in(arg.as_str().expect("text"), &env)).collect();
        let image = container["image"].as_str().expect("an image");
        let mut call = vec!["run", "--detach", "--read-only"];
        call.extend(words.iter().map(String::as_str));
        call.push(image);
        call.extend(args.iter().map(String::as_str));
        self.started.push(StartedPod { name: pod.to_owned(), services });
        self.engine.docker(&call);
    }

    /// Runs a command in a pod, as `kubectl exec` does.
    pub(crate) fn exec(&self, pod: &str, words: &[&str]) -> Output {
        let name = self.container(pod);
        let mut call = vec!["exec", name.as_str()];
        call.extend(words);
        self.engine.command(&call).output().expect("docker is there")
    }

    /// Runs `maestro` in a pod; it must end with 0. What it prints.
    pub(crate) fn maestro(&self, pod: &str, words: &[&str]) -> String {
        let done = self.exec(pod, &[&["maestro"], words].concat());
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "maestro {words:?}: {errors}\n{}", self.logs(pod));
        String::from_utf8(done.stdout).expect("text")
    }

    /// Waits until a pod of a Job has ended by itself; its exit code.
    pub(crate) fn finish(&self, pod: &str) -> i64 {
        self.engine.docker(&["wait", &self.container(pod)]).parse().expect("a number")
    }

    /// Ends a pod as a kubelet does: the hook, SIGTERM, and SIGKILL when the grace period is over.
    pub(crate) fn end(&self, workload: &str, pod: &str) -> PodEnd {
        let spec = &self.template(workload)["spec"];
        let grace_seconds = spec["terminationGracePeriodSeconds"].as_u64().expect("the chart says it");
        let begun = Instant::now();
        let hook = &spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"];
        if let Some(hook) = hook.as_array() {
            let words: Vec<&str> = hook.iter().filter_map(Value::as_str).collect();
            let done = self.exec(pod, &words);
            // 137 where the container ends, and takes it along, before it has said that the worker has gone.
            let hooked = matches!(done.status.code(), Some(0 | 137));
            assert!(hooked, "{words:?}: {done:?}");
        }
        let left = grace_seconds.saturating_sub(begun.elapsed().as_secs());
        let name = self.container(pod);
        self.engine.docker(&["stop", "--time", &left.to_string(), &name]);
        let code = self.engine.docker(&["inspect", "--format", "{{.State.ExitCode}}", &name]);
        PodEnd { exit_code: code.parse().expect("a number"), took: begun.elapsed() }
    }

    /// Puts a file into a volume of a pod, as `kubectl cp` does.
    pub(crate) fn write(&self, pod: &str, volume: &str, file: &str, content: &str) {
        fs::write(self.folder.path().join(format!("{pod}-{volume}")).join(file), content).expect("ours");
    }

    /// The names of the files in a volume of a pod.
    pub(crate) fn files(&self, pod: &str, volume: &str) -> Vec<String> {
        let folder =
            fs::read_dir(self.folder.path().join(format!("{pod}-{volume}"))).expect("the pod has started");
        folder.map(|file| file.expect("ours").file_name().to_string_lossy().into_owned()).collect()
    }

    /// Asks a pod what its probe would ask, once; what was heard if that is not well.
    pub(crate) fn probe(&self, workload: &str, pod: &str, probe: &str) -> Result<(), String> {
        let container = &self.template(workload)["spec"]["containers"][0];
        let asked = &container[probe];
        let heard = if let Some(command) = asked["exec"]["command"].as_array() {
            let done = self.exec(pod, &command.iter().filter_map(Value::as_str).collect::<Vec<&str>>());
            if done.status.success() { Ok(String::new()) } else { Err(format!("{done:?}")) }
        } else {
            let ports = container["ports"].as_array().into_iter().flatten();
            let port = ports.into_iter().find(|port| port["name"] == asked["httpGet"]["port"]);
            let port = port.expect("the probe names a port of its container")["containerPort"].to_string();
            let port = port.parse().expect("a number");
            get(&self.engine.network_namespace(), &self.address(pod), port, &text(&asked["httpGet"]["path"]))
        };
        heard.map(drop).map_err(|heard| format!("{pod}: {heard}\n{}", self.logs(pod)))
    }

    /// What a scaler reads at a service of this release: one of its pods answers.
    pub(crate) fn read(&self, service: &str, port: u16, path: &str) -> Result<String, String> {
        let serving = self.started.iter().find(|pod| pod.services.iter().any(|name| name == service));
        let pod = &serving.unwrap_or_else(|| panic!("no pod serves {service}")).name;
        get(&self.engine.network_namespace(), &self.address(pod), port, path)
    }

    fn address(&self, pod: &str) -> String {
        let form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        self.engine.docker(&["inspect", "--format", form, &self.container(pod)])
    }

    /// An object of the rendering, by kind and name.
    pub(crate) fn rendered(&self, title: &str) -> Value {
        self.object(title).clone()
    }

    /// Loses a pod with its node: nothing is asked and nothing is said.
    pub(crate) fn lose(&self, pod: &str) {
        self.engine.docker(&["kill", "--signal", "KILL", &self.container(pod)]);
    }

    /// Takes a pod off the network.
    pub(crate) fn cut_off(&self, pod: &str) {
        self.engine.docker(&["network", "disconnect", &self.network, &self.container(pod)]);
    }

    /// Puts it back.
    pub(crate) fn reconnect(&self, pod: &str) {
        self.engine.docker(&["network", "connect", "--alias", pod, &self.network, &self.container(pod)]);
    }

    /// What a pod has printed.
    pub(crate) fn logs(&self, pod: &str) -> String {
        let said = self.engine.command(&["logs", &self.container(pod)]).output().expect("docker is there");
        String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()
    }

    /// The name of a pod's container: the engine has those of other tests as well.
    fn container(&self, pod: &str) -> String {
        format!("{}-{pod}", self.network)
    }

    fn object(&self, title: &str) -> &Value {
        let is_it = |object: &&Value| {
            format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"])) == title
        };
        self.objects.iter().find(is_it).unwrap_or_else(|| panic!("the chart has no {title}"))
    }

    /// What pods of a workload are made of.
    fn template(&self, workload: &str) -> &Value {
        let object = self.object(workload);
        match object["kind"].as_str() {
            Some("Pod") => object,
            Some("CronJob") => &object["spec"]["jobTemplate"]["spec"]["template"],
            _ => &object["spec"]["template"],
        }
    }

    fn services(&self, labels: &Value) -> Vec<String> {
        let selects = |object: &&Value| {
            let selector = object["spec"]["selector"].as_object();
            object["kind"] == "Service"
                && selector
                    .is_some_and(|selector| selector.iter().all(|(name, value)| labels[name] == *value))
        };
        self.objects.iter().filter(selects).map(|object| text(&object["metadata"]["name"])).collect()
    }

    fn env(&self, container: &Value, pod: &str) -> BTreeMap<String, String> {
        let mut known = BTreeMap::new();
        for variable in container["env"].as_array().into_iter().flatten() {
            let from = &variable["valueFrom"];
            let value = if let Some(value) = variable["value"].as_str() {
                put_in(value, &known)
            } else if from["fieldRef"]["fieldPath"] == "metadata.name" {
                pod.to_owned()
            } else {
                let secret = self.object(&format!("Secret/{}", text(&from["secretKeyRef"]["name"])));
                let data = text(&secret["data"][text(&from["secretKeyRef"]["key"])]);
                from_base64(&data)
            };
            known.insert(text(&variable["name"]), value);
        }
        known
    }

    /// A folder on this host with what a volume of a pod holds.
    fn volume(&self, pod: &str, workload: &str, name: &str, group: u64) -> PathBuf {
        let spec = &self.template(workload)["spec"];
        let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
        let folder = self.folder.path().join(format!("{pod}-{name}"));
        match volumes.iter().find(|volume| volume["name"] == name) {
            Some(volume) if volume["hostPath"].is_object() => {
                PathBuf::from(text(&volume["hostPath"]["path"]))
            }
            Some(volume) if volume["configMap"].is_object() => {
                let map = self.object(&format!("ConfigMap/{}", text(&volume["configMap"]["name"])));
                write_config_map(&folder, &map["data"]);
                folder
            }
            // An emptyDir, or a claim, which stays for the pod of that name.
            _ => {
                fs::create_dir_all(&folder).expect("ours");
                chown(&folder, None, Some(group as u32)).expect("tests with an engine run as root");
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o2777)).expect("ours");
                folder
            }
        }
    }
}

impl Drop for Pods<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for pod in &self.started {
                let name = &pod.name;
                let _ = fs::write("/dev/stderr", format!("{name}:\n{}\n", self.logs(name)));
            }
        }
        let names: Vec<String> = self.started.iter().map(|pod| self.container(&pod.name)).collect();
        let mut call = vec!["rm", "--force", "--volumes"];
        call.extend(names.iter().map(String::as_str));
        let _ = self.engine.command(&call).output();
        let _ = self.engine.command(&["network", "rm", &self.network]).output();
    }
}

/// What is answered to a `GET` in a network that is not this process's; an error unless it is 200.
fn get(network: &Path, address: &str, port: u16, path: &str) -> Result<String, String> {
    let network = fs::File::open(network).expect("tests with an engine run as root");
    let ask = move || -> std::io::Result<String> {
        // A thread that has gone into another network ends there.
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        // A pod that has ended has none.
        let address = address.parse().map_err(std::io::Error::other)?;
        let place = std::net::SocketAddr::new(address, port);
        let mut stream = TcpStream::connect_timeout(&place, PROBE_WITHIN)?;
        stream.set_read_timeout(Some(PROBE_WITHIN))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")?;
        let mut heard = String::new();
        stream.read_to_string(&mut heard)?;
        Ok(heard)
    };
    let heard = std::thread::scope(|scope| scope.spawn(ask).join().expect("it only asks"));
    let heard = heard.map_err(|error| error.to_string())?;
    let (head, body) = heard.split_once("\r\n\r\n").ok_or_else(|| heard.clone())?;
    if head.starts_with("HTTP/1.1 200") { Ok(body.to_owned()) } else { Err(heard) }
}

/// Waits for a condition, as `wait_until` does, with a limit that a busy machine keeps.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    wait_until(what, Duration::from_secs(60), look).unwrap_or_else(|error| panic!("{error}"))
}

/// A ConfigMap as a kubelet mounts it: files are links through `..data`, so that all change at once.
fn write_config_map(folder: &Path, data: &Value) {
    let version = folder.join("..2026_11_20");
    if folder.exists() {
        return;
    }
    fs::create_dir_all(&version).expect("ours");
    symlink("..2026_11_20", folder.join("..data")).expect("ours");
    for (name, content) in data.as_object().into_iter().flatten() {
        fs::write(version.join(name), text(content)).expect("ours");
        symlink(format!("..data/{name}"), folder.join(name)).expect("ours");
    }
}

/// Puts values in for `$(NAME)`, where the name is known.
fn put_in(written: &str, known: &BTreeMap<String, String>) -> String {
    let put = |text: String, (name, value): (&String, &String)| text.replace(&format!("$({name})"), value);
    known.iter().fold(written.to_owned(), put)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected text, found {value}")).to_owned()
}

/// A size of Kubernetes in bytes.
fn bytes(size: &str) -> String {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let unit = units.iter().find_map(|(end, shift)| Some((size.strip_suffix(end)?, shift)));
    let (number, shift) = unit.unwrap_or_else(|| panic!("`{size}` has none of the units known here"));
    (number.parse::<u64>().expect("a number") << shift).to_string()
}

fn from_base64(text: &str) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let place = |letter: u8| letters.iter().position(|known| *known == letter).expect("base64") as u32;
    let mut bytes = Vec::new();
    for four in text.trim_end_matches('=').as_bytes().chunks(4) {
        let sum = four.iter().fold(0, |sum, letter| (sum << 6) | place(*letter)) << (6 * (4 - four.len()));
        bytes.extend_from_slice(&sum.to_be_bytes()[1..four.len()]);
    }
    String::from_utf8(bytes).expect("text")
}
