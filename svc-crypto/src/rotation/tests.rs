//! Keys that no root unwraps.

use std::{sync::Arc, time::Duration};

use money::Timestamp;

use super::*;
use crate::{
    domain::secret::KeyBytes,
    root::{FileRoot, RootOfTrust},
    store::EmbeddedStore,
};

fn roots(current: u8, previous: Option<u8>) -> Roots {
    let root = |byte| Arc::new(FileRoot::new(&KeyBytes::take(&mut [byte; 32]))) as Arc<dyn RootOfTrust>;
    Roots::new(root(current), previous.map(root), Duration::from_secs(30))
}

#[tokio::test]
async fn a_damaged_key_is_named_and_keeps_no_other_from_being_wrapped_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("crypto.db")).unwrap();
    let (old, new) = (roots(1, None), roots(2, Some(1)));
    store.adopt_root(old.current().id(), None).await.unwrap();
    store.adopt_root(new.current().id(), Some(old.current().id())).await.unwrap();
    let slot = |tenant: &str| Slot::own(tenant.parse().unwrap(), Purpose::TenantKek);
    let reference = KeyRef { id: Uuid::from_u128(7), version: 1 };
    for tenant in ["a", "b", "c", "d"] {
        // What was wrapped for b lies in the places of b and c.
        let place = slot(if tenant == "c" { "b" } else { tenant });
        let wrapped = old.wrap(&place, reference, &KeyBytes::take(&mut [7; 32])).await.unwrap();
        store.make_key(slot(tenant), wrapped, Timestamp::EPOCH).await.unwrap();
    }
    let both = store.root().await.unwrap();
    for _ in 0..2 {
        let failed = rotate(&store, &new, |_| true).await.unwrap_err();
        assert!(matches!(&failed, RotationError::Damaged { keys: 1, .. }), "{failed}");
        assert!(failed.to_string().contains("of tenant c (TenantKek)"), "{failed}");
        let census = census(&store).await.unwrap();
        assert_eq!(census.iter().map(|(_, keys)| *keys).sum::<u64>(), 4);
        let under_new =
            census.iter().find(|(stamp, _)| stamp.as_ref().is_some_and(|s| s.root == *new.current()));
        assert_eq!(under_new.unwrap().1, 3);
        assert_eq!(store.root().await.unwrap(), both, "the old root is still needed, for whoever mends it");
    }
}
