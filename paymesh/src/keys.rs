//! `paymesh keys`: makes, lists, rotates and revokes API keys in a file that the edge reads.
//!
//! A key is printed once, to standard output, when it is made; nothing that is written down can be turned back
//! into one. The file is locked while it is changed, and replaced as a whole.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use edge_gateway::auth::{
    SignatureAlgorithm,
    keys::{FreshKey, KeyFile, KeyFileError, KeyRecord, NewKey, Pepper, SignatureRecord, Time},
    scope::{self, Scope},
};
use mesh::{Clock as _, SystemClock, pki::write_file};
use money::Timestamp;
use serde_json::{Value, json};

use self::args::{CreateArgs, Files, KeysArgs, KeysCommand, Output, When};

pub mod args;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The key file or what was asked of it.
    #[error("{path}: {source}")]
    File {
        /// The key file.
        path: String,
        /// What is wrong.
        source: KeyFileError,
    },
    /// A file could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// What was asked cannot be.
    #[error("{0}")]
    Refused(String),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> KeysError {
    let what = what.into();
    move |source| KeysError::Io { what, source }
}

/// Does what was asked and writes the answer to `out`.
pub fn run(args: &KeysArgs, out: &mut impl Write) -> Result<(), KeysError> {
    let now = SystemClock.now();
    let (files, output) = (&args.files, args.output);
    match &args.command {
        KeysCommand::Create(create) => {
            let new = new_key(create, now)?;
            let fresh = change(files, true, |file, pepper| file.create(new, pepper, now))?;
            print_fresh(&fresh, now, output, out)
        }
        KeysCommand::Rotate(rotate) => {
            let overlap_s = rotate.overlap.seconds();
            let fresh = change(files, false, |file, pepper| file.rotate(&rotate.id, overlap_s, pepper, now))?;
            print_fresh(&fresh, now, output, out)
        }
        KeysCommand::Revoke(key) => {
            let record = change(files, false, |file, _| file.revoke(&key.id, now).cloned())?;
            print_one(&record, now, output, out)
        }
        KeysCommand::Show(key) => {
            let file = read(&files.keys_file)?;
            print_one(file.get(&key.id).map_err(of_file(&files.keys_file))?, now, output, out)
        }
        KeysCommand::List(list) => {
            let file = read(&files.keys_file)?;
            let keys =
                file.keys().iter().filter(|key| list.tenant.as_ref().is_none_or(|own| *own == key.tenant));
            print_list(&keys.collect::<Vec<_>>(), now, output, out)
        }
        KeysCommand::Scopes => print_scopes(output, out),
    }
}

fn of_file(path: &Path) -> impl FnOnce(KeyFileError) -> KeysError {
    let path = path.display().to_string();
    move |source| KeysError::File { path, source }
}

fn new_key(args: &CreateArgs, now: Timestamp) -> Result<NewKey, KeysError> {
    let known = scope::known();
    for scope in &args.scopes {
        if !known.iter().any(|known| scope.includes(known)) {
            let known: Vec<&str> = known.iter().map(Scope::as_str).collect();
            let message =
                format!("there is no scope {scope}; there are {}, and patterns of them", known.join(", "));
            return Err(KeysError::Refused(message));
        }
    }
    let public_key = match &args.signature_key {
        Some(path) => Some(fs::read_to_string(path).map_err(io_error(path.display().to_string()))?),
        None => None,
    };
    Ok(NewKey {
        tenant: args.tenant.clone(),
        name: args.name.clone(),
        scopes: args.scopes.clone(),
        not_before: args.not_before.map(|when| when.at(now)),
        expires: args.expires.map(|when| when.at(now)),
        signature: args.require_signature.map(|algorithm| SignatureRecord { algorithm, public_key }),
    })
}

fn read(path: &Path) -> Result<KeyFile, KeysError> {
    let text = fs::read_to_string(path).map_err(io_error(path.display().to_string()))?;
    KeyFile::parse(&text).map_err(of_file(path))
}

/// Reads the file, changes it and replaces it, while no other command does. The file is made where `make` allows it and
/// it is not there, and then the pepper, too, unless there is one.
fn change<T>(
    files: &Files,
    make: bool,
    change: impl FnOnce(&mut KeyFile, &Pepper) -> Result<T, KeyFileError>,
) -> Result<T, KeysError> {
    let (path, pepper) = (&files.keys_file, files.pepper());
    if make && let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(io_error(directory.display().to_string()))?;
    }
    let lock_path = with_suffix(path, ".lock");
    let mut open = fs::OpenOptions::new();
    let lock = open.create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
    let lock = lock.map_err(io_error(lock_path.display().to_string()))?;
    lock.lock().map_err(io_error(lock_path.display().to_string()))?;
    if make && !path.exists() {
        // A pepper without a file is one whose making was cut short.
        if !pepper.exists() {
            let text =
                Pepper::fresh().map_err(|_| KeysError::Refused("the system gave no randomness".into()))?;
            write(&pepper, &text)?;
        }
        write(path, &KeyFile::default().to_text().map_err(of_file(path))?)?;
    }
    let key = Pepper::load(&pepper).map_err(|message| {
        KeysError::Refused(format!(
            "{message}; the keys are hashed under it, so it must be the one that the edge has"
        ))
    })?;
    let mut file = read(path)?;
    let answer = change(&mut file, &key).map_err(of_file(path))?;
    write(path, &file.to_text().map_err(of_file(path))?)?;
    Ok(answer)
}

