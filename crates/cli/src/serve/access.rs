//! Who may use the server: address, API keys, origins, folders of adapters

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use ::serve::http::{ApiKeys, ServerOptions};

use crate::error::Error;
use crate::failure::{ErrorContext, Result};

/// Environment variables with keys, in the form of `--api-key-file`.
const KEY_VARIABLES: [&str; 2] = ["LLAMA_ADAPTER_API_KEY", "LLAMA_ADAPTER_API_KEYS"];

/// Address and access.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// Address and port; port 0 chooses a free one. Addresses that other machines can reach need a key.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: String,
    /// File of API keys, one a line: KEY, or sha256:HEX with the SHA-256 of a key; after `admin ` for an
    /// administrator's. Keys may also be in LLAMA_ADAPTER_API_KEYS. Clients send `Authorization: Bearer
    /// KEY`.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Listen on any address without a key: everyone who reaches it may use it.
    #[arg(long)]
    insecure: bool,
    /// Folder from which administrators may load adapters while the server runs (POST /admin/adapters);
    /// repeatable.
    #[arg(long, value_name = "DIR")]
    pub adapter_root: Vec<PathBuf>,
    /// Origin of web pages that may use the API, such as https://example.org, or *; repeatable.
    #[arg(long, value_name = "ORIGIN")]
    pub cors_origin: Vec<String>,
    /// No chat page.
    #[arg(long)]
    pub no_page: bool,
}

impl AccessArgs {
    /// The keys of the file and the environment.
    pub fn keys(&self) -> Result<ApiKeys> {
        let mut keys = ApiKeys::default();
        if let Some(path) = &self.api_key_file {
            let text = std::fs::read_to_string(path).map_err(Error::file(path, "read"))?;
            let found = ApiKeys::parse(&text).with_context(|| path.display().to_string())?;
            if found.is_empty() {
                let message = format!("{}: no API key", path.display());
                let hint =
                    "put a key on a line of its own, such as the output of `openssl rand -hex 32`";
                return Err(Error::usage_with_hint(message, hint).into());
            }
            keys.extend(found);
        }
        for name in KEY_VARIABLES {
            if let Ok(text) = std::env::var(name) {
                keys.extend(ApiKeys::parse(&text).with_context(|| name.to_owned())?);
            }
        }
        Ok(keys)
    }

    /// The address of `--listen`, if it needs no key or there is one.
    pub fn address(&self, options: &ServerOptions) -> Result<SocketAddr, Error> {
        let wrong = || {
            Error::usage_with_hint(
                format!("`{}` is not an address to listen on", self.listen.escape_debug()),
                "use ADDRESS:PORT, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080",
            )
        };
        let mut addresses = self.listen.to_socket_addrs().map_err(|_| wrong())?;
        let address = addresses.next().ok_or_else(wrong)?;
        if !address.ip().is_loopback() && options.keys.is_empty() && !self.insecure {
            return Err(Error::usage_with_hint(
                format!("without an API key, everyone who reaches {address} could use the server"),
                "pass --api-key-file or set LLAMA_ADAPTER_API_KEYS; --insecure listens without a key",
            ));
        }
        Ok(address)
    }

    /// Who may use the server.
    pub fn describe(address: SocketAddr, keys: &ApiKeys) -> String {
        match (keys.is_empty(), address.ip().is_loopback()) {
            (false, _) => "with an API key".into(),
            (true, true) => "everyone on this machine, without a key".into(),
            (true, false) => format!("everyone who reaches {address}, without a key"),
        }
    }
}
