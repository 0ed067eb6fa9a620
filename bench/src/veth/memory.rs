//! What a device takes of memory.

use std::fs;

/// Resident memory of processes, and the BPF maps that they hold, in bytes. What the kernel keeps for their sockets is in none of it.
pub(crate) fn of(processes: &[i32]) -> u64 {
    processes
        .iter()
        .map(|process| resident(*process) + maps(*process))
        .sum()
}

fn resident(process: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    number_after(&status, "VmRSS:") * 1024
}

/// Each map once, however many descriptors lead to it.
fn maps(process: i32) -> u64 {
    let entries = fs::read_dir(format!("/proc/{process}/fdinfo"));
    let mut maps: Vec<(u64, u64)> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter(|info| info.contains("map_type:"))
        .map(|info| {
            (
                number_after(&info, "map_id:"),
                number_after(&info, "memlock:"),
            )
        })
        .collect();
    maps.sort_unstable();
    maps.dedup();
    maps.iter().map(|(_, bytes)| bytes).sum()
}

/// The number behind a word, 0 where there is none.
fn number_after(text: &str, word: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_behind_their_words() {
        let info = "pos:\t0\nmap_type:\t2\nmemlock:\t4096\nmap_id:\t7\n";
        assert_eq!(number_after(info, "memlock:"), 4096);
        assert_eq!(number_after(info, "map_id:"), 7);
        assert_eq!(number_after(info, "VmRSS:"), 0);
    }

    #[test]
    fn this_process_is_resident() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(of(&[own]) > 100_000);
    }
}
