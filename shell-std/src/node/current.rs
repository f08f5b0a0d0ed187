//! The settings that are in force, which an operator may change while the node runs.

use crate::config::Settings;
use std::sync::{Arc, PoisonError, RwLock};

/// The settings in force; cheap to read.
#[derive(Debug)]
pub(crate) struct Current(RwLock<Arc<Settings>>);

impl Current {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self(RwLock::new(settings))
    }

    pub(crate) fn get(&self) -> Arc<Settings> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, settings: Arc<Settings>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }
}
