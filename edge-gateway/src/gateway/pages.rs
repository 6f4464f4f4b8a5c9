//! What is answered without a credential: probes, the API's description, pages for people. The list of their
//! paths is here alone.

use http::StatusCode;
use mesh::Reason;

use super::{Caller, Gateway, plain};
use crate::{body::Answer, docs, face::Kind, problem};

/// What is at a path, for GET and HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// Whether this process is alive.
    Alive,
    /// Whether the services that it needs are there.
    Ready,
    OpenApi,
    /// What a problem's `type` means.
    Problem(Reason),
    /// A part of the documentation page, by its own table.
    Documentation,
}

impl Page {
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Alive),
            "/readyz" => Some(Self::Ready),
            "/openapi.json" => Some(Self::OpenApi),
            path if docs::is_asset(path) => Some(Self::Documentation),
            path => problem::reason_at(path).map(Self::Problem),
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Alive | Self::Ready => Kind::Probe,
            Self::OpenApi | Self::Problem(_) | Self::Documentation => Kind::Document,
        }
    }
}

impl Gateway {
    pub(super) async fn page(&self, page: Page, path: &str, caller: &Caller) -> Option<Answer> {
        const TEXT: &str = "text/plain; charset=utf-8";
        match page {
            Page::Alive => Some(plain(StatusCode::OK, TEXT, "alive\n")),
            Page::OpenApi => Some(plain(StatusCode::OK, "application/json", self.openapi.clone())),
            Page::Ready => {
                let report = self.readiness.report(&self.call(caller, None, None)).await;
                let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                // Texts always serialize.
                Some(plain(status, "application/json", serde_json::to_vec(&report).unwrap_or_default()))
            }
            Page::Problem(reason) => Some(plain(StatusCode::OK, TEXT, problem::page(reason))),
            Page::Documentation => docs::asset(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_is_at_its_path_alone() {
        for (path, page, kind) in [
            ("/healthz", Page::Alive, Kind::Probe),
            ("/readyz", Page::Ready, Kind::Probe),
            ("/openapi.json", Page::OpenApi, Kind::Document),
            ("/problems/internal", Page::Problem(Reason::Internal), Kind::Document),
            ("/docs", Page::Documentation, Kind::Document),
            ("/docs/app.js", Page::Documentation, Kind::Document),
        ] {
            assert_eq!(Page::at(path).map(|page| (page, page.kind())), Some((page, kind)), "{path}");
        }
        for path in
            ["/", "/healthz/", "/healthz2", "/problems/", "/problems/none", "/docs/none", "/v1/payments"]
        {
            assert_eq!(Page::at(path), None, "{path}");
        }
    }
}
