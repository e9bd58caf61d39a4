//! The workflow `repo-audit`, run by the real binary with a Redis of its own, on repositories made to be
//! difficult. How it fares when processes die is the cluster tests' subject.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

#[test]
fn repo_audit_reports_on_a_repository_with_odd_names_and_bytes() {
    let site = Site::new();
    let repository = site.repository("odd");
    let write = |name: &[u8], text: &[u8]| {
        fs::write(repository.join(OsStr::from_bytes(name)), text).expect("the folder is ours");
    };
    write(b"with space.rs", b"fn main() {}\n// TODO: a | pipe, a ` tick, $(touch /tmp/x)\n");
    write(b"new\nline.py", &[b"x = 1\n# FIX".as_slice(), b"ME \xff\xfe bytes\n"].concat());
    write(b"tab\there.js", b"// TODO tab\n");
    write(b"odd\xff\xfebyte.md", b"hello\n");
    write("ünïcode.txt".as_bytes(), "TODO ünïcode\n".as_bytes());
    write(b"no-newline.c", b"int x;");
    write(b"LICENSE", b"Permission is hereby granted, free of\n charge\n");
    // Put together here, so that an audit of this repository does not find them.
    write(
        b"keys.env",
        format!("AWS=AKIA{}\n{}\n", "IOSFODNN7EXAMPLE", ["token: \"hunter", "2hunter2\""].concat())
            .as_bytes(),
    );
    let mut long_line = vec![b'x'; 3_000_000];
    long_line.extend_from_slice(b" TODO\n");
    write(b"long.js", &long_line);
    symlink("/etc/passwd", repository.join("link.txt")).expect("the folder is ours");
    symlink("/", repository.join("everything")).expect("the folder is ours");
    site.commit(&repository, "2019-03-01T12:00:00Z");

    let report = site.report(&["--param", "repo=odd", "--param", "top=50"]);

    for line in [
        "# Audit of ",
        "| Files | 9, ",
        "| Rust | 1 | 2 | ",
        "| `with space.rs:2` | `// TODO: a \\| pipe, a ' tick, $(touch /tmp/x)` |",
        "| `\"new\\nline.py\":2` | `# FIX",
        "| `\"tab\\there.js\":1` | `// TODO tab` |",
        "| `ünïcode.txt:1` | `TODO ünïcode` |",
        "4 TODO and 1 ",
        " in 5 files.",
        "No commit in the last year: the audited one is from 2019-03.",
        "| 2019-03 | 1 | █",
        "| Ada \\| `x` | 1 |",
        "- `LICENSE`: MIT",
        "| `keys.env:1` | AWS key | `AKIA**** (20 characters)` |",
        "| `keys.env:2` | Assigned in clear text | `token = ****",
    ] {
        assert!(report.contains(line), "expected `{line}` in\n{report}");
    }
    for secret in ["IOSFODNN", "hunter"] {
        assert!(!report.contains(secret), "`{secret}` is not masked in\n{report}");
    }
}

#[test]
fn repo_audit_keeps_to_the_commit_that_was_asked_for() {
    let site = Site::new();
    let repository = site.repository("moving");
    fs::write(repository.join("first.rs"), "fn first() {}\n").expect("the folder is ours");
    site.commit(&repository, "2024-05-01T12:00:00Z");
    site.git(&repository, &["tag", "-a", "-m", "one", "v1"]);
    fs::write(repository.join("second.py"), "second = 2\n").expect("the folder is ours");
    site.commit(&repository, "2024-06-01T12:00:00Z");
    let commit = site.git(&repository, &["rev-parse", "v1^{commit}"]);
    // A clone with one commit, without a working tree, and with a space in its path.
    let bare = site.folder.path().join("sp ace.git");
    let from = format!("file://{}", repository.display());
    site.git(&repository, &["clone", "-q", "--bare", &from, &bare.display().to_string()]);

    let report = site.report(&["--param", &format!("repo={}", bare.display()), "--param", "ref=v1"]);

    assert!(report.contains(&format!("| Commit | `{}` |", commit.trim())), "{report}");
    assert!(report.contains("`first.rs`") && !report.contains("second.py"), "{report}");
    assert!(report.contains("| Licence | missing |"), "{report}");
}

