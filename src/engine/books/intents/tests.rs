//! Which intents are meant.

use super::*;
use crate::engine::names::ConnectionName;
use crate::logical::MemoryStorage;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn intent(number: u64) -> Intent {
    let key_name = format!("ci vault-{number:032x}");
    Intent {
        nonce: Nonce::of_key_name(&key_name).unwrap(),
        role: RoleName::new("ci").unwrap(),
        purpose: Purpose::Lease,
        key_name,
        place: Place {
            connection: ConnectionName::default(),
            workspace_id: None,
        },
        in_use: Some(60),
        rejected: None,
        grant: None,
    }
}

/// An emergency concerns the orders that are older. One that was announced at the same moment is its own, or was
/// made with its new keys.
#[tokio::test]
async fn an_intent_was_announced_before_a_moment_only_if_it_is_older() {
    let (intents, storage) = (Intents::default(), MemoryStorage::default());
    for number in [9, 10, 11] {
        let intent = intent(number);
        let id = intent.nonce.as_str().to_owned();
        let second = number.cast_signed();
        let put = intents.log.put(&storage, &id, intent, at(second));
        put.await.unwrap();
    }
    let older = intents.announced_before(at(10)).into_iter();
    let older: Vec<Intent> = older.map(|(intent, _)| intent).collect();
    assert_eq!(older, [intent(9)]);
    assert_eq!(intents.all().len(), 3);
}
