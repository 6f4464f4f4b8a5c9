//! A server's certificate from a CA of its own, for `localhost`, as a public CA would issue it: what a judge of
//! TLS finds is then the server's and not the certificate's. Made by openssl, which testssl.sh needs as well.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::process::{shown, succeeds};

/// No longer than certificates that renew themselves (ACME), and more than the 60 days below which it is
/// about to expire.
const DAYS: &str = "89";
/// Where the certificate says that revocations are listed. Nobody asks there: judges do not phone out.
const EXTENSIONS: &str = "\
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=DNS:localhost,IP:127.0.0.1
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
crlDistributionPoints=URI:http://localhost/ca.crl
";

/// Where it is, as PEM files.
pub(crate) struct Certificate {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// Makes it in this directory.
    pub(crate) fn make(directory: &Path) -> Result<Self, Error> {
        let path = |name: &str| directory.join(name);
        let (ca_key, request, extensions) = (path("ca.key"), path("server.csr"), path("server.ext"));
        let made = Self { ca: path("ca.pem"), cert: path("server.pem"), key: path("server.key") };
        std::fs::write(&extensions, EXTENSIONS)
            .map_err(Error::io(format!("write {}", extensions.display())))?;
        let new_key = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout"];
        openssl(|command| {
            command.args(new_key).arg(&ca_key).arg("-out").arg(&made.ca).args(["-x509", "-days", DAYS]).args(
                [
                    "-subj",
                    "/O=paymesh tests/CN=paymesh test CA",
                    "-addext",
                    "keyUsage=critical,keyCertSign,cRLSign",
                ],
            )
        })?;
        openssl(|command| {
            command.args(new_key).arg(&made.key).arg("-out").arg(&request).args(["-subj", "/CN=localhost"])
        })?;
        openssl(|command| {
            command.args(["x509", "-req", "-sha256", "-days", DAYS, "-in"]).arg(&request);
            command.arg("-CA").arg(&made.ca).arg("-CAkey").arg(&ca_key);
            command.arg("-extfile").arg(&extensions).arg("-out").arg(&made.cert)
        })?;
        Ok(made)
    }
}

fn openssl(arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<(), Error> {
    let mut command = Command::new("openssl");
    arguments(&mut command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Standard output is for what a shell evaluates (`servers`).
    eprintln!("── certificate: {}", shown(&command));
    match succeeds(&mut command) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(Error::Missing {
            program: "openssl".to_owned(),
            install: "OpenSSL 1.1.1 or later (Debian: apt-get install openssl)".to_owned(),
        }),
    }
}
