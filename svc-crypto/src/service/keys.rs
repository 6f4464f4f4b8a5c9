//! KeyService: keys made, changed and ended.

use std::{sync::Arc, time::Duration};

use mesh::{Call, Fault, Reason, Watched, clock};
use money::{TenantId, Timestamp};
use paymesh_proto::crypto::v1::{self as proto, key_service_server::KeyService};
use tonic::{Request, Response, Status};

use crate::{
    audit::{Recorder, outcome_of},
    domain::{
        algorithm::{Algorithm, Use, Verb},
        audit::{Act, Entry, Subject},
        grant::Grants,
        key::{ChangeError, Key, State},
        keys::KeyName,
    },
    imports::{ImportFailed, Imports, Method},
    management::{ManageError, Management},
    operations::denied,
    store::{AuditLog, Store},
};

/// Keys of one page of a list, where none are asked for.
const PAGE_SIZE_DEFAULT: usize = 100;
/// The most.
const PAGE_SIZE_MAX: usize = 1_000;

/// Answers KeyService.
pub struct KeysHandler<S, L> {
    management: Arc<Management<S>>,
    imports: Imports<S>,
    grants: Watched<Grants>,
    log: L,
    recorder: Recorder,
}

impl<S: Store, L: AuditLog> KeysHandler<S, L> {
    /// Carries out what is asked with `management`, as `grants` allow. How much keys were used is told by `log`.
    /// Nothing is answered before `recorder` has it on record.
    pub fn new(
        management: Arc<Management<S>>,
        imports: Imports<S>,
        grants: Watched<Grants>,
        log: L,
        recorder: Recorder,
    ) -> Self {
        Self { management, imports, grants, log, recorder }
    }

    /// Whose key it is and which, if the caller may do this with it.
    fn granted(&self, call: &Call, name: &str, verb: Verb) -> Result<(TenantId, KeyName), Fault> {
        let tenant = call.tenant()?.clone();
        let name = KeyName::parse(name).map_err(|error| Fault::invalid("name", error.to_string()))?;
        if self.grants.current().allow(call.peer().name(), &tenant, &name, verb) {
            Ok((tenant, name))
        } else {
            Err(denied(call, &tenant, &name, verb))
        }
    }

    /// A change that needs no new version.
    async fn change<Q>(
        &self,
        request: &Request<Q>,
        name: &str,
        verb: Verb,
        change: impl Fn(&Key, Timestamp) -> Result<Key, ChangeError>,
    ) -> Result<Response<proto::Key>, Status> {
        let call = Call::of(request)?;
        let done = match self.granted(&call, name, verb) {
            Ok((tenant, name)) => self.management.change(&tenant, &name, change).await.map_err(fault),
            Err(fault) => Err(fault),
        };
        self.answer(&call, name, verb, done).await
    }

    /// Gives the key, once it is on record what was done.
    async fn answer(
        &self,
        call: &Call,
        name: &str,
        verb: Verb,
        done: Result<Key, Fault>,
    ) -> Result<Response<proto::Key>, Status> {
        self.record(call, name, verb, &done).await?;
        Ok(Response::new(self.message(done?).await?))
    }

    async fn record<T>(
        &self,
        call: &Call,
        name: &str,
        verb: Verb,
        done: &Result<T, Fault>,
    ) -> Result<(), Fault> {
        let act = Act {
            workload: call.peer().clone(),
            tenant: call.tenant().ok().cloned(),
            subject: KeyName::parse(name).map_or(Subject::None, Subject::Key),
            key: None,
            verb,
            outcome: outcome_of(done),
        };
        self.recorder.submit(Entry { act, count: 1, bytes: 0 }).await
    }

    async fn message(&self, key: Key) -> Result<proto::Key, Fault> {
        let usage = self.log.usage(key.id).await?;
        let mut message = message(key);
        for used in usage {
            let version = message.versions.iter_mut().find(|version| version.version == used.version);
            if let Some(version) = version {
                (version.messages, version.bytes) = (used.messages, used.bytes);
            }
        }
        Ok(message)
    }
}

#[tonic::async_trait]
impl<S: Store, L: AuditLog> KeyService for KeysHandler<S, L> {
    async fn create_key(
        &self,
        request: Request<proto::CreateKeyRequest>,
    ) -> Result<Response<proto::Key>, Status> {
        let (call, asked) = (Call::of(&request)?, request.get_ref());
        let done = async {
            let (tenant, name) = self.granted(&call, &asked.name, Verb::CreateKey)?;
            let period = duration("rotation_period", asked.rotation_period.as_ref())?;
            let algorithm = algorithm(asked.algorithm)?;
            self.management.create(&tenant, &name, algorithm, period).await.map_err(fault)
        };
        self.answer(&call, &asked.name, Verb::CreateKey, done.await).await
    }

