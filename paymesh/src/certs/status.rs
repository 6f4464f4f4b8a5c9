//! What `paymesh certs status` shows.

use std::{io::Write, path::Path};

use mesh::{
    clock::to_proto,
    pki::{
        BUNDLE, CertificateAuthority, CertificateFiles, Lifetime, certificates, issuer_name, spiffe_id,
        subject_name, workloads,
    },
    tls::Identity,
};
use money::Timestamp;
use serde::Serialize;

use super::CertsError;

const DAY_S: i64 = 86_400;

/// One certificate.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// The workload, or the root's name.
    name: String,
    kind: Kind,
    /// The SPIFFE id of a workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<String>,
    issuer: String,
    /// RFC 3339; empty if it cannot be read.
    not_after: String,
    days_left: i64,
    state: State,
    /// Why it is not usable.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// The root that signs.
    Ca,
    /// A root that is trusted and does not sign, while the CA is replaced.
    TrustedRoot,
    Workload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    /// Less than a third of its life is left.
    Due,
    Expired,
    /// Peers would refuse it for another reason.
    Unusable,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Due => "due: renew it",
            Self::Expired => "EXPIRED",
            Self::Unusable => "UNUSABLE",
        }
    }

    fn at(lifetime: Lifetime, now: Timestamp) -> Self {
        match lifetime.left_s(now) {
            ..0 => Self::Expired,
            _ if lifetime.is_due(now) => Self::Due,
            _ => Self::Ok,
        }
    }
}

impl Row {
    pub(super) fn is_usable(&self) -> bool {
        matches!(self.state, State::Ok | State::Due)
    }
}

/// The roots, then the workloads by name.
pub(super) fn rows(dir: &Path, now: Timestamp) -> Result<Vec<Row>, CertsError> {
    let signer = CertificateAuthority::open(dir).ok().map(|authority| authority.name());
    let mut rows = Vec::new();
    for root in certificates(&dir.join(BUNDLE))? {
        let name = subject_name(&root).unwrap_or_default();
        let kind = if signer.as_ref() == Some(&name) { Kind::Ca } else { Kind::TrustedRoot };
        let lifetime = Lifetime::of(&root);
        rows.push(Row {
            issuer: issuer_name(&root).unwrap_or_default(),
            name,
            kind,
            spiffe_id: None,
            not_after: lifetime.map(|l| to_proto(l.not_after).to_string()).unwrap_or_default(),
            days_left: lifetime.map_or(0, |l| l.left_s(now).div_euclid(DAY_S)),
            state: lifetime.map_or(State::Unusable, |l| State::at(l, now)),
            problem: None,
        });
    }
    for name in workloads(dir)? {
        rows.push(workload(dir, name, now));
    }
    Ok(rows)
}

fn workload(dir: &Path, name: String, now: Timestamp) -> Row {
    let files = CertificateFiles::within(dir, &name);
    let leaf = certificates(&files.cert).ok().and_then(|chain| chain.into_iter().next());
    let lifetime = leaf.as_ref().and_then(Lifetime::of);
    let problem = Identity::load(&files).err().map(|error| error.to_string());
    let state = match lifetime.map(|lifetime| State::at(lifetime, now)) {
        Some(State::Expired) => State::Expired,
        Some(state) if problem.is_none() => state,
        _ => State::Unusable,
    };
    Row {
        name,
        kind: Kind::Workload,
        spiffe_id: leaf.as_ref().and_then(spiffe_id).map(|id| id.to_string()),
        issuer: leaf.as_ref().and_then(issuer_name).unwrap_or_default(),
        not_after: lifetime.map(|l| to_proto(l.not_after).to_string()).unwrap_or_default(),
        days_left: lifetime.map_or(0, |l| l.left_s(now).div_euclid(DAY_S)),
        state,
        problem,
    }
}

/// For people.
pub(super) fn write_table(rows: &[Row], out: &mut impl Write) -> std::io::Result<()> {
    let width = |of: fn(&Row) -> usize, least: usize| rows.iter().map(of).max().unwrap_or(0).max(least);
    let (name, issuer) = (width(|row| row.name.len(), 8), width(|row| row.issuer.len(), 6));
    writeln!(
        out,
        "{:<name$}  {:<issuer$}  {:<20}  {:>9}  STATE",
        "WORKLOAD", "ISSUER", "NOT AFTER", "DAYS LEFT"
    )?;
    for row in rows {
        let role = match row.kind {
            Kind::Ca => " (signs)",
            Kind::TrustedRoot => " (trusted, does not sign)",
            Kind::Workload => "",
        };
        writeln!(
            out,
            "{:<name$}  {:<issuer$}  {:<20}  {:>9}  {}{role}",
            row.name,
            row.issuer,
            row.not_after,
            row.days_left,
            row.state.as_str()
        )?;
    }
    for row in rows {
        if let Some(problem) = &row.problem {
            writeln!(out, "{}: {problem}", row.name)?;
        }
    }
    Ok(())
}
