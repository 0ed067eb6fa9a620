//! Who may have a connection: so many in all, and of one address so many that have not shown yet that they belong to a call.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Numbers are below this: as many as there are loopback addresses for them.
const NUMBERS: usize = 1 << 22;

/// All connections.
pub(super) struct Places {
    limit: usize,
    unproven_of_one: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Numbers given back, the lowest first.
    free: BTreeSet<u32>,
    /// Numbers from here on were never given.
    next: u32,
    unproven: HashMap<IpAddr, usize>,
}

/// One connection's; given back on drop.
pub(super) struct Place {
    places: Arc<Places>,
    number: u32,
    /// Where it comes from, as long as it has not shown that it belongs to a call.
    unproven: Mutex<Option<IpAddr>>,
}

impl Places {
    pub(super) fn new(limit: usize, unproven_of_one: usize) -> Self {
        Self {
            limit: limit.min(NUMBERS),
            unproven_of_one,
            table: Mutex::default(),
        }
    }

    /// A place for a connection from there; `None` when there are too many.
    pub(super) fn take(places: &Arc<Self>, source: IpAddr) -> Option<Place> {
        let mut table = places.table();
        let unproven = table.unproven.get(&source).copied().unwrap_or_default();
        if unproven >= places.unproven_of_one {
            return None;
        }
        let number = match table.free.pop_first() {
            Some(number) => number,
            None if (table.next as usize) < places.limit => {
                table.next += 1;
                table.next - 1
            }
            None => return None,
        };
        table.unproven.insert(source, unproven + 1);
        drop(table);
        Some(Place {
            places: Arc::clone(places),
            number,
            unproven: Mutex::new(Some(source)),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Below the limit of all, and no other's.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// It belongs to a call: it counts no more for its address.
    pub(super) fn prove(&self) {
        let source = self
            .unproven
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(source) = source {
            self.places.table().proven(source);
        }
    }
}

impl Table {
    fn proven(&mut self, source: IpAddr) {
        if let Some(unproven) = self.unproven.get_mut(&source) {
            *unproven -= 1;
            if *unproven == 0 {
                self.unproven.remove(&source);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.prove();
        self.places.table().free.insert(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn an_address_has_so_many_unproven_ones_and_all_have_so_many() {
        let places = Arc::new(Places::new(4, 2));
        let take = |source| Places::take(&places, source);
        let first = take(HERE).unwrap();
        let second = take(HERE).unwrap();
        assert!(take(HERE).is_none(), "a third that proved nothing");
        let other = take(THERE).unwrap();
        first.prove();
        first.prove();
        let fourth = take(HERE).unwrap();
        assert!(take(THERE).is_none(), "a fifth of all");
        assert_eq!(
            [&first, &second, &other, &fourth].map(Place::number),
            [0, 1, 2, 3]
        );
        drop(second);
        let again = take(HERE).unwrap();
        assert_eq!(again.number(), 1);
        drop((first, other, fourth, again));
        assert!(places.table().unproven.is_empty());
        assert_eq!(places.table().free.len(), 4);
    }
}
