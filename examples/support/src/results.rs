//! A JSON file of measured rows, a list for each kind of measurement.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use burn_sfp::core::DataError;
use burn_sfp::graph::file::replace;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Returns the rows under a key; none if the file or the key does not exist.
///
/// # Errors
/// Those of reading the file, and a row that does not fit the type.
pub fn read_rows<T: DeserializeOwned>(path: &Path, key: &str) -> Result<Vec<T>, DataError> {
    let rows = read(path)?.remove(key);
    Ok(rows.map_or(Ok(Vec::new()), serde_json::from_value)?)
}

/// Replaces the rows under a key that meet a condition and adds the new ones behind the others. Other keys stay as they are, and the file is
/// replaced whole.
///
/// # Errors
/// Those of reading and writing the file.
pub fn write_rows<T: Serialize>(
    path: &Path,
    key: &str,
    rows: &[T],
    is_replaced: impl Fn(&Value) -> bool,
) -> Result<(), DataError> {
    let mut all = read(path)?;
    let mut kept = match all.remove(key) {
        None => Vec::new(),
        Some(Value::Array(kept)) => kept,
        Some(other) => return Err(format!("`{key}` in {} is no list: {other}", path.display()).into()),
    };
    kept.retain(|row| !is_replaced(row));
    for row in rows {
        kept.push(serde_json::to_value(row)?);
    }
    all.insert(key.into(), Value::Array(kept));
    let text = serde_json::to_string_pretty(&all)? + "\n";
    Ok(replace(path, |file| file.write_all(text.as_bytes()))?)
}

fn read(path: &Path) -> Result<Map<String, Value>, DataError> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_rows_and_keys_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        assert!(read_rows::<u32>(&path, "numbers").unwrap().is_empty());
        write_rows(&path, "numbers", &[1, 2, 3], |_| false).unwrap();
        write_rows(&path, "words", &["a"], |_| false).unwrap();
        write_rows(&path, "numbers", &[7], |row| row.as_u64() == Some(2)).unwrap();
        assert_eq!(read_rows::<u32>(&path, "numbers").unwrap(), [1, 3, 7]);
        assert_eq!(read_rows::<String>(&path, "words").unwrap(), ["a"]);
        assert!(read_rows::<u32>(&path, "words").is_err());
        fs::write(&path, r#"{"numbers": 3}"#).unwrap();
        assert!(write_rows(&path, "numbers", &[1], |_| true).is_err());
    }
}
