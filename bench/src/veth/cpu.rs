//! CPU time as the scheduler counts it, and keeping other load out of the way.

use std::fs;
use std::time::Duration;

/// Share of all CPUs' time below which the machine counts as quiet.
const QUIET: f64 = 0.10;
const WINDOW: Duration = Duration::from_millis(200);
/// Windows that are waited for quiet; then it is measured all the same, and medians have to do.
const WINDOWS: usize = 5;

/// Run time of all threads of processes so far, nanoseconds (the first number of `schedstat`: `sum_exec_runtime`, exact where
/// `utime` and `stime` are sampled). A softirq that runs on a thread's back counts as that thread's.
pub(crate) fn run_time_ns(processes: &[i32]) -> u64 {
    let times = processes.iter().flat_map(|process| {
        let tasks = fs::read_dir(format!("/proc/{process}/task"));
        tasks.into_iter().flatten().flatten().filter_map(|task| {
            let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        })
    });
    times.sum()
}

/// Time that a CPU was not idle so far, nanoseconds; known to 10 ms.
pub(super) fn busy_ns(cpu: usize) -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{cpu} ");
    let line = stat.lines().find(|line| line.starts_with(&name));
    let ticks = line.and_then(|line| {
        let ticks = line.split_ascii_whitespace().skip(1);
        let ticks: Vec<u64> = ticks.filter_map(|tick| tick.parse().ok()).collect();
        // User, nice and system; interrupts and softirqs. Time that the host took is in none of them.
        Some(ticks.get(..3)?.iter().sum::<u64>() + ticks.get(5..7)?.iter().sum::<u64>())
    });
    // USER_HZ is 100 on every architecture that this runs on.
    ticks.unwrap_or(0) * 10_000_000
}

/// The kernel thread whose name begins so.
pub(super) fn kernel_thread(name: &str) -> Option<i32> {
    kernel_threads(name).next()
}

/// All of them.
pub(super) fn kernel_threads(name: &str) -> impl Iterator<Item = i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(move |process: &i32| {
            fs::read_to_string(format!("/proc/{process}/comm"))
                .is_ok_and(|comm| comm.starts_with(name))
        })
}

/// Gives our session, and with it all that we start, the highest weight against other sessions: where the scheduler groups by session,
/// a nice value alone does nothing.
pub(super) fn weigh_heavily() {
    // Absent where the scheduler does not group.
    let _ = fs::write("/proc/self/autogroup", "-20");
}

/// Waits for a while until the machine has nothing else to do.
pub(super) fn wait_until_quiet() {
    for _ in 0..WINDOWS {
        let before = busy_and_all();
        std::thread::sleep(WINDOW);
        let after = busy_and_all();
        let (Some(before), Some(after)) = (before, after) else {
            return;
        };
        let all = (after.1 - before.1).max(1);
        if (after.0 - before.0) as f64 / (all as f64) < QUIET {
            return;
        }
    }
}

/// Ticks of all CPUs together: busy ones, and all.
fn busy_and_all() -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().next()?;
    let ticks: Vec<u64> = line
        .split_ascii_whitespace()
        .skip(1)
        .filter_map(|tick| tick.parse().ok())
        .collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    let all = ticks.iter().take(8).sum::<u64>();
    Some((all - idle, all))
}
