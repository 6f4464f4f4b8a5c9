//! The limits as the gateway asks them, without Redis.

use std::{num::NonZeroU32, time::Duration};

use super::*;

fn quota(requests: u32, window_s: u32) -> QuotaConfig {
    QuotaConfig { requests: NonZeroU32::new(requests).unwrap(), window_s: NonZeroU32::new(window_s).unwrap() }
}

fn limiter(config: &LimitsConfig) -> Limiter {
    Limiter::new(config, &Metrics::new("edge-gateway")).unwrap()
}

fn principal(tenant: &str, credential: &str) -> Principal {
    Principal::unscoped(tenant, credential)
}

async fn ask(limiter: &Limiter, who: &Principal, now: Instant) -> Result<(), (Reason, Option<u32>)> {
    let asked = limiter.principal(who, now, &Notes::default()).await;
    asked.map_err(|fault| (fault.reason(), fault.retry_after()))
}

#[tokio::test]
async fn each_credential_and_each_tenant_has_its_bucket() {
    let config = LimitsConfig {
        tenant: Some(quota(3, 30)),
        credential: Some(quota(2, 20)),
        ..LimitsConfig::default()
    };
    let limiter = limiter(&config);
    let now = Instant::now();
    let (first, second) = (principal("acme", "first"), principal("acme", "second"));
    assert_eq!(ask(&limiter, &first, now).await, Ok(()));
    assert_eq!(ask(&limiter, &first, now).await, Ok(()));
    let limited = Err((Reason::RateLimited, Some(10)));
    assert_eq!(ask(&limiter, &first, now).await, limited, "the credential has had its two");
    assert_eq!(ask(&limiter, &second, now).await, Ok(()), "what was refused did not count for the tenant");
    assert_eq!(ask(&limiter, &second, now).await, limited, "the tenant has had its three");
    assert_eq!(ask(&limiter, &principal("globex", "first"), now).await, Ok(()));
    assert_eq!(ask(&limiter, &second, now + Duration::from_secs(10)).await, Ok(()));
}

/// Keys of `paymesh keys` are called by name and id; a limit is found by either, by the id first.
#[tokio::test]
async fn a_key_of_the_file_is_limited_by_its_name_or_its_id() {
    let own = config::TenantLimits {
        credentials: [("bulk".to_owned(), quota(2, 60)), ("0011223344556677".to_owned(), quota(3, 60))]
            .into(),
        ..config::TenantLimits::default()
    };
    let limiter = limiter(&LimitsConfig {
        credential: Some(quota(1, 60)),
        tenants: [("acme".to_owned(), own)].into(),
        ..LimitsConfig::default()
    });
    let now = Instant::now();
    for (credential, requests) in [
        ("bulk", 2),
        ("bulk (aaaaaaaaaaaaaaaa)", 2),
        ("bulk (0011223344556677)", 3),
        ("app (0011223344556677)", 3),
        ("app (bulk)", 2),
        ("bulky (aaaaaaaaaaaaaaaa)", 1),
        ("bulk)", 1),
    ] {
        let principal = principal("acme", credential);
        let mut taken = 0;
        while ask(&limiter, &principal, now).await.is_ok() {
            taken += 1;
        }
        assert_eq!(taken, requests, "{credential}");
    }
}

#[tokio::test]
async fn a_tenant_and_a_credential_may_have_limits_of_their_own() {
    let own = config::TenantLimits {
        quota: Some(quota(5, 5)),
        in_flight_max: Some(1),
        streams_max: Some(1),
        credentials: [("bulk".to_owned(), quota(4, 4))].into(),
    };
    let config = LimitsConfig {
        credential: Some(quota(1, 60)),
        tenants: [("acme".to_owned(), own)].into(),
        ..LimitsConfig::default()
    };
    let limiter = limiter(&config);
    let now = Instant::now();
    let bulk = principal("acme", "bulk");
    for _ in 0..4 {
        assert_eq!(ask(&limiter, &bulk, now).await, Ok(()));
    }
    assert_eq!(ask(&limiter, &bulk, now).await, Err((Reason::RateLimited, Some(1))));
    let notes = Notes::default();
    assert!(limiter.principal(&principal("acme", "other"), now, &notes).await.is_ok());
    assert_eq!(
        ask(&limiter, &principal("acme", "third"), now).await,
        Err((Reason::Overloaded, Some(1))),
        "the tenant's only place is taken"
    );
    drop(notes);
    let tenant = principal("acme", "any").tenant;
    let stream = limiter.stream(&tenant).ok();
    assert_eq!(limiter.stream(&tenant).err().unwrap().reason(), Reason::Overloaded);
    drop(stream);
    assert!(limiter.stream(&tenant).is_ok());
    assert!(
        limiter
            .principal(&principal("acme", "third"), now, &Notes::default())
            .await
            .is_err_and(|fault| fault.reason() == Reason::RateLimited),
        "the place is free again, the tenant's five are used"
    );
}

#[test]
fn addresses_are_limited_before_anything_is_known() {
    let limiter = limiter(&LimitsConfig { address: Some(quota(1, 2)), ..LimitsConfig::default() });
    let (now, notes) = (Instant::now(), Notes::default());
    let ask = |address: &str, now| limiter.address(address.parse().unwrap(), now, &notes);
    assert!(ask("2001:db8::1", now).is_ok());
    assert_eq!(ask("2001:db8::2", now).unwrap_err().retry_after(), Some(2), "the same /64");
    assert!(ask("2001:db8:0:1::1", now).is_ok());
    assert!(ask("2001:db8::1", now + Duration::from_secs(2)).is_ok());
    let mut headers = HeaderMap::new();
    notes.write(&mut headers);
    assert_eq!(headers["ratelimit"], r#""address";r=0;t=2"#);
}

#[test]
fn mistakes_are_named() {
    let tenants = [("Acme!".to_owned(), config::TenantLimits::default())].into();
    for (config, named) in [
        (LimitsConfig { tenants, ..LimitsConfig::default() }, "limits.tenants"),
        (
            LimitsConfig { trusted_proxies: vec!["ten".to_owned()], ..LimitsConfig::default() },
            "limits.trusted_proxies",
        ),
    ] {
        let error = Limiter::new(&config, &Metrics::new("edge-gateway")).err().unwrap().to_string();
        assert!(error.contains(named), "{error}");
    }
    assert!(serde_json::from_str::<LimitsConfig>(r#"{"tenant":{"requests":0,"window_s":1}}"#).is_err());
    assert!(serde_json::from_str::<LimitsConfig>(r#"{"tenat":{}}"#).is_err());
}
