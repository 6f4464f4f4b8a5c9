//! The token's thread's own: one session, opened where there is none, and what is done in it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::{Mechanism, aead::GcmParams},
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use zeroize::Zeroizing;

use super::{super::api::credential, unhex};
use crate::{
    domain::{canonical, secret::KeyBytes},
    random::Random,
    root::Failure,
};

/// Of AES with 256 bits.
const KEY_BYTES: u64 = 32;
const NONCE_BYTES: usize = 12;
const TAG_BITS: u64 = 128;
const TAG_BYTES: usize = 16;

/// Where the key is.
pub(super) struct Place {
    pub(super) module: PathBuf,
    pub(super) token_label: String,
    pub(super) key_label: String,
    pub(super) key_id: Option<Vec<u8>>,
    pub(super) pin_file: PathBuf,
}

/// A token, and the session with it.
pub(super) struct Token {
    place: Place,
    session: Option<Session>,
    /// What the token refused as a PIN. Not tried again: a token counts.
    refused_pin: Option<Zeroizing<String>>,
    random: Random,
}

/// Why a step was not done.
enum Step {
    /// The session, or what was known in it, is gone: another one may do.
    Lost(&'static str),
    Failed(Failure),
}

impl From<Failure> for Step {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Error> for Step {
    fn from(error: Error) -> Self {
        match error {
            Error::Pkcs11(RvError::SessionHandleInvalid | RvError::SessionClosed, _) => {
                Self::Lost("the session is closed")
            }
            Error::Pkcs11(RvError::CryptokiNotInitialized, _) => Self::Lost("the module was finalized"),
            Error::Pkcs11(RvError::UserNotLoggedIn, _) => Self::Lost("the user is logged out"),
            Error::Pkcs11(RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid, _) => {
                Self::Lost("the key's handle is not valid any more")
            }
            Error::Pkcs11(RvError::DeviceRemoved | RvError::TokenNotPresent | RvError::DeviceError, _) => {
                Self::Lost("the token is gone")
            }
            Error::LibraryLoading(_) => Failure::Unreachable("the module cannot be loaded".into()).into(),
            // The kind alone, and which function it was.
            Error::Pkcs11(error, function) => {
                let text = format!("{function:?}: {}", name_of(&error)).into();
                match error {
                    RvError::PinIncorrect
                    | RvError::PinInvalid
                    | RvError::PinLenRange
                    | RvError::PinExpired
                    | RvError::PinLocked
                    | RvError::UserPinNotInitialized
                    | RvError::KeyFunctionNotPermitted
                    | RvError::KeyTypeInconsistent
                    | RvError::MechanismInvalid
                    | RvError::MechanismParamInvalid => Failure::Refused(text).into(),
                    _ => Failure::Unreachable(text).into(),
                }
            }
            _ => Failure::Unreachable("the module answers what it should not".into()).into(),
        }
    }
}

/// `PinIncorrect` and the like; what its display says is a paragraph.
fn name_of(error: &RvError) -> String {
    format!("{error:?}")
}

/// The modules that are loaded: each is one per process, and stays.
static MODULES: Mutex<Option<HashMap<PathBuf, Pkcs11>>> = Mutex::new(None);

fn module(path: &Path) -> Result<Pkcs11, Step> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    let modules = modules.get_or_insert_default();
    let module = match modules.get(path) {
        Some(module) => module.clone(),
        None => modules.entry(path.to_owned()).or_insert(Pkcs11::new(path)?).clone(),
    };
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(error) => Err(error.into()),
    }
}

impl Token {
    pub(super) fn new(place: Place) -> Self {
        Self { place, session: None, refused_pin: None, random: Random::default() }
    }

    /// The id of the key that did it, in hexadecimal, and what it made.
    pub(super) fn wrap(&mut self, context: &[u8], key: &KeyBytes) -> Result<(String, Vec<u8>), Failure> {
        self.within(|token, session| {
            let (handle, id) = token.key(session, token.place.key_id.as_deref())?;
            let body = token.seal(session, handle, context, key.expose())?;
            Ok((canonical::hex(&id), body))
        })
    }

    pub(super) fn unwrap(&mut self, context: &[u8], version: &str, body: &[u8]) -> Result<KeyBytes, Failure> {
        self.within(|token, session| {
            let id = unhex(version);
            if id.is_none() && !version.is_empty() {
                return Err(Failure::Tampered.into());
            }
            let (handle, _) = token.key(session, id.as_deref())?;
            token.open(session, handle, context, body)
        })
    }

    /// Does something in a session; where it is lost, once more in another.
    fn within<T>(&mut self, work: impl Fn(&Self, &Session) -> Result<T, Step>) -> Result<T, Failure> {
        let mut lost = "";
        for _ in 0..2 {
            let session = match self.session.take() {
                Some(session) => session,
                None => match self.log_in() {
                    Ok(session) => session,
                    Err(Step::Failed(failure)) => return Err(failure),
                    Err(Step::Lost(why)) => {
                        lost = why;
                        continue;
                    }
                },
            };
            match work(self, &session) {
                Err(Step::Lost(why)) => lost = why,
                Err(Step::Failed(failure)) => {
                    self.session = Some(session);
                    return Err(failure);
                }
                Ok(done) => {
                    self.session = Some(session);
                    return Ok(done);
                }
            }
        }
        Err(Failure::Unreachable(lost.into()))
    }

