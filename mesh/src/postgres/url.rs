//! What the URL of the server says.

use tokio_postgres::config::{Config, SslMode};

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protection {
    /// In clear.
    Disable,
    /// TLS where the server has it, and then with its certificate checked.
    Prefer,
    /// TLS, the certificate and its name checked.
    Verify,
}

/// A server's address, as far as the URL says it.
pub(super) struct Url {
    pub(super) config: Config,
    pub(super) protection: Protection,
}

/// Reads a URL. Its text is not repeated in an error: it may hold a password that should not be there.
pub(super) fn parse(url: &str) -> Result<Url, String> {
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err("postgres.url must begin with postgres:// or postgresql://".to_owned());
    }
    let (plain, mode) = without_sslmode(url);
    // libpq's weaker forms, which take any certificate or any name, are taken for the strong one.
    let protection = match mode {
        None | Some("require" | "verify-ca" | "verify-full") => Protection::Verify,
        Some("prefer") => Protection::Prefer,
        Some("disable") => Protection::Disable,
        Some(_) => {
            return Err(
                "postgres.url: sslmode must be verify-full, verify-ca, require, prefer or disable".to_owned()
            );
        }
    };
    let mut config: Config = plain.parse().map_err(|_| {
        "postgres.url must be a URL such as postgres://user@host:5432/database?sslmode=verify-full".to_owned()
    })?;
    if config.get_password().is_some() {
        return Err(
            "postgres.url must not hold a password: put it into a file and name that in password_file"
                .to_owned(),
        );
    }
    if config.get_options().is_some() || config.get_application_name().is_some() {
        return Err(
            "postgres.url must not set options or application_name: the service sets its own".to_owned()
        );
    }
    config.ssl_mode(match protection {
        Protection::Disable => SslMode::Disable,
        Protection::Prefer => SslMode::Prefer,
        Protection::Verify => SslMode::Require,
    });
    Ok(Url { config, protection })
}

/// The URL without the parameter, and the parameter; the library knows only some of its values.
fn without_sslmode(url: &str) -> (String, Option<&str>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let mut mode = None;
    let rest: Vec<&str> = query
        .split('&')
        .filter(|parameter| match parameter.strip_prefix("sslmode=") {
            Some(value) => {
                mode = Some(value);
                false
            }
            None => true,
        })
        .collect();
    (format!("{base}?{}", rest.join("&")), mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_checked_unless_the_url_says_that_there_is_none() {
        let cases = [
            ("postgres://u@h/d", Protection::Verify),
            ("postgresql://u@h/d?sslmode=require", Protection::Verify),
            ("postgres://u@h/d?sslmode=verify-ca", Protection::Verify),
            ("postgres://u@h/d?connect_timeout=3&sslmode=verify-full", Protection::Verify),
            ("postgres://u@h/d?sslmode=prefer&connect_timeout=3", Protection::Prefer),
            ("postgres://u@h/d?sslmode=disable", Protection::Disable),
        ];
        for (url, protection) in cases {
            let url = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(url.protection, protection);
            assert_eq!(url.config.get_dbname(), Some("d"));
        }
        let mode = |url| parse(url).map(|url| url.config.get_ssl_mode()).unwrap();
        assert_eq!(mode("postgres://u@h/d"), SslMode::Require);
        assert_eq!(mode("postgres://u@h/d?sslmode=disable"), SslMode::Disable);
    }

    #[test]
    fn what_cannot_be_is_refused_and_not_repeated() {
        let cases = [
            ("host=h user=u", "must begin with"),
            ("postgres://u@h/d?sslmode=allow", "sslmode"),
            ("postgres://u@h/d?no_such=1", "such as"),
            ("postgres://u:s3cret@h/d", "password_file"),
            ("postgres://u@h/d?password=s3cret", "password_file"),
            ("postgres://u@h/d?options=-cfsync%3Doff", "options"),
        ];
        for (url, what) in cases {
            let said = parse(url).err().unwrap();
            assert!(said.contains(what) && !said.contains("s3cret"), "{url}: {said}");
        }
    }
}
