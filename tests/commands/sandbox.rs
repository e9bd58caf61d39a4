//! A folder with the binary in it, as it were: files, environment, one call, what came out.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A home, a working folder and nothing else.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
}

/// What a call left behind.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Sandbox {
    /// An empty one.
    pub(crate) fn new() -> Sandbox {
        let sandbox = Sandbox { folder: tempfile::tempdir().expect("a folder") };
        for folder in ["here", "home", "run"] {
            fs::create_dir(sandbox.folder.path().join(folder)).expect("a folder");
        }
        sandbox
    }

    /// A path below the sandbox.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Writes a file below the sandbox, with the folders it needs.
    pub(crate) fn write(&self, below: &str, text: impl AsRef<[u8]>) -> &Sandbox {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, text).expect("a file");
        self
    }

    /// The binary, to be called in `here` with nothing but the sandbox around it.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maestro"));
        command.args(words).current_dir(self.path("here")).env_clear();
        command.env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        command
    }

    /// One call.
    pub(crate) fn maestro(&self, words: &[&str]) -> Answer {
        self.answer(self.command(words).output().expect("the binary starts"))
    }

    /// One call with variables set.
    pub(crate) fn maestro_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Answer {
        let mut command = self.command(words);
        self.answer(command.envs(variables.iter().copied()).output().expect("the binary starts"))
    }

    /// One call with something on standard input.
    pub(crate) fn maestro_reading(&self, input: &str, words: &[&str]) -> Answer {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(input.as_bytes()).expect("it reads");
        drop(pipe);
        self.answer(child.wait_with_output().expect("it ends"))
    }

    pub(crate) fn answer(&self, output: Output) -> Answer {
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: redacted(&output.stdout, self.folder.path()),
            err: redacted(&output.stderr, self.folder.path()),
        }
    }
}

impl Answer {
    /// Exit code, standard output and standard error in one picture.
    pub(crate) fn picture(&self) -> String {
        let mut picture = format!("exit {}\n", self.code);
        for (name, text) in [("stdout", &self.out), ("stderr", &self.err)] {
            if !text.is_empty() {
                picture.push_str(&format!("--- {name}\n{text}"));
            }
        }
        picture
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.picture()))
    }
}

fn redacted(bytes: &[u8], folder: &Path) -> String {
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    text.replace(folder.to_str().expect("text"), "[FOLDER]").replace(env!("CARGO_PKG_VERSION"), "[VERSION]")
}
