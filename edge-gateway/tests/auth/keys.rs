//! API keys: their life takes effect without a restart.

use edge_gateway::{EdgeConfig, auth::keys::Time};
use http::StatusCode;
use mesh::Clock as _;

use super::*;

#[tokio::test]
async fn a_key_speaks_for_its_tenant_until_it_is_revoked() {
    let mut world = World::new();
    let first = world.create(&["payments:read"], |_| {});
    let edge = world.edge(|_| {}).await;
    let reply = list(&edge, &first.key).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.json()["payments"][0]["metadata"]["tenant"], "acme");
    // The plain keys of the configuration go on beside it.
    assert_eq!(list(&edge, "sk_other").await.status, StatusCode::OK);
    let second = world.create(&["payments:*"], |key| key.tenant = "globex".parse().unwrap());
    let reply = until(&edge, &second.key, StatusCode::OK).await;
    assert_eq!(reply.json()["payments"][0]["metadata"]["tenant"], "globex");
    world.file.revoke(&first.record.id, world.clock.now()).unwrap();
    world.write();
    let reply = until(&edge, &first.key, StatusCode::UNAUTHORIZED).await;
    assert!(detail(&reply).contains("revoked"), "its holder is told");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"paymesh\", error=\"invalid_token\""));
    assert_eq!(list(&edge, &second.key).await.status, StatusCode::OK);
    edge.stop().await;
}

#[tokio::test]
async fn a_key_expires_by_the_clock_and_a_rotated_one_has_its_overlap() {
    let mut world = World::new();
    let expiring =
        world.create(&["*"], |key| key.expires = Some("2027-01-15T08:01:00Z".parse::<Time>().unwrap()));
    let rotated = world.create(&["*"], |_| {});
    let edge = world.edge(|_| {}).await;
    assert_eq!(list(&edge, &expiring.key).await.status, StatusCode::OK);
    let young = world.file.rotate(&rotated.record.id, 100, &world.pepper(), world.clock.now()).unwrap();
    world.write();
    until(&edge, &young.key, StatusCode::OK).await;
    assert_eq!(list(&edge, &rotated.key).await.status, StatusCode::OK, "in its overlap");
    world.clock.advance_seconds(60);
    assert!(detail(&list(&edge, &expiring.key).await).contains("expired"));
    assert_eq!(list(&edge, &rotated.key).await.status, StatusCode::OK);
    world.clock.advance_seconds(40);
    assert!(detail(&list(&edge, &rotated.key).await).contains("newer"));
    assert_eq!(list(&edge, &young.key).await.status, StatusCode::OK);
    edge.stop().await;
}

#[tokio::test]
async fn a_mistyped_key_is_not_told_from_an_unknown_one() {
    let mut world = World::new();
    let fresh = world.create(&["*"], |_| {});
    let edge = world.edge(|_| {}).await;
    let last = if fresh.key.ends_with('a') { "b" } else { "a" };
    let mistyped = format!("{}{last}", &fresh.key[..fresh.key.len() - 1]);
    // Made under another pepper, so that only its checksum is right.
    let stranger = World::new().create(&["*"], |_| {});
    let answers =
        [&mistyped, stranger.key.as_str(), "pmk_", "a.b.c"].map(|credential| list(&edge, credential));
    for answer in answers {
        let reply = answer.await;
        let told = (reply.status, detail(&reply));
        assert_eq!(told, (StatusCode::UNAUTHORIZED, "The API key is not known.".into()));
    }
    assert_eq!(list(&edge, &fresh.key).await.status, StatusCode::OK);
    edge.stop().await;
}

#[tokio::test]
async fn an_edge_does_not_start_on_half_a_configuration() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let mut harness = mesh::Harness::new(dir.path()).unwrap();
    for name in ["svc-payments", "svc-crypto", "svc-ledger", "svc-tax"] {
        harness.add_upstream(name, "127.0.0.1:1");
    }
    std::fs::write(world.path("short"), "too short").unwrap();
    std::fs::write(world.path("broken"), "version = 9").unwrap();
    let right = world.auth();
    for (auth, told) in [
        (AuthConfig { pepper_file: None, ..right.clone() }, "go together"),
        (AuthConfig { reload_interval_ms: 0, ..right.clone() }, "at least 1"),
        (AuthConfig { pepper_file: Some(world.path("short")), ..right.clone() }, "32 to 4096 bytes"),
        (AuthConfig { keys_file: Some(world.path("none")), ..right.clone() }, "none"),
        (AuthConfig { keys_file: Some(world.path("broken")), ..right.clone() }, "version"),
    ] {
        let listener = mesh::server::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let config = EdgeConfig { listener: Some(listener), auth, ..EdgeConfig::default() };
        let started = harness.start::<edge_gateway::Edge>(config).await;
        let error = started.err().expect("it does not start").to_string();
        assert!(error.contains(told), "{error}");
    }
}