    async fn get_key(&self, request: Request<proto::GetKeyRequest>) -> Result<Response<proto::Key>, Status> {
        let (call, asked) = (Call::of(&request)?, request.get_ref());
        let done = async {
            let (tenant, name) = self.granted(&call, &asked.name, Verb::ReadKey)?;
            self.management.get(&tenant, &name).await.map_err(fault)
        };
        self.answer(&call, &asked.name, Verb::ReadKey, done.await).await
    }

    async fn list_keys(
        &self,
        request: Request<proto::ListKeysRequest>,
    ) -> Result<Response<proto::ListKeysResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let asked = request.get_ref();
        let size = match usize::try_from(asked.page_size) {
            Ok(0) => PAGE_SIZE_DEFAULT,
            Ok(size) if size <= PAGE_SIZE_MAX => size,
            _ => {
                let told = format!("must be from 0 to {PAGE_SIZE_MAX}");
                return Err(Fault::invalid("page_size", told).into());
            }
        };
        let after = match asked.page_token.as_str() {
            "" => None,
            token => Some(KeyName::parse(token).map_err(|_| {
                Fault::invalid("page_token", "must be the next_page_token of an earlier answer")
            })?),
        };
        let mut keys = self.management.list(&tenant, after, size + 1).await.map_err(fault)?;
        let next_page_token = if keys.len() > size {
            keys.truncate(size);
            keys.last().map_or_else(String::new, |last| last.name.as_str().to_owned())
        } else {
            String::new()
        };
        let (grants, workload) = (self.grants.current(), call.peer().name());
        let mut shown = Vec::new();
        for key in keys.into_iter().filter(|key| grants.allow(workload, &tenant, &key.name, Verb::ReadKey)) {
            shown.push(self.message(key).await?);
        }
        self.record(&call, "", Verb::ReadKey, &Ok(())).await?;
        Ok(Response::new(proto::ListKeysResponse { keys: shown, next_page_token }))
    }

    async fn rotate_key(
        &self,
        request: Request<proto::RotateKeyRequest>,
    ) -> Result<Response<proto::Key>, Status> {
        let (call, asked) = (Call::of(&request)?, request.get_ref());
        let done = async {
            let (tenant, name) = self.granted(&call, &asked.name, Verb::RotateKey)?;
            let expected = Some(asked.expected_version).filter(|version| *version > 0);
            self.management.rotate(&tenant, &name, expected).await.map_err(fault)
        };
        self.answer(&call, &asked.name, Verb::RotateKey, done.await).await
    }

    async fn update_key(
        &self,
        request: Request<proto::UpdateKeyRequest>,
    ) -> Result<Response<proto::Key>, Status> {
        let asked = request.get_ref();
        let paths = asked.update_mask.as_ref().map_or(&[][..], |mask| &mask.paths);
        let known = |path: &String| matches!(path.as_str(), "min_decrypt_version" | "rotation_period");
        if paths.is_empty() || !paths.iter().all(known) {
            let told = "must name min_decrypt_version, rotation_period or both";
            return Err(Fault::invalid("update_mask", told).into());
        }
        let period = duration("rotation_period", asked.rotation_period.as_ref())?;
        let (min, named) = (asked.min_decrypt_version, |path: &str| paths.iter().any(|p| p == path));
        self.change(&request, &asked.name, Verb::UpdateKey, |key, _| {
            let mut next = key.clone();
            if named("min_decrypt_version") && min != key.min_decrypt_version {
                next = next.set_min_decrypt_version(min)?;
            }
            if named("rotation_period") && period != key.rotation_period {
                next = next.set_rotation_period(period)?;
            }
            // Both at once are one revision.
            next.revision = next.revision.min(key.revision + 1);
            Ok(next)
        })
        .await
    }

    async fn disable_key(
        &self,
        request: Request<proto::DisableKeyRequest>,
    ) -> Result<Response<proto::Key>, Status> {
        self.change(&request, &request.get_ref().name, Verb::DisableKey, |key, _| key.disable()).await
    }

    async fn enable_key(
        &self,
        request: Request<proto::EnableKeyRequest>,
    ) -> Result<Response<proto::Key>, Status> {
        self.change(&request, &request.get_ref().name, Verb::EnableKey, |key, _| key.enable()).await
    }

    async fn schedule_key_destruction(
        &self,
        request: Request<proto::ScheduleKeyDestructionRequest>,
    ) -> Result<Response<proto::Key>, Status> {
        let asked = request.get_ref();
        let waiting = duration("waiting_period", asked.waiting_period.as_ref())?;
        let verb = Verb::ScheduleKeyDestruction;
        self.change(&request, &asked.name, verb, |key, now| key.schedule_destruction(waiting, now)).await
    }

    async fn cancel_key_destruction(
        &self,
        request: Request<proto::CancelKeyDestructionRequest>,
    ) -> Result<Response<proto::Key>, Status> {
        let verb = Verb::CancelKeyDestruction;
        self.change(&request, &request.get_ref().name, verb, |key, _| key.cancel_destruction()).await
    }

    async fn get_import_parameters(
        &self,
        request: Request<proto::GetImportParametersRequest>,
    ) -> Result<Response<proto::ImportParameters>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let asked = request.get_ref().method;
        let method = method(asked)?;
        let begun = self.imports.begin(tenant, method).await.map_err(import_fault);
        self.record(&call, "", Verb::ImportKey, &begun).await?;
        let begun = begun?;
        Ok(Response::new(proto::ImportParameters {
            import_id: begun.id.to_string(),
            method: asked,
            public_key: begun.public_key.into(),
            expires_at: Some(clock::to_proto(begun.expires_at)),
        }))
    }

    async fn import_key(
        &self,
        request: Request<proto::ImportKeyRequest>,
    ) -> Result<Response<proto::Key>, Status> {
        let (call, asked) = (Call::of(&request)?, request.get_ref());
        let done = async {
            let (tenant, name) = self.granted(&call, &asked.name, Verb::ImportKey)?;
            let period = duration("rotation_period", asked.rotation_period.as_ref())?;
            let algorithm = algorithm(asked.algorithm)?;
            let id = asked.import_id.parse().map_err(|_| import_fault(ImportFailed::Unknown))?;
            let material = self.imports.end(&tenant, id, algorithm, &asked.wrapped).await;
            let material = material.map_err(import_fault)?;
            self.management.import(&tenant, &name, algorithm, period, &material).await.map_err(fault)
        };
        self.answer(&call, &asked.name, Verb::ImportKey, done.await).await
    }
}

