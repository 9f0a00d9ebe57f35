//! A plan as the bytes of a tensor: JSON, compressed with gzip, because the lists of indices would be a tenth of a small model's file.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::PrunePlan;

/// Longest JSON that is read. A plan of 20,000 layers has 30 MB.
const LONGEST: u64 = 1 << 30;

/// Compresses a plan.
pub(super) fn encode(plan: &PrunePlan) -> Result<Vec<u8>, String> {
    let json = serde_json::to_vec(plan).map_err(|error| error.to_string())?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&json).and_then(|()| encoder.finish()).map_err(|error| error.to_string())
}

/// Reads what [`encode`] made; the plan is not checked.
pub(super) fn decode(bytes: &[u8]) -> Result<PrunePlan, String> {
    let mut json = Vec::new();
    GzDecoder::new(bytes).take(LONGEST).read_to_end(&mut json).map_err(|error| format!("its plan: {error}"))?;
    serde_json::from_slice(&json).map_err(|error| format!("its plan: {error}"))
}
