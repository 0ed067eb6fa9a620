//! What aya needs to know of the types that stand in maps.

use crate::{Budgets, FlowEntry, FlowKey, FlowRef, FlowState, FlowStats, Guard, Source, Spread};

// SAFETY: `repr(C)`, integers only, sizes asserted padding-free in their modules; every byte
// pattern is a value.
unsafe impl aya::Pod for FlowEntry {}
// SAFETY: as above.
unsafe impl aya::Pod for FlowKey {}
// SAFETY: as above.
unsafe impl aya::Pod for FlowRef {}
// SAFETY: as above.
unsafe impl aya::Pod for FlowState {}
// SAFETY: as above.
unsafe impl aya::Pod for FlowStats {}
// SAFETY: as above.
unsafe impl aya::Pod for Budgets {}
// SAFETY: as above.
unsafe impl aya::Pod for Guard {}
// SAFETY: as above.
unsafe impl aya::Pod for Source {}
// SAFETY: as above.
unsafe impl aya::Pod for Spread {}
