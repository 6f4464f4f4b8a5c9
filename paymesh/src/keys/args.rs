//! The options of `paymesh keys`.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};
use edge_gateway::auth::{SignatureAlgorithm, keys::Time, scope::Scope};
use money::TenantId;

const EXAMPLES: &str = "Examples:
  paymesh keys create --tenant acme --name 'billing app' --scope payments:* --scope tokens:write --expires 90d
  paymesh keys list
  paymesh keys rotate aaaabbbbccccdddd --overlap 24h    the old secret is valid for another day
  paymesh keys revoke aaaabbbbccccdddd
  paymesh keys create --tenant acme --name bank --scope '*' --require-signature ed25519 --signature-key bank.pem

The edge reads the file again when it changes (auth.keys_file, auth.pepper_file). A key is printed once, to
standard output; the file holds only its HMAC-SHA-256 under the pepper. Lose the pepper and every key is lost;
keep it apart from the key file.";

/// Options of `paymesh keys`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
    /// Where the keys are.
    #[command(flatten)]
    pub files: Files,
    /// How the answer is written.
    #[command(flatten)]
    pub output: Output,
}

/// Where the keys are.
#[derive(Debug, Args)]
pub struct Files {
    /// The file of API keys. `create` makes it.
    #[arg(
        long,
        global = true,
        default_value = "api-keys.toml",
        env = "PAYMESH_KEYS_FILE",
        value_name = "FILE"
    )]
    pub keys_file: PathBuf,
    /// The pepper that the keys are hashed under: at least 32 bytes. The first `create` makes one. Without it,
    /// the name of the key file with the ending .pepper.
    #[arg(long, global = true, env = "PAYMESH_PEPPER_FILE", value_name = "FILE")]
    pub pepper_file: Option<PathBuf>,
}

impl Files {
    /// The pepper's file.
    pub fn pepper(&self) -> PathBuf {
        self.pepper_file.clone().unwrap_or_else(|| self.keys_file.with_extension("pepper"))
    }
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// As JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, this once.
    Create(CreateArgs),
    /// List the keys: what they are for and whether they can be used.
    List(ListArgs),
    /// Show all that is known of a key. The key itself is not.
    Show(KeyArg),
    /// Give a key a new secret and print it; the old one stays valid for a while.
    Rotate(RotateArgs),
    /// End a key at once and for good.
    Revoke(KeyArg),
    /// List the scopes that the API knows.
    Scopes,
}

/// Options of `paymesh keys create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The tenant that the key's holder speaks for.
    #[arg(long)]
    pub tenant: TenantId,
    /// What it is for; shown in lists and logs.
    #[arg(long)]
    pub name: String,
    /// What it may do: a scope (`paymesh keys scopes` lists them), `payments:*` for all of an area, `*` for
    /// everything. Several times for several.
    #[arg(long = "scope", required = true, value_name = "SCOPE")]
    pub scopes: Vec<Scope>,
    /// When it expires: a time (2027-01-31T12:00:00Z) or a span from now (90d, 12h, 30m, 45s). Without it,
    /// never.
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<When>,
    /// Before when it is not valid, written likewise.
    #[arg(long, value_name = "WHEN")]
    pub not_before: Option<When>,
    /// Have every request signed (RFC 9421): hmac-sha256 (its secret is printed with the key), ed25519 or
    /// ecdsa-p256-sha256.
    #[arg(long, value_name = "ALGORITHM", value_parser = super::parse_algorithm)]
    pub require_signature: Option<SignatureAlgorithm>,
    /// The public key that requests are checked with: a PEM file (BEGIN PUBLIC KEY).
    #[arg(long, value_name = "FILE", requires = "require_signature")]
    pub signature_key: Option<PathBuf>,
}

/// Options of `paymesh keys list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this tenant's.
    #[arg(long)]
    pub tenant: Option<TenantId>,
}

/// Which key.
#[derive(Debug, Args)]
pub struct KeyArg {
    /// The key's id: the 16 characters after `pmk_`.
    pub id: String,
}

/// Options of `paymesh keys rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The key's id: the 16 characters after `pmk_`.
    pub id: String,
    /// How long the old secret stays valid: 90d, 12h, 30m or 45s.
    #[arg(long, default_value = "24h", value_name = "SPAN")]
    pub overlap: Span,
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(u64);

impl Span {
    /// In seconds.
    pub fn seconds(self) -> u64 {
        self.0
    }
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be a number with a unit: 90d, 12h, 30m or 45s";
        let (at, unit) = text.char_indices().next_back().ok_or(wrong)?;
        let factor = match unit {
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong),
        };
        let number: u32 = text[..at].parse().map_err(|_| wrong)?;
        Ok(Self(u64::from(number) * factor))
    }
}

/// A time, or a span from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Then.
    At(Time),
    /// After so long.
    In(Span),
}

impl FromStr for When {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(span) = text.parse() {
            return Ok(Self::In(span));
        }
        text.parse()
            .map(Self::At)
            .map_err(|_| "must be a time such as 2027-01-31T12:00:00Z, or a span such as 90d")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_times_are_told_apart() {
        assert_eq!("90d".parse(), Ok(When::In(Span(7_776_000))));
        assert_eq!("0s".parse(), Ok(When::In(Span(0))));
        assert_eq!("2027-01-31T12:00:00Z".parse(), Ok(When::At("2027-01-31T12:00:00Z".parse().unwrap())));
        for wrong in ["", "d", "-1d", "1w", "1.5h", "tomorrow", "9é"] {
            assert!(wrong.parse::<When>().is_err(), "{wrong}");
        }
    }
}
