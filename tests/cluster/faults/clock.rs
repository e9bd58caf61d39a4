//! The clock of Redis jumps by an hour, forward and back, while agents run.
//!
//! The clock is shifted by a small library that is compiled here and loaded into redis-server. `libfaketime`
//! would do the same, but does not get along with the allocator of Debian's redis-server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use maestro_store::runs::RunStatus;

use crate::graphs::{layers, napping, noting, step, workflow};
use crate::records::{assert_all_completed, assert_layers_in_order, notes, redis_now_ms, wait_until_busy};
use crate::support::{ClusterSetup, TestCluster};

/// Adds the seconds in the file `TRIAL_CLOCK` to the wall clock; the monotonic one stays.
const SHIFT: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    const char *path = getenv("TRIAL_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    char text[32] = {0};
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
"#;

fn compile(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("shift.c"), folder.join("shift.so"));
    std::fs::write(&source, SHIFT).expect("a file");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(compiled.expect("a C compiler, which building needs as well").success());
    library
}

#[test]
fn a_clock_that_jumps_by_an_hour_expires_nobody() {
    let setup = ClusterSetup { workers: 0, coordinators: 0, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    let library = compile(&cluster.scratch("clock"));
    cluster.redis.restart_with_clock(&library);
    cluster.look_again();
    cluster.start_coordinator("c0");
    for name in ["w0", "w1"] {
        cluster.start_worker(name);
        cluster.wait_for_worker(name);
    }
    let mut steps = layers(6, 6, &napping(0.5));
    let again = format!("{}\n[ \"$MAESTRO_ATTEMPT\" -gt 1 ]\n{}", noting("S"), noting("E"));
    let mut parked = step("x0-0", &[], &again);
    parked["retry"] = serde_json::json!({"max_attempts": 2, "delay": "500ms"});
    steps.push(parked);
    let run = cluster.submit_text("layers", &workflow("layers", &cluster.witness(), steps));
    for ahead_s in [3_600, 0, -3_600, 0] {
        wait_until_busy(&cluster, &run, "w0", 1);
        let before = redis_now_ms(&cluster);
        cluster.redis.set_clock(ahead_s);
        let after = redis_now_ms(&cluster);
        assert!(before.abs_diff(after) > 3_000_000, "redis' clock has jumped: {before} {after}");
    }
    let end = cluster.wait_for_run(&run, Duration::from_secs(60));
    assert_eq!(end.status, RunStatus::Completed);
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.fenced), (0, 0), "nobody was taken for dead");
    assert_eq!(report.repeated(), 1, "only what failed was tried again");
    let layers: Vec<_> = notes(&cluster).into_iter().filter(|note| note.step.starts_with('l')).collect();
    assert_layers_in_order(&layers, 6);
}
