//! Secrets in files: for webhooks that we are sent, whose secret somebody gave us.

use std::path::Path;

use mesh::{StartError, pki::write_file, tls::TlsError};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use crate::domain::signing::WebhookSecret;

impl WebhookSecret {
    /// Reads the secret of a file.
    pub fn read(path: &Path) -> Result<Self, StartError> {
        let text = std::fs::read_to_string(path).map_err(StartError::io(path.display().to_string()))?;
        Self::parse(&Zeroizing::new(text)).ok_or_else(|| {
            let path = path.display();
            StartError::Config(format!("{path}: must hold whsec_ and 24 to 64 bytes in base64"))
        })
    }

    /// Reads the secret of a file; where there is no such file, makes a secret and keeps it there.
    pub fn read_or_make(path: &Path) -> Result<Self, StartError> {
        if !path.exists() {
            let secret = Self::make(&SystemRandom::new())
                .ok_or_else(|| StartError::Config("the system gives no random bytes".to_owned()))?;
            let text = Zeroizing::new(format!("{}\n", *secret.expose_text()));
            write_file(path, &text, 0o600).map_err(TlsError::from)?;
        }
        Self::read(path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_read_or_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(WebhookSecret::read(&path).is_err());
        let made = WebhookSecret::read_or_make(&path).unwrap();
        assert_eq!(WebhookSecret::read_or_make(&path).unwrap(), made);
        assert_eq!(made.expose_bytes().len(), 32);
        assert_ne!(WebhookSecret::read_or_make(&dir.path().join("other")).unwrap(), made);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "whsec_AAAA").unwrap();
        assert!(WebhookSecret::read(&path).is_err_and(|error| error.to_string().contains("24 to 64 bytes")));
    }
}
