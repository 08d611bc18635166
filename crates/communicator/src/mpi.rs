//! Processes that an MPI launcher has started.

use std::fmt;

use ::mpi::Threading;
use ::mpi::collective::SystemOperation;
use ::mpi::environment::{Universe, processor_name};
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{
    Communicator as _, CommunicatorCollectives as _, Destination as _, Equivalence, Root as _,
    Source as _,
};

use crate::{Communicator, Place};

/// Elements of one message: MPI counts them in 32 bits.
const MAX_COUNT: usize = 1 << 28;

/// A process of MPI's world. Dropping it finalizes MPI, which waits for the other ranks.
pub struct Mpi {
    world: SimpleCommunicator,
    place: Place,
    /// Dropped last.
    _universe: Universe,
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi({} of {})", self.rank(), self.world())
    }
}

impl Mpi {
    /// Initializes MPI; `None` if it is initialized already. Its operations are for the thread that calls
    /// this.
    pub fn init() -> Option<Self> {
        let (universe, _threading) = ::mpi::initialize_with_threading(Threading::Funneled)?;
        let world = universe.world();
        let local = world.split_shared(world.rank());
        let place = Place {
            host: processor_name().unwrap_or_else(|_| "a host with an invalid name".into()),
            local_rank: local.rank() as usize,
            local_world: local.size() as usize,
        };
        Some(Self { world, place, _universe: universe })
    }

    fn sum<T: Equivalence + Copy + Default>(&self, values: &mut [T]) {
        let mut sums = Vec::new();
        for values in values.chunks_mut(MAX_COUNT) {
            sums.clear();
            sums.resize(values.len(), T::default());
            self.world.all_reduce_into(&*values, &mut sums[..], SystemOperation::sum());
            values.copy_from_slice(&sums);
        }
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn world(&self) -> usize {
        self.world.size() as usize
    }

    fn place(&self) -> Place {
        self.place.clone()
    }

    fn all_reduce_sum(&self, values: &mut [f32]) {
        self.sum(values);
    }

    fn all_reduce_sum_f64(&self, values: &mut [f64]) {
        self.sum(values);
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) {
        let root = self.world.process_at_rank(0);
        let mut len = bytes.len() as u64;
        root.broadcast_into(&mut len);
        bytes.resize(len as usize, 0);
        for part in bytes.chunks_mut(MAX_COUNT) {
            root.broadcast_into(part);
        }
    }

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        if self.rank() > 0 {
            let root = self.world.process_at_rank(0);
            root.send(&(bytes.len() as u64));
            for part in bytes.chunks(MAX_COUNT) {
                root.send(part);
            }
            return Vec::new();
        }
        let mut parts = vec![bytes.to_vec()];
        for rank in 1..self.world.size() {
            let source = self.world.process_at_rank(rank);
            let (len, _status) = source.receive::<u64>();
            let mut bytes = vec![0; len as usize];
            for part in bytes.chunks_mut(MAX_COUNT) {
                source.receive_into(part);
            }
            parts.push(bytes);
        }
        parts
    }

    fn barrier(&self) {
        self.world.barrier();
    }
}