fn write(path: &Path, text: &str) -> Result<(), KeysError> {
    write_file(path, text, 0o600).map_err(|error| KeysError::Refused(error.to_string()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl When {
    fn at(self, now: Timestamp) -> Time {
        match self {
            Self::At(time) => time,
            Self::In(span) => Time::of(now).plus_seconds(span.seconds()),
        }
    }
}

fn described(record: &KeyRecord, now: Timestamp) -> Value {
    let time = |time: Option<Time>| time.map(|time| time.to_string());
    json!({
        "id": record.id,
        "tenant": record.tenant,
        "name": record.name,
        "state": record.state(now),
        "scopes": record.scopes,
        "created": record.created,
        "not_before": time(record.not_before),
        "expires": time(record.expires),
        "revoked": time(record.revoked),
        "rotated": time(record.rotated),
        "previous_secret_valid_until": time(record.overlap_until(now)),
        "signature": record.signature.as_ref().map(|rule| rule.algorithm.as_str()),
    })
}

fn print_json(value: &Value, out: &mut impl Write) -> Result<(), KeysError> {
    writeln!(out, "{value:#}").map_err(io_error("standard output"))
}

/// The one time that a key is shown.
fn print_fresh(
    fresh: &FreshKey,
    now: Timestamp,
    output: Output,
    out: &mut impl Write,
) -> Result<(), KeysError> {
    if output.json {
        let mut value = described(&fresh.record, now);
        value["key"] = fresh.key.as_str().into();
        if let Some(secret) = &fresh.signing_secret {
            value["signing_secret"] = secret.as_str().into();
        }
        return print_json(&value, out);
    }
    let print = |out: &mut dyn Write| -> io::Result<()> {
        writeln!(out, "key             {}", &*fresh.key)?;
        if let Some(secret) = &fresh.signing_secret {
            writeln!(out, "signing secret  {}   (base64, for hmac-sha256)", secret.as_str())?;
        }
        writeln!(out, "Keep it now: it is not shown again.\n")
    };
    print(out).map_err(io_error("standard output"))?;
    print_one(&fresh.record, now, output, out)
}

fn print_one(
    record: &KeyRecord,
    now: Timestamp,
    output: Output,
    out: &mut impl Write,
) -> Result<(), KeysError> {
    let value = described(record, now);
    if output.json {
        return print_json(&value, out);
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            other => other.to_string(),
        };
        writeln!(out, "{:<28}{text}", name.replace('_', " ")).map_err(io_error("standard output"))?;
    }
    Ok(())
}

fn print_list(
    keys: &[&KeyRecord],
    now: Timestamp,
    output: Output,
    out: &mut impl Write,
) -> Result<(), KeysError> {
    if output.json {
        let list: Vec<Value> = keys.iter().map(|key| described(key, now)).collect();
        return print_json(&list.into(), out);
    }
    let print = |out: &mut dyn Write| -> io::Result<()> {
        writeln!(out, "{:<18}{:<16}{:<15}{:<22}{:<22}SCOPES", "ID", "TENANT", "STATE", "EXPIRES", "NAME")?;
        for key in keys {
            let state = serde_json::to_value(key.state(now)).unwrap_or_default();
            let expires = key.expires.map_or_else(|| "never".to_owned(), |time| time.to_string());
            let scopes: Vec<&str> = key.scopes.iter().map(Scope::as_str).collect();
            let (id, tenant, state) = (&key.id, key.tenant.as_str(), state.as_str().unwrap_or_default());
            writeln!(
                out,
                "{id:<18}{tenant:<16}{state:<15}{expires:<22}{:<22}{}",
                key.name,
                scopes.join(" ")
            )?;
        }
        Ok(())
    };
    print(out).map_err(io_error("standard output"))
}

fn print_scopes(output: Output, out: &mut impl Write) -> Result<(), KeysError> {
    let known = scope::known();
    if output.json {
        return print_json(&json!(known), out);
    }
    known.iter().try_for_each(|scope| writeln!(out, "{scope}")).map_err(io_error("standard output"))
}

/// For `--require-signature`.
fn parse_algorithm(text: &str) -> Result<SignatureAlgorithm, String> {
    use SignatureAlgorithm::{EcdsaP256Sha256, Ed25519, HmacSha256};
    let all = [HmacSha256, Ed25519, EcdsaP256Sha256];
    let found = all.into_iter().find(|algorithm| algorithm.as_str() == text);
    found.ok_or_else(|| format!("must be {}", all.map(SignatureAlgorithm::as_str).join(", ")))
}
