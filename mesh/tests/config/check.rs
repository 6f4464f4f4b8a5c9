//! `config check`: files, upstreams, addresses, and what a service itself refuses.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::services::{NEEDED, tree};

/// A configuration of both services whose files are in `dir`.
fn whole(dir: &Path) -> String {
    for name in ["ca.pem", "one.pem", "two.pem", "one.key", "two.key"] {
        let path = dir.join(name);
        fs::write(&path, "x").unwrap();
        let mode = if name.ends_with("key") { 0o600 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let two = NEEDED.replace("one", "two").replace("7001", "7002").replace("9001", "9002");
    let at = |name: &str| format!("\"{}", dir.join(name).display());
    format!("[mesh.settings.upstreams]\nsvc-two = \"127.0.0.1:7002\"\n{NEEDED}{two}")
        .replace("\"ca.pem", &at("ca.pem"))
        .replace("\"one.", &at("one."))
        .replace("\"two.", &at("two."))
}

fn check(text: &str) -> Result<usize, String> {
    let loaded = tree().load_text("f", text).map_err(|error| error.to_string())?;
    let services = loaded.named();
    loaded.check(&services).map(|all| all.len()).map_err(|error| error.to_string())
}

#[test]
fn a_whole_configuration_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(check(&whole(dir.path())), Ok(2));
}

#[test]
fn files_are_there_and_secrets_are_not_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let text = whole(dir.path());
    let key = dir.path().join("one.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(dir.path().join("two.pem")).unwrap();
    let said = check(&text).unwrap_err();
    assert!(said.contains("svc-one.identity.key") && said.contains("open to everybody"), "{said}");
    assert!(said.contains("svc-two.identity.cert") && said.contains("cannot be read"), "{said}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let pepper = text.replace("[svc-one]", "[svc-one]\npepper_file = \"/nonexistent/pepper\"");
    assert!(check(&pepper).unwrap_err().contains("f:5:1: svc-one.pepper_file: /nonexistent/pepper"));
    let people = text.replace("[svc-one]", "[svc-one]\npeople = [{ name = \"a\", key_file = \"/\" }]");
    assert!(check(&people).unwrap_err().contains("svc-one.people.0.key_file: / is not a file"));
}

#[test]
fn with_linkerd_it_is_linkerds_settings_that_must_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let without: String = whole(dir.path()).lines().fold(String::new(), |text, line| {
        // The proxy has the certificates.
        if line.contains(".pem") || line.contains(".key") { text } else { text + line + "\n" }
    });
    let linkerd = |more: &str| {
        let text = format!("{without}\n[mesh.linkerd]\ngrpc_server_resource = true\n{more}\n");
        text.replacen("[mesh.settings", "[mesh]\ntls = \"linkerd\"\n[mesh.settings", 1)
    };
    assert_eq!(check(&linkerd("")), Ok(2));
    for (more, told) in [
        ("trust_domain = \"A\"", "svc-one.linkerd.trust_domain: must be a DNS name"),
        ("control_plane_namespace = \"\"", "svc-one.linkerd.control_plane_namespace: must be a DNS name"),
        ("proxy_admin = \"10.0.0.7:4191\"", "svc-one.linkerd.proxy_admin: must be a loopback address"),
        ("[mesh.identity]\nnamespace = \"A\"", "svc-one.identity: namespace must be"),
        ("[mesh.identity]\ncert = \"/dev/null\"", "svc-one.identity: with mesh.tls = \"linkerd\" leave out"),
    ] {
        let said = check(&linkerd(more)).unwrap_err();
        assert!(said.contains(told), "{told}\n{said}");
    }
    let unsaid = linkerd("").replace("grpc_server_resource = true", "");
    let said = check(&unsaid).unwrap_err();
    assert!(said.contains("svc-one.linkerd.grpc_server_resource: must be true"), "{said}");
    // And without it the certificates are missed.
    assert!(check(&without).unwrap_err().contains("svc-one.identity: identity: give either"));
}

#[test]
fn a_policy_file_is_read_as_a_service_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    let right = "[[grant]]\nworkload = \"svc-one\"\nrpcs = [\"grpc.health.v1.Health/*\"]\n";
    for setting in ["file", "dry_run_file"] {
        let named = format!("\n[mesh.settings.policy]\n{setting} = \"{}\"\n", policy.display());
        let text = whole(dir.path()) + &named;
        let path = format!("svc-one.settings.policy.{setting}: ");
        fs::write(&policy, right).unwrap();
        assert_eq!(check(&text), Ok(2));
        fs::write(&policy, right.replace("Health/", "Helth/")).unwrap();
        let said = check(&text).unwrap_err();
        assert!(said.contains(&path) && said.contains("grant[0].rpcs[0]"), "{said}");
        fs::remove_file(&policy).unwrap();
        let said = check(&text).unwrap_err();
        assert!(said.contains(&path) && said.contains("cannot be read"), "{said}");
        assert_eq!(said.matches(&path).count(), 1, "{said}");
    }
}

#[test]
fn two_of_the_same_address_are_refused_unless_each_has_a_host_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let text = whole(dir.path());
    let said = check(&text.replace("7002", "7001")).unwrap_err();
    assert!(said.contains("svc-two.rpc_listen: 127.0.0.1:7001 is also that of svc-one.rpc_listen"), "{said}");
    let said = check(&text.replace("127.0.0.1:9001", "0.0.0.0:7001")).unwrap_err();
    assert!(said.contains("svc-one.rpc_listen"), "{said}");
    assert!(check(&text.replace("127.0.0.1:9001", "127.0.0.2:7001")).is_ok());
    // One pod each.
    let common: String = text.lines().filter(|line| !line.contains("_listen")).fold(
        "[mesh]\nrpc_listen = \"0.0.0.0:7001\"\nadmin_listen = \"0.0.0.0:9001\"\n".to_owned(),
        |text, line| text + line + "\n",
    );
    assert_eq!(check(&common), Ok(2));
}

#[test]
fn upstreams_are_named_rightly_and_all_that_are_needed() {
    let dir = tempfile::tempdir().unwrap();
    let text = whole(dir.path());
    for (right, wrong, told) in [
        ("svc-two = ", "svc-tow = ", "svc-one.settings.upstreams.svc-tow: unknown; did you mean svc-two?"),
        ("svc-two = ", "svc-one = ", "svc-one.settings.upstreams.svc-two: must be given"),
        ("\"127.0.0.1:7002\"\n\n", "\"127.0.0.1\"\n\n", "svc-two: must be host:port"),
    ] {
        let wrong = text.replacen(right, wrong, 1);
        assert_ne!(wrong, text);
        let said = check(&wrong).unwrap_err();
        assert!(said.contains(told), "{told}\n{said}");
    }
}

#[test]
fn what_the_service_and_the_log_refuse_is_refused_before_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let text = whole(dir.path());
    let said = check(&text.replace("[svc-one]", "[svc-one]\nlabel = \"forbidden\"")).unwrap_err();
    assert!(said.contains("svc-one: label must be another one"), "{said}");
    let said = check(&format!("{text}\n[mesh.telemetry]\nlog = \"mesh=loud\"\n")).unwrap_err();
    assert!(said.contains("telemetry.log"), "{said}");
    let loaded = tree().load_text("f", &text).unwrap();
    assert!(loaded.check(&["svc-tow"]).unwrap_err().to_string().contains("did you mean svc-two?"));
}
