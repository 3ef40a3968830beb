//! Which address a secret may be sent to.

use serde::{Deserialize, Serialize};

use crate::engine::randomness::Randomness;

/// One address of a connection: an API's URL with the proxy and the trust roots on the way to it.
/// Connections and keys in the first stored format have none; that counts as an address of its own.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AddressId(String);

/// The address of a connection, and whose secrets may be sent to it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Address {
    id: AddressId,
    /// Earlier addresses that were replaced by this one together with the stored management key. Anyone who
    /// knows that key may do anything with the API keys that were made with it.
    succeeds: Vec<AddressId>,
    /// The same address, and those that it succeeds, under earlier management keys. It is unknown whether
    /// the management key that replaced them sees the API keys that were made under them. These may be sent
    /// here, but whoever knows the present management key cannot have them sent anywhere else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    only_here: Vec<AddressId>,
}

impl Address {
    /// Identifies this address.
    pub fn id(&self) -> &AddressId {
        &self.id
    }

    /// The next address. If the write that changed it contained the stored management key, stored keys may
    /// be sent there; otherwise they may not.
    #[must_use]
    pub fn moved(&self, with_stored_key: bool, randomness: &dyn Randomness) -> Self {
        Self {
            id: AddressId::new(randomness),
            succeeds: if with_stored_key {
                self.own().cloned().collect()
            } else {
                Vec::new()
            },
            only_here: Vec::new(),
        }
    }

    /// The same address for another management key, of which nobody has shown that it sees the API keys that
    /// were made before.
    #[must_use]
    pub fn with_unproved_key(&self, randomness: &dyn Randomness) -> Self {
        Self {
            id: AddressId::new(randomness),
            succeeds: Vec::new(),
            only_here: self.only_here.iter().chain(self.own()).cloned().collect(),
        }
    }

    /// Whether a key that was made under that address may be sent to this one.
    pub fn may_see_keys_of(&self, made_under: &AddressId) -> bool {
        let mut seen = self.own().chain(&self.only_here);
        seen.any(|address| address == made_under)
    }

    /// The addresses whose keys belong to whoever knows the stored management key.
    fn own(&self) -> impl Iterator<Item = &AddressId> {
        self.succeeds.iter().chain([&self.id])
    }
}

impl AddressId {
    fn new(randomness: &dyn Randomness) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = randomness.bytes();
        let id = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Self(format!("{id:016x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::randomness::SystemRandomness;

    #[test]
    fn keys_go_only_where_somebody_moved_who_knew_the_stored_key() {
        let first = Address::default();
        let second = first.moved(true, &SystemRandomness);
        let third = second.moved(true, &SystemRandomness);
        let elsewhere = third.moved(false, &SystemRandomness);
        let back = elsewhere.moved(true, &SystemRandomness);
        for (here, sees) in [
            (&first, [true, false, false]),
            (&second, [true, true, false]),
            (&third, [true, true, true]),
            (&elsewhere, [false, false, false]),
            (&back, [false, false, false]),
        ] {
            let made_under = [first.id(), second.id(), third.id()];
            assert_eq!(made_under.map(|id| here.may_see_keys_of(id)), sees);
        }
        assert!(back.may_see_keys_of(elsewhere.id()));
    }

    #[test]
    fn a_management_key_that_proves_nothing_leads_earlier_keys_nowhere_else() {
        let first = Address::default();
        let second = first.moved(true, &SystemRandomness);
        let replaced = second.with_unproved_key(&SystemRandomness);
        let again = replaced.with_unproved_key(&SystemRandomness);
        let elsewhere = again.moved(true, &SystemRandomness);
        for (here, sees) in [
            (&replaced, [true, true, true, false]),
            (&again, [true, true, true, true]),
            (&elsewhere, [false, false, false, true]),
        ] {
            let made_under = [first.id(), second.id(), replaced.id(), again.id()];
            assert_eq!(made_under.map(|id| here.may_see_keys_of(id)), sees);
        }
    }
}
