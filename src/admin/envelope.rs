//! The shape in which `postern api` answers: that of cPanel's UAPI, so that its callers feel at home.

use crate::admin::Outcome;
use crate::error::{Error, Result};
use serde_json::{Value, json};

/// `{"status":1,"data":…,"errors":null,"warnings":null,"messages":null,"metadata":{}}`; a failure has status
/// 0, its sentence in `errors` and a stable code in `metadata`; where a part failed and the rest was done, the
/// code is `incomplete`, and where nothing was done for that `refused`.
pub fn envelope(outcome: &Result<Outcome>) -> Value {
    let list = |sentences: &[String]| if sentences.is_empty() { Value::Null } else { json!(sentences) };
    match outcome {
        Ok(outcome) => json!({
            "status": i32::from(outcome.failures.is_empty()),
            "data": outcome.data,
            "errors": list(&outcome.failures),
            "warnings": list(&outcome.warnings),
            "messages": list(&outcome.messages),
            "metadata": metadata(outcome),
        }),
        Err(error) => failure(error),
    }
}

fn metadata(outcome: &Outcome) -> Value {
    match (outcome.failures.is_empty(), outcome.refused) {
        (true, _) => json!({}),
        (false, true) => json!({ "code": "refused" }),
        (false, false) => json!({ "code": "incomplete" }),
    }
}

fn failure(error: &Error) -> Value {
    json!({
        "status": 0,
        "data": null,
        "errors": [error.to_string()],
        "warnings": null,
        "messages": null,
        "metadata": { "code": error.code() },
    })
}
