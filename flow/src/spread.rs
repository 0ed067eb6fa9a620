//! Over which CPUs the packets of flows are spread, where one receive queue feeds them all.
//!
//! By slot, in turns: flows that come one after the other get different CPUs, which a hash of so few would not promise, and a
//! flow keeps its own, so that its packets stay in order. Written by the daemon, read by the XDP program.

/// Most CPUs to spread over.
pub const SPREAD_CPUS: usize = 64;

/// The CPUs. Zeros are none: every packet stays on the CPU that received it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spread {
    count: u32,
    cpus: [u32; SPREAD_CPUS],
}

impl Spread {
    /// Over these CPUs; those beyond [`SPREAD_CPUS`] are left out.
    pub fn new(numbers: &[u32]) -> Self {
        let mut cpus = [0; SPREAD_CPUS];
        for (place, cpu) in cpus.iter_mut().zip(numbers) {
            *place = *cpu;
        }
        let count = numbers.len().min(SPREAD_CPUS) as u32;
        Self { count, cpus }
    }

    /// The CPU of the flow in a slot.
    #[inline(always)]
    pub fn cpu(&self, slot: u32) -> Option<u32> {
        if self.count == 0 {
            return None;
        }
        Some(self.cpus[(slot % self.count) as usize & (SPREAD_CPUS - 1)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_take_the_cpus_in_turns() {
        let spread = Spread::new(&[1, 3]);
        let cpus: [_; 4] = core::array::from_fn(|slot| spread.cpu(slot as u32));
        assert_eq!(cpus, [Some(1), Some(3), Some(1), Some(3)]);
        assert_eq!(Spread::new(&[]).cpu(7), None);
        assert_eq!(Spread::new(&[5; 80]).cpu(79), Some(5));
    }
}