fn algorithm(asked: i32) -> Result<Algorithm, Fault> {
    match proto::Algorithm::try_from(asked) {
        Ok(proto::Algorithm::Aes256Gcm) => Ok(Algorithm::Aes256Gcm),
        Ok(proto::Algorithm::Aes256Siv) => Ok(Algorithm::Aes256Siv),
        Ok(proto::Algorithm::HmacSha256) => Ok(Algorithm::HmacSha256),
        Ok(proto::Algorithm::Ed25519) => Ok(Algorithm::Ed25519),
        Ok(proto::Algorithm::EcdsaP256Sha256) => Ok(Algorithm::EcdsaP256Sha256),
        Ok(proto::Algorithm::Ff1Aes256) => Ok(Algorithm::Ff1Aes256),
        Ok(proto::Algorithm::Unspecified) | Err(_) => {
            Err(Fault::invalid("algorithm", "must be one of the algorithms that the contract names"))
        }
    }
}

fn method(asked: i32) -> Result<Method, Fault> {
    match proto::ImportMethod::try_from(asked) {
        Ok(proto::ImportMethod::RsaOaepAesKwp) => Ok(Method::Rsa),
        Ok(proto::ImportMethod::EcdhP256AesKwp) => Ok(Method::Ecdh),
        Ok(proto::ImportMethod::Unspecified) | Err(_) => {
            Err(Fault::invalid("method", "must be RSA_OAEP_AES_KWP or ECDH_P256_AES_KWP"))
        }
    }
}

fn duration(field: &str, asked: Option<&prost_types::Duration>) -> Result<Option<Duration>, Fault> {
    let whole = |asked: &prost_types::Duration| {
        let seconds = u64::try_from(asked.seconds).ok().filter(|_| asked.nanos == 0);
        seconds
            .map(Duration::from_secs)
            .ok_or_else(|| Fault::invalid(field, "must be whole seconds, 0 or more"))
    };
    // None and nothing are the same.
    Ok(asked.map(whole).transpose()?.filter(|asked| !asked.is_zero()))
}

