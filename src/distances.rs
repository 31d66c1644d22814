//! What the scheduler knows of the machine: who is near whom, and in which group of workers each is.
//!
//! On most machines nobody is nearer than others, or it is not known since workers are bound to nothing. Then there are
//! no rings: everything that asks here has a path without them, which costs no more than if there were no distances.

use crate::processors::ProcessorId;
#[cfg(doc)]
use crate::processors::Processors;
use crate::topology::{Nearness, Neighbours, Placement, Ring, Topology};

/// Near threads are tried before others. See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct Distances {
    /// `None`: each worker is as near as any other.
    neighbours: Option<Box<Neighbours>>,
    /// In which ring all are then, and at all times those of whom it is not known.
    ring: Ring,
}

impl Distances {
    /// Of workers that are bound to nothing.
    pub(crate) fn unknown() -> Self {
        Self { neighbours: None, ring: Ring::Node }
    }

    /// Of workers that sit so.
    pub(crate) fn new(machine: &Topology, placement: &Placement) -> Self {
        let neighbours = Neighbours::new(machine, placement);
        match neighbours.only_ring() {
            Some(ring) => Self { neighbours: None, ring },
            None => Self { neighbours: Some(Box::new(neighbours)), ring: Ring::Node },
        }
    }

    /// Who is nearer than others; `None` if nobody is.
    pub(crate) fn neighbours(&self) -> Option<&Neighbours> {
        self.neighbours.as_deref()
    }

    /// How near `to` is to `from`: places of threads, which may have none.
    pub(crate) fn nearness(&self, from: Option<ProcessorId>, to: Option<ProcessorId>) -> Nearness {
        match (self.neighbours(), from, to) {
            (Some(_), Some(from), Some(to)) if from == to => Nearness::NEXT,
            (Some(neighbours), Some(from), Some(to)) => neighbours.nearness(from as usize, to as usize),
            _ => Nearness::in_node(self.ring),
        }
    }

    /// How far a processor is from `place`, `None` that none can be nearer: what [`Processors::wake_where`] asks.
    pub(crate) fn near(&self, place: Option<ProcessorId>) -> impl Fn(ProcessorId) -> Option<Nearness> {
        let place = place.filter(|_| self.neighbours().is_some());
        move |p| {
            let nearness = self.nearness(Some(place?), Some(p));
            (nearness != Nearness::NEXT).then_some(nearness)
        }
    }

    /// The ring of threads that have no place, or of all.
    pub(crate) fn ring(&self) -> Ring {
        self.ring
    }

    /// The same if there are several homes: NUMA nodes with workers of their own.
    pub(crate) fn several_homes(&self) -> Option<&Neighbours> {
        self.neighbours().filter(|neighbours| neighbours.homes() > 1)
    }

    /// How many homes there are.
    pub(crate) fn homes(&self) -> usize {
        self.several_homes().map_or(1, Neighbours::homes)
    }

    /// In which home a place is, if there are several.
    pub(crate) fn home_of(&self, place: impl FnOnce() -> Option<ProcessorId>) -> Option<usize> {
        let neighbours = self.several_homes()?;
        Some(neighbours.home_of(place()? as usize))
    }
}
