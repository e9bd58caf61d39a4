//! Where the programs are, and the settings that lead them to the model on loopback.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::model_server::ModelServer;
use crate::support::{ClusterSetup, TestCluster, hand_over, skip};

/// The shipped agent types that are tried: the program's name, and the type.
pub(crate) const PROGRAMS: [(&str, &str); 4] =
    [("claude", "claude"), ("codex", "codex"), ("gemini", "gemini"), ("kilo", "code-reviewer")];

/// Programs that are installed, a model, and a cluster whose agents find both.
pub(crate) struct AgentBench {
    // Before the home and the model: agents end first.
    pub(crate) cluster: TestCluster,
    pub(crate) model: ModelServer,
    _home: tempfile::TempDir,
}

impl AgentBench {
    /// None if the programs are not there, which is then counted as skipped.
    pub(crate) fn start(test: &str) -> Option<AgentBench> {
        AgentBench::start_as(None, test)
    }

    /// The same as processes of another user, who needs no rights but to read what is installed.
    pub(crate) fn start_as(user: Option<u32>, test: &str) -> Option<AgentBench> {
        let folder = installed(test)?;
        if let Some(user) = user
            && let Err(reason) = can_be_reached(&folder, user)
        {
            skip(test, &reason);
            return None;
        }
        let model = ModelServer::start();
        let home = tempfile::Builder::new().prefix("maestro-agents-").tempdir().expect("a folder");
        write_settings(home.path(), &model.url());
        if let Some(user) = user {
            hand_over(home.path(), user);
        }
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        let env = vec![
            ("PATH", path),
            ("HOME", home.path().display().to_string()),
            ("ANTHROPIC_BASE_URL", model.url()),
            // A subscription, not a key: only those have a limit with a moment at which it is lifted.
            ("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-scripted".to_owned()),
            ("OPENAI_API_KEY", "sk-scripted".to_owned()),
            ("GEMINI_API_KEY", "scripted".to_owned()),
            ("GOOGLE_GEMINI_BASE_URL", model.url()),
        ];
        let cluster =
            TestCluster::start(ClusterSetup { env, concurrency: 2, user, ..ClusterSetup::default() });
        Some(AgentBench { cluster, model, _home: home })
    }
}

/// The folder with the programs; without it the test says so and counts as skipped.
fn installed(test: &str) -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agents");
    let folder = std::env::var_os("MAESTRO_TEST_AGENTS").map_or(default, PathBuf::from);
    let programs = folder.join("node_modules/.bin");
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .map(|(program, _)| *program)
        .filter(|program| !programs.join(program).exists())
        .collect();
    if missing.is_empty() {
        return Some(programs);
    }
    skip(test, &format!("{} not installed; `make test-agents` installs them", missing.join(", ")));
    None
}

/// Whether another user may start the binary and these programs: the folders above them may be closed.
fn can_be_reached(folder: &Path, user: u32) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root may start another user's worker".to_owned());
    }
    for path in [folder, Path::new(env!("CARGO_BIN_EXE_maestro"))] {
        let mut look = Command::new("test");
        look.arg("-x").arg(path).uid(user).gid(user);
        if !look.status().is_ok_and(|status| status.success()) {
            return Err(format!("another user may not reach {}", path.display()));
        }
    }
    Ok(())
}

/// Settings in the home of the worker's user, as a person would have them.
fn write_settings(home: &Path, url: &str) {
    let write = |place: &str, text: String| {
        let path = home.join(place);
        fs::create_dir_all(path.parent().expect("below the home")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    write(
        ".codex/config.toml",
        format!(
            "model = \"scripted\"\nmodel_provider = \"scripted\"\n\n[model_providers.scripted]\n\
             name = \"scripted\"\nbase_url = \"{url}/v1\"\nenv_key = \"OPENAI_API_KEY\"\n\
             wire_api = \"responses\"\nrequest_max_retries = 1\nstream_max_retries = 1\n"
        ),
    );
    write(
        ".gemini/settings.json",
        r#"{"security": {"auth": {"selectedType": "gemini-api-key"}}}"#.to_owned(),
    );
    let model = serde_json::json!({"name": "scripted", "cost": {"input": 1, "output": 2},
        "limit": {"context": 100_000, "output": 4_000}, "tool_call": true});
    let provider = serde_json::json!({"npm": "@ai-sdk/openai-compatible", "name": "Scripted",
        "options": {"baseURL": format!("{url}/v1"), "apiKey": "scripted"}, "models": {"m": model}});
    let settings = serde_json::json!({"provider": {"scripted": provider}, "model": "scripted/m",
        "small_model": "scripted/m", "share": "disabled"});
    write(".config/kilo/kilo.json", settings.to_string());
}

/// Environment of a step so that no program looks for anything but its model.
pub(crate) fn step_env(program: &str) -> &'static str {
    match program {
        "claude" => "{CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: \"1\"}",
        "kilo" => {
            "{KILO_DISABLE_MODELS_FETCH: \"1\", KILO_TELEMETRY_LEVEL: \"off\", \
              KILO_DISABLE_SESSION_INGEST: \"1\", KILO_DISABLE_LSP_DOWNLOAD: \"1\"}"
        }
        _ => "{}",
    }
}
