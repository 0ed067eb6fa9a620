//! Welch's t of two classes of times: how sure it is that their means differ.

/// Shares of the shortest times that are looked at each on their own: what a machine adds to a time is long and says nothing.
const CROPS: [f64; 6] = [1.0, 0.99, 0.95, 0.9, 0.75, 0.5];

/// Number, mean and sum of squared differences so far (Welford).
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let from_old = value - self.mean;
        self.mean += from_old / self.count;
        self.squares += from_old * (value - self.mean);
    }

    /// Variance of the mean.
    fn of_mean(&self) -> f64 {
        self.squares / (self.count - 1.0) / self.count
    }
}

/// How two classes compare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Compared {
    /// The t of the crop where it is largest.
    pub(super) t: f64,
    /// Second mean less the first there, nanoseconds.
    pub(super) difference_ns: f64,
    /// First mean there.
    pub(super) mean_ns: f64,
}

/// Compares times by class: `(second class, nanoseconds)`.
pub(super) fn compare(times: &mut [(bool, u64)]) -> Compared {
    times.sort_unstable_by_key(|(_, time)| *time);
    let mut worst = Compared {
        t: 0.0,
        difference_ns: 0.0,
        mean_ns: 0.0,
    };
    for share in CROPS {
        let kept = (times.len() as f64 * share) as usize;
        // All times of one length together, or the crop itself would make a difference.
        let Some((_, limit)) = times.get(kept.saturating_sub(1)) else {
            continue;
        };
        let mut classes = [Moments::default(); 2];
        for (second, time) in times.iter().take_while(|(_, time)| time <= limit) {
            classes[usize::from(*second)].add(*time as f64);
        }
        let [first, second] = classes;
        if first.count < 2.0 || second.count < 2.0 {
            continue;
        }
        let difference_ns = second.mean - first.mean;
        let spread = (first.of_mean() + second.of_mean()).sqrt();
        let t = if spread > 0.0 {
            difference_ns / spread
        } else {
            0.0
        };
        if t.abs() >= worst.t.abs() {
            worst = Compared {
                t,
                difference_ns,
                mean_ns: first.mean,
            };
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(second: impl Fn(u64) -> u64) -> Vec<(bool, u64)> {
        let noise = |k: u64| 1000 + k * 7919 % 101;
        let both = |k| [(false, noise(k)), (true, second(noise(k * 31 + 5)))];
        (0..5000).flat_map(both).collect()
    }

    #[test]
    fn equal_classes_do_not_differ() {
        let compared = compare(&mut times(|time| time));
        assert!(compared.t.abs() < 4.5, "{compared:?}");
    }

    #[test]
    fn five_nanoseconds_in_noise_of_a_hundred_are_found() {
        let compared = compare(&mut times(|time| time + 5));
        assert!(compared.t > 4.5, "{compared:?}");
        assert!((2.0..8.0).contains(&compared.difference_ns), "{compared:?}");
    }

    #[test]
    fn t_is_the_one_of_the_textbook() {
        // Means 2 and 4, variances 1 and 4 of three: t = 2 / sqrt(1/3 + 4/3).
        let mut times = [
            (false, 1),
            (false, 2),
            (false, 3),
            (true, 2),
            (true, 4),
            (true, 6),
        ];
        let compared = compare(&mut times);
        assert!(
            (compared.t - 2.0 / (5.0_f64 / 3.0).sqrt()).abs() < 1e-9,
            "{compared:?}"
        );
    }

    #[test]
    fn nothing_is_compared_to_nothing() {
        assert_eq!(compare(&mut []).t, 0.0);
        assert_eq!(compare(&mut [(true, 5); 9]).t, 0.0);
    }
}
