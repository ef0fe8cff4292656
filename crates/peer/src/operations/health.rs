use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::RwLock;

type Check =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The health checks of a node, by component. Cheap to clone.
#[derive(Clone, Default)]
pub struct HealthChecks(Arc<RwLock<BTreeMap<String, Check>>>);

/// A component has a check already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is already registered")]
pub struct AlreadyRegistered(pub String);

/// A component that is not well.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FailedCheck {
    /// Its name.
    pub component: String,
    /// What it says.
    pub reason: String,
}

impl HealthChecks {
    /// Adds the check of a component. It is run for each request to `/healthz`, all checks
    /// together within 30 seconds, and says what is wrong.
    pub fn register<F>(
        &self,
        component: &str,
        check: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<(), AlreadyRegistered>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let mut checks = self.0.write();
        if checks.contains_key(component) {
            return Err(AlreadyRegistered(component.to_owned()));
        }
        checks.insert(component.to_owned(), Arc::new(move || Box::pin(check())));
        Ok(())
    }

    /// Removes the check of a component.
    pub fn deregister(&self, component: &str) {
        self.0.write().remove(component);
    }

    /// Runs all checks, one after the other, and returns those that failed.
    pub async fn run(&self) -> Vec<FailedCheck> {
        let checks: Vec<_> = self
            .0
            .read()
            .iter()
            .map(|(name, check)| (name.clone(), check.clone()))
            .collect();
        let mut failed = Vec::new();
        for (component, check) in checks {
            if let Err(reason) = check().await {
                failed.push(FailedCheck { component, reason });
            }
        }
        failed
    }
}

impl std::fmt::Debug for HealthChecks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.read().keys()).finish()
    }
}
