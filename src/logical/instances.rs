//! Which engine instance serves which mount. One process serves all mounts.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tonic::Status;
use tonic::metadata::MetadataMap;

use super::Backend;

/// The live instances, by the id that the host assigned to each mount's connection.
///
/// The id names a connection, not a mount: a reload or a crash gives the mount a new one.
#[derive(Clone, Default)]
pub(super) struct Instances(Arc<RwLock<HashMap<MultiplexId, Arc<dyn Backend>>>>);

impl Instances {
    /// The instance that a call addresses.
    pub(super) fn of(&self, metadata: &MetadataMap) -> Result<Arc<dyn Backend>, Status> {
        let id = multiplex_id(metadata)?;
        let live = self.0.read().unwrap_or_else(PoisonError::into_inner);
        live.get(id).cloned().ok_or_else(|| {
            Status::failed_precondition("no backend instance was set up for this multiplex_id")
        })
    }

    /// Adds an instance, and returns the one that it replaces.
    pub(super) fn insert(
        &self,
        id: MultiplexId,
        backend: Arc<dyn Backend>,
    ) -> Option<Arc<dyn Backend>> {
        let mut live = self.0.write().unwrap_or_else(PoisonError::into_inner);
        live.insert(id, backend)
    }

    /// Removes an instance; later calls for it fail.
    pub(super) fn remove(
        &self,
        metadata: &MetadataMap,
    ) -> Result<Option<Arc<dyn Backend>>, Status> {
        let id = multiplex_id(metadata)?;
        let mut live = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Ok(live.remove(id))
    }
}

/// The id of a mount's connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct MultiplexId(String);

impl MultiplexId {
    pub(super) fn of(metadata: &MetadataMap) -> Result<Self, Status> {
        Ok(Self(multiplex_id(metadata)?.to_owned()))
    }
}

/// Instances are found by the text of their id.
impl Borrow<str> for MultiplexId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The value of the request metadata `multiplex_id`, which must occur exactly once.
fn multiplex_id(metadata: &MetadataMap) -> Result<&str, Status> {
    let mut values = metadata.get_all("multiplex_id").iter();
    match (values.next(), values.next()) {
        (Some(id), None) => match id.to_str() {
            Ok(id) if !id.is_empty() => Ok(id),
            _ => Err(Status::invalid_argument(
                "multiplex_id is empty or not text",
            )),
        },
        (None, _) => Err(Status::invalid_argument("multiplex_id is missing")),
        (Some(_), Some(_)) => Err(Status::invalid_argument("multiplex_id is given twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(ids: &[&str]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for id in ids {
            metadata.append("multiplex_id", id.parse().unwrap());
        }
        metadata
    }

    #[test]
    fn the_multiplex_id_must_be_there_exactly_once() {
        assert!(MultiplexId::of(&metadata(&["a1"])).is_ok());
        assert!(MultiplexId::of(&metadata(&[])).is_err());
        assert!(MultiplexId::of(&metadata(&[""])).is_err());
        assert!(MultiplexId::of(&metadata(&["a1", "a1"])).is_err());
    }

    #[test]
    fn a_call_for_an_unknown_instance_fails() {
        let reason = Instances::default().of(&metadata(&["a1"])).err().unwrap();
        assert!(reason.message().contains("no backend instance"));
    }
}