fn fault(error: ManageError) -> Fault {
    match error {
        ManageError::NotFound => Fault::new(Reason::KeyNotFound, "There is no such key."),
        ManageError::Contended => Fault::new(Reason::Conflict, "Others change the key; try again."),
        ManageError::TooNew { retry_after_s } => Fault::new(
            Reason::Conflict,
            "The version is so new that another replica may still encrypt under an older one; try again later.",
        )
        .retry_after_s(retry_after_s),
        ManageError::Unknown | ManageError::NotOnRecord => Fault::new(
            Reason::OutcomeUnknown,
            "The store did not say what became of the change: read the key before trying again.",
        )
        .retry_after_s(1),
        ManageError::Key(error) => error.into(),
        ManageError::Change(error) => match &error {
            ChangeError::OtherAlgorithm | ChangeError::State(_) | ChangeError::NotExpected { .. } => {
                Fault::new(Reason::KeyStateConflict, sentence(&error))
            }
            ChangeError::Overtaken => Fault::new(Reason::Conflict, sentence(&error)),
            ChangeError::TooManyVersions => Fault::new(Reason::KeyStateConflict, sentence(&error)),
            ChangeError::Period { field, .. } => Fault::invalid(*field, error.to_string()),
            ChangeError::MinDecryptVersion { .. } => Fault::invalid("min_decrypt_version", error.to_string()),
        },
    }
}

fn sentence(error: &ChangeError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

fn import_fault(error: ImportFailed) -> Fault {
    match error {
        ImportFailed::Unknown => Fault::invalid(
            "import_id",
            "must be that of an import of this tenant which is not used or expired; one by ECDH_P256_AES_KWP ends at \
             the replica at which it began",
        ),
        ImportFailed::TooMany => {
            Fault::new(Reason::Overloaded, "Too many imports are under way.").retry_after_s(60)
        }
        ImportFailed::Wrapped => {
            Fault::invalid("wrapped", "must be wrapped for this import as docs/crypto-formats.md says")
        }
        ImportFailed::Material(fault) => fault,
        ImportFailed::Unmade => super::internal(),
        ImportFailed::Key(error) => error.into(),
    }
}

fn message(key: Key) -> proto::Key {
    use proto::key::{Purpose as P, State as S};
    let (state, destroy_at) = match key.state {
        State::Enabled => (S::Enabled, None),
        State::Disabled => (S::Disabled, None),
        State::PendingDestruction { at } => (S::PendingDestruction, Some(at)),
        State::Destroyed { at } => (S::Destroyed, Some(at)),
    };
    let purpose = match key.algorithm.usage() {
        Use::Encrypt => P::Encrypt,
        Use::Deterministic => P::Deterministic,
        Use::Mac => P::Mac,
        Use::Sign => P::Sign,
        Use::FormatPreserving => P::FormatPreserving,
    };
    let algorithm = match key.algorithm {
        Algorithm::Aes256Gcm => proto::Algorithm::Aes256Gcm,
        Algorithm::Aes256Siv => proto::Algorithm::Aes256Siv,
        Algorithm::HmacSha256 => proto::Algorithm::HmacSha256,
        Algorithm::Ed25519 => proto::Algorithm::Ed25519,
        Algorithm::EcdsaP256Sha256 => proto::Algorithm::EcdsaP256Sha256,
        Algorithm::Ff1Aes256 => proto::Algorithm::Ff1Aes256,
    };
    let period = key.rotation_period.and_then(|period| prost_types::Duration::try_from(period).ok());
    proto::Key {
        newest_version: key.newest_version(),
        next_rotation_at: key.next_rotation_at().map(clock::to_proto),
        name: key.name.as_str().to_owned(),
        algorithm: algorithm.into(),
        purpose: purpose.into(),
        state: state.into(),
        min_decrypt_version: key.min_decrypt_version,
        rotation_period: period,
        created_at: Some(clock::to_proto(key.created_at)),
        destroy_at: destroy_at.map(clock::to_proto),
        revision: key.revision,
        versions: key
            .versions
            .into_iter()
            .map(|version| proto::key::Version {
                version: version.version,
                created_at: Some(clock::to_proto(version.created_at)),
                imported: version.imported,
                public_key: version.public_key.into(),
                messages: 0,
                bytes: 0,
            })
            .collect(),
    }
}
