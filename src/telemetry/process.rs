//! Figures of the process itself, as the kernel tells them in `/proc/self`.

use std::fs;

/// The kernel reports processor times to user space in hundredths of a second on every architecture that Rust's
/// Linux targets run on, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process at one moment. A figure that can't be read is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessFigures {
    /// User and system time of all threads.
    pub cpu_seconds: Option<f64>,
    /// Memory that is resident.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// The limit on them; absent if there is none.
    pub max_fds: Option<u64>,
    /// The start, in seconds since 1970.
    pub start_time: Option<f64>,
}

impl ProcessFigures {
    /// Reads them.
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = stat_fields(&stat);
        // Numbered as in proc(5), where the state, the first after the name, is the third.
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            resident_bytes: keyed_number("/proc/self/status", "VmRSS:").map(|kib| kib * 1024),
            // One of them is the directory that is being read.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|all| (all.count() as u64).saturating_sub(1)),
            max_fds: keyed_number("/proc/self/limits", "Max open files"),
            start_time: field(22)
                .zip(keyed_number("/proc/stat", "btime"))
                .map(|(ticks, boot)| boot as f64 + ticks / TICKS_PER_SECOND),
        }
    }
}

/// The fields of `/proc/self/stat` after the program's name, which may itself hold spaces and brackets.
fn stat_fields(stat: &str) -> Vec<&str> {
    stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect()).unwrap_or_default()
}

/// The first number in the line of a file that begins with `key`.
fn keyed_number(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        assert_eq!(stat_fields("7 (a) b) R 1 2"), ["R", "1", "2"]);
        assert!(stat_fields("").is_empty());
    }

    #[test]
    fn the_figures_are_those_of_a_living_process() {
        let figures = ProcessFigures::now();
        assert!(figures.cpu_seconds.unwrap() < 3_600.0);
        assert!(figures.resident_bytes.unwrap() > 1 << 20);
        assert!(figures.open_fds.unwrap() >= 3);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - figures.start_time.unwrap();
        assert!((-2.0..3_600.0).contains(&age), "started {age} s ago");
    }
}