#[test]
fn repo_audit_says_why_it_cannot_begin() {
    let site = Site::new();
    let empty = site.repository("empty");
    let full = site.repository("full");
    fs::write(full.join("a.rs"), "fn a() {}\n").expect("the folder is ours");
    site.commit(&full, "2024-05-01T12:00:00Z");
    let folder = site.folder.path().display();
    for (param, message) in [
        (String::new(), "no repository given".to_owned()),
        ("repo=.".to_owned(), format!("cannot read `{folder}` as a git repository")),
        ("repo=nowhere".to_owned(), format!("there is no `nowhere` in `{folder}` on this machine")),
        (format!("repo={folder}"), format!("cannot read `{folder}` as a git repository")),
        (format!("repo={}", empty.display()), "has no commits yet".to_owned()),
    ] {
        let words: Vec<&str> = if param.is_empty() { vec![] } else { vec!["--param", &param] };
        let output = site.run(&words);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "`{param}`: {said}");
        assert!(said.contains(&message), "`{param}`: expected `{message}` in\n{said}");
    }
}

/// A folder of our own with repositories and all that a run leaves behind.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        fs::create_dir(folder.path().join("run")).expect("the folder is ours");
        Site { folder }
    }

    fn repository(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir(&path).expect("the folder is ours");
        self.git(&path, &["init", "-q", "-b", "main"]);
        path
    }

    fn commit(&self, repository: &Path, time: &str) {
        self.git(repository, &["add", "-A"]);
        let date = format!("--date={time}");
        self.git_at(repository, &["commit", "-q", "-m", "a | `subject`", &date], time);
    }

    fn git(&self, repository: &Path, words: &[&str]) -> String {
        self.git_at(repository, words, "2024-01-01T00:00:00Z")
    }

    /// Git without the settings of this machine and its user.
    fn git_at(&self, repository: &Path, words: &[&str], time: &str) -> String {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=Ada | `x`",
                "-c",
                "user.email=ada@example.org",
                "-c",
                "core.quotePath=true",
            ])
            .args(words)
            .current_dir(repository)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_COMMITTER_DATE", time)
            .stdin(Stdio::null())
            .output()
            .expect("git is installed: see scripts/setup.sh");
        assert!(output.status.success(), "git {words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn maestro(&self, words: &[&str]) -> Output {
        let below = |name: &str| self.folder.path().join(name);
        Command::new(env!("CARGO_BIN_EXE_maestro"))
            .args(words)
            .current_dir(self.folder.path())
            .env_remove("MAESTRO_REDIS_URL")
            .env_remove("MAESTRO_NAMESPACE")
            .env_remove("MAESTRO_AGENTS_DIR")
            .env("XDG_CONFIG_HOME", below("config"))
            .env("XDG_DATA_HOME", below("data"))
            .env("XDG_RUNTIME_DIR", below("run"))
            .env("MAESTRO_WORKSPACE_ROOT", below("workspaces"))
            .stdin(Stdio::null())
            .output()
            .expect("the binary was just built")
    }

    fn run(&self, words: &[&str]) -> Output {
        let all = [&["workflow", "run", "repo-audit", "--local", "--result", "report"], words].concat();
        self.maestro(&all)
    }

    /// Runs the audit, which must succeed, and gives its report.
    fn report(&self, words: &[&str]) -> String {
        let run = self.run(words);
        assert_eq!(run.status.code(), Some(0), "{}{}", text(&run.stderr), text(&run.stdout));
        let said = String::from_utf8(run.stdout).expect("a report is UTF-8, whatever the repository holds");
        let start = said.find("# Audit of ").unwrap_or_else(|| panic!("no report in\n{said}"));
        said[start..].to_owned()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
