//! How a cluster is reached: by a kubeconfig, or from within by the ServiceAccount's token.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use levee_api::diagnostic::Diagnostic;

/// How long a connection may take to be made. TLS and the answer have their own limits.
const CONNECT: Duration = Duration::from_secs(5);

/// Where a cluster is, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// `None`: we run in it.
    kubeconfig: Option<PathBuf>,
}

impl Access {
    /// By a kubeconfig's current context; without one, as a pod of the cluster.
    #[must_use]
    pub fn new(kubeconfig: Option<PathBuf>) -> Self {
        Access { kubeconfig }
    }

    /// A client. Files are read anew each time, so that renewed certificates and tokens count.
    ///
    /// # Errors
    /// What is wrong with them.
    pub async fn client(&self) -> Result<Client, String> {
        let mut config = match &self.kubeconfig {
            Some(path) => {
                let kubeconfig = load(path)?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| chain(&error))?
            }
            None => Config::incluster().map_err(|error| chain(&error))?,
        };
        config.connect_timeout = Some(CONNECT);
        // Who waits, and for how long, is decided in one place: `follow`.
        config.default_retry = false;
        Client::try_from(config).map_err(|error| chain(&error))
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kubeconfig {
            Some(path) => write!(f, "kubernetes {}", path.display()),
            None => f.write_str("kubernetes"),
        }
    }
}

fn load(path: &Path) -> Result<Kubeconfig, String> {
    Kubeconfig::read_from(path).map_err(|error| chain(&error))
}

/// Whether a kubeconfig can be read, without asking the server that it names.
///
/// # Errors
/// What is wrong with it.
pub fn check(kubeconfig: &Path) -> Result<(), Diagnostic> {
    load(kubeconfig).map(drop).map_err(|why| {
        Diagnostic::new(kubeconfig.display().to_string(), format!("this kubeconfig cannot be read: {why}"))
            .help("try it with `kubectl --kubeconfig FILE get services`")
    })
}

/// An error with all its causes, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
