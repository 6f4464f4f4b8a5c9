//! Scopes: for every RPC of the contract that can be reached from outside.

use edge_gateway::auth::scope;
use http::{Method, StatusCode};

use super::*;

/// Method, path and scope of every annotated RPC, from the descriptors.
fn operations() -> Vec<(Method, String, String)> {
    let pool = paymesh_proto::descriptor_pool();
    let http = pool.get_extension_by_name("google.api.http").unwrap();
    let scope = pool.get_extension_by_name("paymesh.options.v1.scope").unwrap();
    let public = pool.get_extension_by_name("paymesh.options.v1.public").unwrap();
    let mut operations = Vec::new();
    for rpc in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let options = rpc.options();
        let is_public = options.get_extension(&public).as_bool() == Some(true);
        if !options.has_extension(&http) || is_public {
            continue;
        }
        let rule = options.get_extension(&http);
        let rule = rule.as_message().unwrap();
        let (field, template) = ["get", "put", "post", "delete", "patch"]
            .into_iter()
            .find(|name| rule.has_field_by_name(name))
            .map(|name| (name, rule.get_field_by_name(name).unwrap().as_str().unwrap().to_owned()))
            .unwrap();
        let path: Vec<&str> =
            template.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        let method = field.to_ascii_uppercase().parse().unwrap();
        let needed = options.get_extension(&scope).as_str().unwrap().to_owned();
        operations.push((method, path.join("/"), needed));
    }
    operations
}

#[tokio::test]
async fn every_rpc_is_refused_without_its_scope_and_only_then() {
    let operations = operations();
    assert!(operations.len() >= 15);
    let known = scope::known();
    let mut world = World::new();
    let keys: Vec<_> = operations
        .iter()
        .map(|(_, _, needed)| {
            let others: Vec<&str> =
                known.iter().map(scope::Scope::as_str).filter(|own| own != needed).collect();
            let area = format!("{}:*", needed.split_once(':').unwrap().0);
            (world.create(&others, |_| {}), world.create(&[needed], |_| {}), world.create(&[&area], |_| {}))
        })
        .collect();
    let edge = world.edge(|_| {}).await;
    for ((method, path, needed), (without, with, area)) in operations.iter().zip(&keys) {
        let ask = |key: &FreshKey| {
            let request = edge.request(method.clone(), path).header("idempotency-key", "k");
            request.header("authorization", &format!("Bearer {}", &*key.key)).send()
        };
        let reply = ask(without).await;
        assert_eq!((reply.status, code(&reply)), (StatusCode::FORBIDDEN, "SCOPE_MISSING".into()), "{path}");
        assert!(detail(&reply).contains(needed.as_str()), "{}", reply.text());
        let challenge = format!("Bearer realm=\"paymesh\", error=\"insufficient_scope\", scope=\"{needed}\"");
        assert_eq!(reply.header("www-authenticate"), Some(challenge.as_str()));
        for key in [with, area] {
            let status = ask(key).await.status;
            assert!(
                !matches!(status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED),
                "{method} {path} with {:?}: {status}",
                key.record.scopes
            );
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn who_may_do_little_is_told_which_paths_there_are_and_who_may_do_nothing_is_not() {
    let mut world = World::new();
    let fresh = world.create(&["tax:read"], |_| {});
    let edge = world.edge(|_| {}).await;
    let ask = |credential: &str| {
        let request = edge.request(Method::GET, "/v1/nothing");
        request.header("authorization", &format!("Bearer {credential}")).send()
    };
    assert_eq!(ask(&fresh.key).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ask("wrong").await.status, StatusCode::UNAUTHORIZED);
    edge.stop().await;
}