    fn log_in(&mut self) -> Result<Session, Step> {
        let module = module(&self.place.module)?;
        let mut found = None;
        for slot in module.get_slots_with_initialized_token()? {
            if module.get_token_info(slot)?.label() == self.place.token_label {
                if found.is_some() {
                    return Err(Failure::Refused("several tokens have this label".into()).into());
                }
                found = Some(slot);
            }
        }
        let slot = found.ok_or_else(|| Failure::Unreachable("no token has this label".into()))?;
        let session = module.open_ro_session(slot)?;
        let pin = credential(&self.place.pin_file)?;
        if self.refused_pin.as_ref().is_some_and(|refused| *refused == pin) {
            return Err(
                Failure::Refused("the token refused this PIN before; it is not tried again".into()).into()
            );
        }
        match session.login(UserType::User, Some(&AuthPin::new(pin.as_str().into()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => {
                if matches!(error, Error::Pkcs11(RvError::PinIncorrect | RvError::PinLocked, _)) {
                    self.refused_pin = Some(pin);
                }
                return Err(error.into());
            }
        }
        self.refused_pin = None;
        tracing::info!(token = %self.place.token_label, "a session with the PKCS#11 token is open");
        Ok(session)
    }

    /// The key of the configured label and this id, and its id; without one, the only one of the label.
    fn key(&self, session: &Session, id: Option<&[u8]>) -> Result<(ObjectHandle, Vec<u8>), Step> {
        let mut template = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Label(self.place.key_label.as_bytes().to_vec()),
        ];
        template.extend(id.map(|id| Attribute::Id(id.to_vec())));
        let found = session.find_objects(&template)?;
        let refused = |why: &'static str| Step::from(Failure::Refused(why.into()));
        let handle = match found[..] {
            [handle] => handle,
            [] => return Err(refused("the token has no AES key of this label and id")),
            _ => return Err(refused("several keys have this label: key_id must say which")),
        };
        let asked = [
            AttributeType::Id,
            AttributeType::Extractable,
            AttributeType::Sensitive,
            AttributeType::ValueLen,
        ];
        let found = session.get_attributes(handle, &asked)?;
        // What the token does not say is not taken for granted.
        for (must, why) in [
            (
                Attribute::Extractable(false),
                "the key is extractable, or the token does not say that it is not",
            ),
            (Attribute::Sensitive(true), "the key is not sensitive, or the token does not say that it is"),
            (
                Attribute::ValueLen(KEY_BYTES.into()),
                "the key has not 256 bits, or the token does not say how many",
            ),
        ] {
            if !found.contains(&must) {
                return Err(refused(why));
            }
        }
        let own = found.into_iter().find_map(|attribute| match attribute {
            Attribute::Id(id) => Some(id),
            _ => None,
        });
        Ok((handle, own.unwrap_or_default()))
    }

    fn seal(
        &self,
        session: &Session,
        key: ObjectHandle,
        context: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, Step> {
        let mut nonce = [0; NONCE_BYTES];
        self.random.fill(&mut nonce).map_err(|_| Failure::Unreachable("no random numbers".into()))?;
        let mut body = nonce.to_vec();
        let parameters = GcmParams::new(&mut nonce, context, TAG_BITS.into())?;
        let sealed = session.encrypt(&Mechanism::AesGcm(parameters), key, plaintext)?;
        if sealed.len() != plaintext.len() + TAG_BYTES || nonce[..] != body[..] {
            return Err(
                Failure::Refused("the token makes another AES-GCM than it was asked for".into()).into()
            );
        }
        body.extend_from_slice(&sealed);
        Ok(body)
    }

    fn open(
        &self,
        session: &Session,
        key: ObjectHandle,
        context: &[u8],
        body: &[u8],
    ) -> Result<KeyBytes, Step> {
        let (nonce, sealed) = body.split_at_checked(NONCE_BYTES).ok_or(Failure::Tampered)?;
        let mut nonce = nonce.to_vec();
        let parameters = GcmParams::new(&mut nonce, context, TAG_BITS.into())?;
        match session.decrypt(&Mechanism::AesGcm(parameters), key, sealed) {
            Ok(plaintext) => {
                let plaintext = Zeroizing::new(plaintext);
                Ok(KeyBytes::from_slice(&plaintext).ok_or(Failure::Tampered)?)
            }
            Err(Error::Pkcs11(RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange, _)) => {
                Err(Failure::Tampered.into())
            }
            // What some modules say of a wrong tag, and of much else: if the key still opens what it seals, then the
            // body was wrong.
            Err(Error::Pkcs11(RvError::GeneralError | RvError::FunctionFailed, _))
                if self.works(session, key) =>
            {
                Err(Failure::Tampered.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn works(&self, session: &Session, key: ObjectHandle) -> bool {
        let Ok(body) = self.seal(session, key, b"", b"probe") else { return false };
        let (nonce, sealed) = body.split_at(NONCE_BYTES);
        let mut nonce = nonce.to_vec();
        let Ok(parameters) = GcmParams::new(&mut nonce, b"", TAG_BITS.into()) else { return false };
        let opened = session.decrypt(&Mechanism::AesGcm(parameters), key, sealed);
        opened.is_ok_and(|opened| opened == b"probe")
    }
}
