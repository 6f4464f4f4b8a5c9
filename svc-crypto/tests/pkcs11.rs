//! A PKCS#11 token as root of trust, held against SoftHSM (`cargo xtask servers`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{fs, path::PathBuf};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::Attribute,
    session::UserType,
    slot::Slot,
    types::AuthPin,
};
use svc_crypto::{
    domain::{rooted, secret::KeyBytes},
    root::{Failure, Pkcs11Config, Pkcs11Root, RootOfTrust as _},
};

const PIN: &str = "4711-user";
const LABEL: &str = "paymesh test";
const CONTEXT: &[u8] = b"the place of the key";

/// The module that the configuration of the test run names.
fn module() -> PathBuf {
    let file =
        std::env::var("SOFTHSM2_CONF").expect("run by `cargo xtask test`, or `cargo xtask servers -- …`");
    let settings = fs::read_to_string(file).unwrap();
    settings.lines().find_map(|line| line.strip_prefix("# module = ")).expect("the module is named").into()
}

fn key(byte: u8) -> KeyBytes {
    KeyBytes::take(&mut [byte; 32])
}

/// An AES key of this label and id in the token, as it should be but for one attribute.
fn generate(session: &cryptoki::session::Session, label: &str, id: u8, but: Option<Attribute>) {
    let mut template = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(vec![id]),
    ];
    if let Some(attribute) = but {
        let kind = attribute.attribute_type();
        *template.iter_mut().find(|own| own.attribute_type() == kind).unwrap() = attribute;
    }
    session.generate_key(&Mechanism::AesKeyGen, &template).unwrap();
}

