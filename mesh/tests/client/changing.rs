//! Addresses, certificates and servers that change under load without a failed call.

use mesh::{Fault, Reason, UpstreamParts};

use crate::world::{Client, Counted, Load, World, settings, until};

/// A write without a key fails whenever anything goes wrong with it on its way: the strictest load.
fn writes(client: &Client) -> Load {
    Load::start(16, client, |client| async move { client.write().await })
}

#[tokio::test]
async fn connections_are_replaced_when_they_are_old() {
    let world = World::new();
    let replica = world.replica().await;
    let mut settings = settings();
    settings.connection_age_max_ms = 60;
    let (parts, counted) = Counted::put_into(world.parts(settings));
    let client = World::client_with(parts, &[&replica]);
    let load = writes(&client);
    until("connections are replaced", || counted.made() >= 20).await;
    load.goes_on_for(100).await;
    load.must_have_succeeded().await;
    // Those replaced have ended.
    until("two are left", || world.count("connections") <= 4).await;
}

#[tokio::test]
async fn connections_are_replaced_when_the_certificate_is() {
    let world = World::new();
    let replica = world.replica().await;
    let (parts, counted) = Counted::put_into(world.parts(settings()));
    let client = World::client_with(parts, &[&replica]);
    let load = writes(&client);
    for round in 1..=5 {
        until("both connections are new", || counted.made() == 2 * round).await;
        load.goes_on_for(50).await;
        assert_eq!(counted.made(), 2 * round, "no more than that");
        until("both are open", || world.count("connections") == 2).await;
        counted.renewed.send_modify(|version| *version += 1);
    }
    load.must_have_succeeded().await;
}

#[tokio::test]
async fn a_service_moves_to_other_addresses() {
    let world = World::new();
    let (first, second, third) = (world.replica().await, world.replica().await, world.replica().await);
    let client = world.client(settings(), &[&first]);
    let load = writes(&client);
    load.goes_on_for(100).await;
    assert_eq!((second.state.calls(), third.state.calls()), (0, 0));
    client.names.now(&[&first, &second]);
    until("the second is found", || second.state.calls() > 50).await;
    client.names.now(&[&second, &third]);
    until("the third is found", || third.state.calls() > 50).await;
    let seen = first.state.calls();
    load.goes_on_for(200).await;
    assert_eq!(first.state.calls(), seen, "the first is left");
    until("its connections are closed", || world.count("connections") == 4).await;
    // A name without an address is a mistake of DNS: what was found before stays in use.
    client.names.now(&[]);
    load.goes_on_for(400).await;
    load.must_have_succeeded().await;
}

/// Two that do not share what they know are two books: a retry must not find the other one.
#[tokio::test]
async fn a_service_that_is_not_replicated_is_not_called_at_two_addresses() {
    let world = World::new();
    let (first, second) = (world.replica().await, world.replica().await);
    let settings = mesh::UpstreamSettings { replicated: false, ..settings() };
    let client = world.client(settings, &[&first, &second]);
    let status = client.read().await.unwrap_err();
    assert_eq!(Fault::from_status(&status).reason(), Reason::Unavailable);
    assert_eq!((first.state.calls(), second.state.calls()), (0, 0));
    client.names.now(&[&first]);
    while client.write_with_key().await.is_err() {}
    client.names.now(&[&first, &second]);
    while client.write_with_key().await.is_ok() {}
    until("the first is left", || world.count("connections") == 0).await;
    let seen = first.state.calls();
    assert!(client.write_with_key().await.is_err());
    assert_eq!((first.state.calls(), second.state.calls()), (seen, 0));
    client.names.now(&[&second]);
    while client.write_with_key().await.is_err() {}
    assert_eq!((first.state.calls(), second.state.calls()), (seen, 1));
}

#[tokio::test]
async fn servers_are_drained_one_after_the_other() {
    let world = World::new();
    let (first, second) = (world.replica().await, world.replica().await);
    let client = world.client(settings(), &[&first, &second]);
    let load = writes(&client);
    load.goes_on_for(200).await;
    let third = world.replica().await;
    client.names.now(&[&first, &second, &third]);
    until("the third is found", || third.state.calls() > 50).await;
    first.stop().await;
    load.goes_on_for(200).await;
    second.stop().await;
    load.goes_on_for(200).await;
    load.must_have_succeeded().await;
}

#[tokio::test]
async fn an_upstream_that_nobody_uses_any_more_closes_its_connections() {
    let world = World::new();
    let replica = world.replica().await;
    let client = world.client(settings(), &[&replica]);
    client.read().await.unwrap();
    until("both are open", || world.count("connections") == 2).await;
    drop(client);
    until("they are closed", || world.count("connections") == 0).await;
}

#[tokio::test]
async fn connections_are_made_before_the_first_call_where_that_is_wanted() {
    let world = World::new();
    let replica = world.replica().await;
    let settings = mesh::UpstreamSettings { warm_up: true, connections_per_endpoint: 3, ..settings() };
    let parts: UpstreamParts = world.parts(settings);
    let client = World::client_with(parts, &[&replica]);
    assert_eq!(world.count("connections"), 0);
    client.upstream.warm_up();
    until("all are open", || world.count("connections") == 3).await;
    assert_eq!(replica.state.calls(), 0);
}
