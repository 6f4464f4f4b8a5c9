//! The documentation page: HTML, style and script of our own, kept in the binary. It reads
//! `/openapi.json` and asks nobody else for anything.

use http::{HeaderValue, Response, header};

use crate::body::{Answer, full};

/// Nothing but what comes from here, nothing inline, and no frame around it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// The page and its parts: path, type, content.
const ASSETS: [(&str, &str, &str); 3] = [
    ("/docs", "text/html; charset=utf-8", include_str!("index.html")),
    ("/docs/app.js", "text/javascript; charset=utf-8", include_str!("app.js")),
    ("/docs/style.css", "text/css; charset=utf-8", include_str!("style.css")),
];

/// Whether the page or a part of it is at this path.
pub(crate) fn is_asset(path: &str) -> bool {
    ASSETS.iter().any(|(at, _, _)| *at == path)
}

/// The answer at this path, if the page or a part of it is there.
pub(crate) fn asset(path: &str) -> Option<Answer> {
    let (_, kind, content) = ASSETS.iter().copied().find(|(at, _, _)| *at == path)?;
    let mut answer = Response::new(full(content));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the policy forbids is not in the page: nothing inline, and no address outside.
    #[test]
    fn the_page_needs_nothing_but_itself() {
        let page = include_str!("index.html");
        for inline in ["<script>", "<style", " style=", " onclick", "javascript:", "http:", "https:", "//"] {
            assert!(!page.contains(inline), "{inline}");
        }
        for text in [include_str!("app.js"), include_str!("style.css")] {
            assert!(!text.contains("http:") && !text.contains("https:"), "no address outside");
        }
        // Texts of the document are put in as texts, and a key is kept in memory alone.
        for unsafe_way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "eval(",
            "localStorage",
            "sessionStorage",
            "cookie",
        ] {
            assert!(!include_str!("app.js").contains(unsafe_way), "{unsafe_way}");
        }
        for path in ["/docs", "/docs/app.js", "/docs/style.css"] {
            assert!(asset(path).is_some());
            assert!(path == "/docs" || page.contains(path), "{path} is used");
        }
        assert!(asset("/docs/other").is_none());
    }
}