/// One test, as a module is one per process, and is finalized in it.
#[tokio::test]
async fn a_token_wraps_and_survives_what_happens_to_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let pin_file = dir.path().join("pin");
    fs::write(&pin_file, format!("{PIN}\n")).unwrap();
    let pkcs11 = Pkcs11::new(module()).unwrap();
    let initialize = || pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    initialize();
    let slot = *pkcs11.get_slots_with_token().unwrap().last().unwrap();
    let so = AuthPin::new("so-pin".into());
    pkcs11.init_token(slot, &so, LABEL).unwrap();
    {
        let session = pkcs11.open_rw_session(slot).unwrap();
        session.login(UserType::So, Some(&so)).unwrap();
        session.init_pin(&AuthPin::new(PIN.into())).unwrap();
        session.logout().unwrap();
        session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
        generate(&session, "root", 1, None);
        generate(&session, "loose", 1, Some(Attribute::Extractable(true)));
        generate(&session, "open", 1, Some(Attribute::Sensitive(false)));
        generate(&session, "short", 1, Some(Attribute::ValueLen(16.into())));
    }
    let config = || Pkcs11Config {
        module: module(),
        token_label: LABEL.into(),
        key_label: "root".into(),
        key_id: None,
        name: None,
        pin_file: pin_file.clone(),
    };
    let open = |config: &Pkcs11Config| Pkcs11Root::new("root.pkcs11", config).unwrap();

    // It wraps, and unwraps in the place that it wrapped for.
    let root = open(&config());
    let wrapped = root.wrap(CONTEXT, &key(7)).await.unwrap();
    let (stamp, body) = rooted::read(&wrapped).unwrap();
    assert_eq!((stamp.root.as_str(), &*stamp.version), ("pkcs11:paymesh%20test/root", "01"));
    assert_eq!(body.len(), 12 + 32 + 16);
    assert_eq!(root.unwrap(CONTEXT, &wrapped).await.unwrap().expose(), key(7).expose());
    assert_ne!(root.wrap(CONTEXT, &key(7)).await.unwrap(), wrapped, "each has a nonce of its own");
    assert_eq!(root.unwrap(b"another place", &wrapped).await.unwrap_err(), Failure::Tampered);
    for at in wrapped.len() - body.len()..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[at] ^= 1;
        assert_eq!(root.unwrap(CONTEXT, &changed).await.unwrap_err(), Failure::Tampered, "byte {at}");
    }
    for length in [1, 11, 12, 27] {
        let cut = rooted::encode(&stamp, &body[..length]);
        assert_eq!(root.unwrap(CONTEXT, &cut).await.unwrap_err(), Failure::Tampered, "{length} bytes");
    }

    // Calls at once are done one after the other.
    let root = std::sync::Arc::new(root);
    let calls = (0..32).map(|n| {
        let root = std::sync::Arc::clone(&root);
        tokio::spawn(async move {
            let wrapped = root.wrap(CONTEXT, &key(n)).await.unwrap();
            assert_eq!(root.unwrap(CONTEXT, &wrapped).await.unwrap().expose(), key(n).expose());
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }

    // A session that is lost is opened again: here the whole module is put back to its beginning.
    for _ in 0..3 {
        pkcs11.clone().finalize().unwrap();
        assert_eq!(root.unwrap(CONTEXT, &wrapped).await.unwrap().expose(), key(7).expose());
    }

    // Another key of the same label: it must be said which wraps, and both unwrap.
    {
        // SoftHSM numbers its slots anew.
        let has_label = |slot: &Slot| pkcs11.get_token_info(*slot).unwrap().label() == LABEL;
        let slots = pkcs11.get_slots_with_initialized_token().unwrap();
        let session = pkcs11.open_rw_session(slots.into_iter().find(has_label).unwrap()).unwrap();
        // The root's own session has logged the user in, for all sessions of the process.
        generate(&session, "root", 2, None);
    }
    let refused = root.wrap(CONTEXT, &key(7)).await.unwrap_err();
    assert!(matches!(&refused, Failure::Refused(why) if why.contains("key_id")), "{refused}");
    let next = open(&Pkcs11Config { key_id: Some("02".into()), ..config() });
    let anew = next.wrap(CONTEXT, &key(7)).await.unwrap();
    assert_eq!(rooted::read(&anew).unwrap().0.version, "02");
    for wrapped in [&wrapped, &anew] {
        assert_eq!(next.unwrap(CONTEXT, wrapped).await.unwrap().expose(), key(7).expose());
    }

    // What is not as it should be is said, and wraps nothing.
    for (config, expected) in [
        (Pkcs11Config { key_label: "none".into(), ..config() }, "no AES key"),
        (Pkcs11Config { key_label: "loose".into(), ..config() }, "extractable"),
        (Pkcs11Config { key_label: "open".into(), ..config() }, "not sensitive"),
        (Pkcs11Config { key_label: "short".into(), ..config() }, "256 bits"),
    ] {
        let refused = open(&config).wrap(CONTEXT, &key(7)).await.unwrap_err();
        assert!(matches!(&refused, Failure::Refused(why) if why.contains(expected)), "{refused}");
    }
    let absent = open(&Pkcs11Config { token_label: "none".into(), ..config() });
    assert!(matches!(absent.wrap(CONTEXT, &key(7)).await, Err(Failure::Unreachable(_))));

    // A wrong PIN is tried once: the token counts. Another one in the file is tried again.
    pkcs11.clone().finalize().unwrap();
    fs::write(&pin_file, "wrong").unwrap();
    let root = open(&Pkcs11Config { key_id: Some("01".into()), ..config() });
    let refused = root.unwrap(CONTEXT, &wrapped).await.unwrap_err();
    assert!(matches!(&refused, Failure::Refused(why) if why.contains("PinIncorrect")), "{refused}");
    for _ in 0..20 {
        let refused = root.unwrap(CONTEXT, &wrapped).await.unwrap_err();
        assert!(matches!(&refused, Failure::Refused(why) if why.contains("not tried again")), "{refused}");
    }
    fs::write(&pin_file, PIN).unwrap();
    assert_eq!(root.unwrap(CONTEXT, &wrapped).await.unwrap().expose(), key(7).expose());
}
