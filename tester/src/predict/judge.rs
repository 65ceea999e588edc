//! Collects the mismatches between a prediction and an outcome.

use std::fmt::{self, Debug};

use crate::model::start::Prediction;
use crate::report::AccessMode;

/// A field in which the outcome differs from the prediction.
#[derive(Debug)]
pub struct Mismatch {
    pub field: String,
    pub predicted: String,
    pub observed: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            predicted,
            observed,
        } = self;
        write!(
            f,
            "{field}\n    predicted {predicted}\n    observed  {observed}"
        )
    }
}

/// Collects the mismatches.
#[derive(Default)]
pub(crate) struct Judge(Vec<Mismatch>);

impl Judge {
    pub(super) fn into_mismatches(self) -> Vec<Mismatch> {
        self.0
    }

    pub(crate) fn compare<T: PartialEq + Debug>(
        &mut self,
        field: impl Into<String>,
        must: T,
        is: T,
    ) {
        if must != is {
            self.0.push(Mismatch {
                field: field.into(),
                predicted: format!("{must:?}"),
                observed: format!("{is:?}"),
            });
        }
    }

    /// Skips a value that the platform cannot observe. Linux observes all of them.
    pub(crate) fn compare_if_observed<T: PartialEq + Debug>(
        &mut self,
        field: impl Into<String>,
        must: &Option<T>,
        is: &Option<T>,
    ) {
        if cfg!(target_os = "linux") || must.is_some() && is.is_some() {
            self.compare(field, must, is);
        }
    }
}

/// Compares all that was written to a file with the predicted texts.
pub(crate) fn judge_text(
    judge: &mut Judge,
    field: String,
    prediction: &Prediction,
    identity: (u64, u64),
    text: &str,
) {
    let must: Vec<_> = (prediction.writes.iter())
        .filter(|(to, _)| {
            to.device.zip(to.inode) == Some(identity) && to.access != AccessMode::Read
        })
        .map(|(_, written)| written)
        .collect();
    let mut left = must
        .iter()
        .try_fold(text, |text, written| written.strip_from(text));
    if left != Some("") {
        left.get_or_insert(text);
        judge.0.push(Mismatch {
            field,
            predicted: format!("{must:?}"),
            observed: format!("{text:?}"),
        });
    }
}
