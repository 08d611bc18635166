//! The chat page: one document without outside files, which the browser may run nothing else from.
//!
//! Its parts are files in this crate's `page` folder, joined once: there is no build step, and no library.

mod markdown;

use std::sync::LazyLock;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH,
    REFERRER_POLICY,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::body::read_json;
use super::response;
use super::state::AppState;
use crate::openai::ApiError;

/// Scripts in their order: each may use what those before it define.
const SCRIPTS: &[&str] = &[
    include_str!("../../../page/server.js"),
    include_str!("../../../page/storage.js"),
    include_str!("../../../page/answers.js"),
    include_str!("../../../page/state.js"),
    include_str!("../../../page/models.js"),
    include_str!("../../../page/turns.js"),
    include_str!("../../../page/asking.js"),
    include_str!("../../../page/images.js"),
    include_str!("../../../page/saved.js"),
    include_str!("../../../page/main.js"),
];

/// Paths for everyone.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/", get(document))
}

/// Paths that need a key.
pub(super) fn user_router() -> Router<AppState> {
    Router::new().route("/page/markdown", post(markdown))
}

/// The document, and headers that depend on its text.
struct Page {
    html: String,
    /// What the browser may load and run: the page's own script and style, and nothing that an answer brings.
    policy: HeaderValue,
    tag: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let style = include_str!("../../../page/style.css");
    let script = SCRIPTS.join("\n");
    let html = include_str!("../../../page/index.html")
        .replace("/*{{style}}*/", style)
        .replace("/*{{scripts}}*/", &script);
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; \
         img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        digest(&script),
        digest(style),
    );
    let header = |text: &str| HeaderValue::from_str(text).expect("ASCII");
    Page { policy: header(&policy), tag: header(&format!("\"{}\"", digest(&html))), html }
});

fn digest(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

async fn document(headers: HeaderMap) -> Response {
    let page = &*PAGE;
    let mut response = if headers.get(IF_NONE_MATCH) == Some(&page.tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        page.html.as_str().into_response()
    };
    let fixed = |text| HeaderValue::from_static(text);
    response.headers_mut().extend([
        (CONTENT_TYPE, fixed("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, page.policy.clone()),
        (REFERRER_POLICY, fixed("no-referrer")),
        (HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin")),
        (CACHE_CONTROL, fixed("no-cache")),
        (ETAG, page.tag.clone()),
    ]);
    response
}

#[derive(Deserialize)]
struct MarkdownRequest {
    markdown: String,
}

/// `{"markdown": TEXT}` ─► `{"html": TEXT}`, which is safe to insert into a page.
async fn markdown(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let body = read_json(&state, request).await?;
    let MarkdownRequest { markdown } = serde_json::from_slice(&body.bytes).map_err(|error| {
        ApiError::invalid(format!("expected an object with the text `markdown`: {error}"))
    })?;
    if markdown.len() > markdown::MAX_BYTES {
        let limit = markdown::MAX_BYTES;
        let message = format!("markdown has {} bytes, expected at most {limit}", markdown.len());
        return Err(ApiError::http(413, "request_too_large", message));
    }
    let failed = |_| ApiError::internal("the Markdown could not be converted");
    let permit = state.conversions().clone().acquire_owned().await.map_err(failed)?;
    let html = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        markdown::render(&markdown)
    });
    let html = html.await.map_err(|_| ApiError::internal("the Markdown could not be converted"))?;
    Ok(response::json(&json!({ "html": html })))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::http::{Server, ServerOptions};

    async fn send(request: Request) -> (StatusCode, HeaderMap, String) {
        let response =
            Server::new(ServerOptions::default()).router().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.into()).unwrap())
    }

    fn post_markdown(body: impl Into<axum::body::Body>) -> Request {
        Request::post("/page/markdown")
            .header(CONTENT_TYPE, "application/json")
            .body(body.into())
            .unwrap()
    }

    fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
        text.split_once(start).unwrap().1.split_once(end).unwrap().0
    }

    #[tokio::test]
    async fn the_policy_allows_exactly_the_scripts_and_the_style_of_the_page() {
        let (status, headers, html) =
            send(Request::get("/").body(String::new().into()).unwrap()).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(!html.contains("{{"), "a placeholder is left");
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        let script = digest(between(&html, "<script type=\"module\">", "</script>"));
        let style = digest(between(&html, "<style>", "</style>"));
        assert!(policy.contains(&format!("script-src 'sha256-{script}';")), "{policy}");
        assert!(policy.contains(&format!("style-src 'sha256-{style}';")), "{policy}");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
    }

    /// Attributes such as `onclick=` and `style=` would be blocked, and links would load from elsewhere.
    #[test]
    fn the_page_has_no_inline_handlers_and_no_outside_files() {
        let html = include_str!("../../../page/index.html");
        for forbidden in [" on", " style=", "src=\"", "href=\"http", "@import"] {
            let tags = html.split('<').filter_map(|tag| tag.split_once('>'));
            let found = tags.map(|(tag, _)| tag).find(|tag| tag.contains(forbidden));
            assert_eq!(found, None, "{forbidden}");
        }
        assert!(!include_str!("../../../page/style.css").contains("url("));
    }

    #[tokio::test]
    async fn an_unchanged_page_is_not_sent_again() {
        let (_, headers, _) = send(Request::get("/").body(String::new().into()).unwrap()).await;
        let again = Request::get("/").header(IF_NONE_MATCH, &headers[ETAG]);
        let (status, _, body) = send(again.body(String::new().into()).unwrap()).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    }

    #[tokio::test]
    async fn markdown_becomes_html() {
        let (status, _, body) = send(post_markdown(r#"{"markdown": "*a* <b>"}"#)).await;
        assert_eq!(status, StatusCode::OK);
        let body = serde_json::from_str::<serde_json::Value>(&body).unwrap();
        assert_eq!(body["html"], "<p><em>a</em> &lt;b&gt;</p>\n");
    }

    #[tokio::test]
    async fn markdown_has_a_limit_of_length() {
        let text = "a".repeat(markdown::MAX_BYTES + 1);
        let (status, _, body) = send(post_markdown(json!({ "markdown": text }).to_string())).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(body.contains("expected at most 262144"), "{body}");
    }

    #[tokio::test]
    async fn a_body_without_markdown_is_an_error_that_tells_what_is_expected() {
        for body in ["{}", "[]", "{\"markdown\": 1}", "{\"markdown\": \"\\ud800\"}", "", "\u{0}"] {
            let (status, _, body) = send(post_markdown(body.to_owned())).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(body.contains("the text `markdown`"), "{body}");
        }
    }
}
