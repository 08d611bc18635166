//! `/admin/adapters`: which adapters there are, for administrators.

use std::path::{Path, PathBuf};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path as UrlPath, Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::read_json;
use super::response::json as json_response;
use super::state::AppState;
use crate::engine::{AdapterInfo, AdapterSource};
use crate::error::LoadError;
use crate::openai::ApiError;

/// The body of `POST /admin/adapters`.
#[derive(Debug, Deserialize)]
struct NewAdapter {
    name: String,
    path: PathBuf,
}

/// `GET /admin/adapters`.
pub(super) async fn list(State(state): State<AppState>) -> Result<Response, ApiError> {
    let adapters = state.service()?.engine().adapters();
    let data = adapters.iter().map(adapter_json).collect::<Value>();
    Ok(json_response(&json!({ "object": "list", "data": data })))
}

/// `POST /admin/adapters` with `{"name", "path"}`.
pub(super) async fn load(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, ApiError> {
    let engine = state.service()?.engine();
    let body = read_json(&state, request).await?;
    let NewAdapter { name, path } = serde_json::from_slice(&body.bytes)
        .map_err(|error| ApiError::invalid(format!("{error}, expected {{\"name\", \"path\"}}")))?;
    let path = allowed_path(&path, &state.options().adapter_roots)?;
    let loaded = engine.load_adapter(AdapterSource::path(&name, path));
    let info = loaded.await.unwrap_or(Err(LoadError::Stopped)).map_err(load_failed)?;
    tracing::info!(adapter = name, "adapter loaded");
    Ok(json_response(&adapter_json(&info)))
}

/// `DELETE /admin/adapters/{name}`.
pub(super) async fn unload(
    State(state): State<AppState>,
    name: Result<UrlPath<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let UrlPath(name) = name.map_err(|error| ApiError::invalid(error.body_text()))?;
    state.service()?.engine().unload_adapter(&name).map_err(load_failed)?;
    state.metrics().forget_adapter(&name);
    tracing::info!(adapter = name, "adapter unloaded");
    Ok(json_response(&json!({ "name": name, "object": "adapter", "deleted": true })))
}

fn adapter_json(adapter: &AdapterInfo) -> Value {
    let AdapterInfo { name, path, loaded, bytes, sees_images, broken, .. } = adapter;
    json!({
        "name": name,
        "object": "adapter",
        "path": path.as_ref().map(|path| path.to_string_lossy()),
        "loaded": loaded,
        "bytes": bytes,
        "sees_images": sees_images,
        "broken": broken,
    })
}

/// The path of an adapter without links, if it is within one of the folders. A relative path is within the
/// first folder that has it.
fn allowed_path(path: &Path, roots: &[PathBuf]) -> Result<PathBuf, ApiError> {
    let within = roots.iter().filter_map(|root| {
        let root = root.canonicalize().ok()?;
        let path = root.join(path).canonicalize().ok()?;
        (path.starts_with(&root) && path != root).then_some(path)
    });
    // What lies outside is not told apart from what does not exist.
    within.into_iter().next().ok_or_else(|| {
        let message =
            format!("`{}` is not in a folder from which adapters may be loaded", path.display());
        ApiError { param: Some("path".into()), ..ApiError::forbidden(message) }
    })
}

fn load_failed(error: LoadError) -> ApiError {
    let message = error.to_string();
    match error {
        LoadError::Name(_) => ApiError::invalid_param("name", message),
        LoadError::NameTaken(_) => ApiError::http(409, "adapter_exists", message),
        LoadError::Unknown(_) => ApiError::http(404, "adapter_not_found", message),
        LoadError::Stopped => ApiError::unavailable("shutting_down", message),
        LoadError::Failed { .. } => ApiError::internal(message),
        _ => ApiError::invalid_param("path", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_a_root_are_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        for path in [root.join("a"), outside.clone()] {
            std::fs::create_dir_all(path).unwrap();
        }
        let roots = [folder.path().join("missing"), root.clone()];
        let allowed = |path: &Path| allowed_path(path, &roots).ok();
        let expected = root.join("a").canonicalize().unwrap();
        assert_eq!(allowed(Path::new("a")), Some(expected.clone()));
        assert_eq!(allowed(&root.join("a")), Some(expected));
        for refused in [Path::new("../outside"), Path::new("."), Path::new("none"), &outside] {
            assert_eq!(allowed(refused), None, "{}", refused.display());
        }
        assert!(allowed_path(Path::new("a"), &[]).is_err());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
            assert_eq!(allowed(Path::new("link")), None);
        }
    }
}
