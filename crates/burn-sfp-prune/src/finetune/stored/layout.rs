//! How a sample is laid out in bytes: the outputs of the frozen part one after another, then the teacher's logits, then the label.

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData, bf16, f16};
use burn_sfp_graph::{FrozenOutput, FrozenOutputs, FrozenTensor};
use serde::{Deserialize, Serialize};

use super::super::source::Example;
use super::config::StorePrecision;
use crate::PruneError;

/// Bytes of a label.
const LABEL: usize = 4;

/// One output of the frozen part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Column {
    pub shape: Vec<usize>,
    /// Its type in the model.
    pub dtype: DType,
}

impl Column {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The layout of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Layout {
    pub columns: Vec<Column>,
    pub precision: StorePrecision,
    /// Logits of the teacher, 0 where there is none.
    pub teacher: usize,
}

impl Layout {
    pub fn new(outputs: &[FrozenOutput], precision: StorePrecision, teacher: usize) -> Self {
        let column = |output: &FrozenOutput| Column { shape: output.shape.clone(), dtype: output.dtype };
        Self { columns: outputs.iter().map(column).collect(), precision, teacher }
    }

    fn column_bytes(&self, column: &Column) -> usize {
        let element = if column.dtype.is_float() { self.precision.bytes() } else { column.dtype.size() };
        column.elements() * element
    }

    /// Bytes of a sample.
    pub fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(|column| self.column_bytes(column)).sum();
        columns + self.teacher * 4 + LABEL
    }

    /// Appends the samples of a batch.
    pub fn encode(
        &self,
        outputs: FrozenOutputs,
        teacher: Option<Tensor<2>>,
        labels: &[usize],
        into: &mut Vec<u8>,
    ) -> Result<(), PruneError> {
        let mut parts: Vec<(Vec<u8>, usize)> = Vec::new();
        for (column, output) in self.columns.iter().zip(outputs.0) {
            let bytes = match output {
                FrozenTensor::Float(tensor) => self.float_bytes(tensor.into_data())?,
                FrozenTensor::Int(tensor) => tensor.into_data().convert_dtype(column.dtype).as_bytes().to_vec(),
                FrozenTensor::Bool(tensor) => tensor.into_data().convert_dtype(column.dtype).as_bytes().to_vec(),
            };
            parts.push((bytes, self.column_bytes(column)));
        }
        if let Some(teacher) = teacher {
            let logits = teacher.into_data();
            let bytes = logits.iter::<f32>().flat_map(f32::to_le_bytes).collect();
            parts.push((bytes, self.teacher * 4));
        }
        into.reserve(labels.len() * self.bytes());
        for (sample, &label) in labels.iter().enumerate() {
            for (bytes, each) in &parts {
                into.extend_from_slice(bytes.get(sample * each..(sample + 1) * each).unwrap_or_default());
            }
            into.extend_from_slice(&(label as u32).to_le_bytes());
        }
        Ok(())
    }

    fn float_bytes(&self, data: TensorData) -> Result<Vec<u8>, PruneError> {
        let data = data.convert_dtype(DType::F32);
        let values = data.as_bytes().as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes));
        match self.precision {
            StorePrecision::Float32 => Ok(values.flat_map(f32::to_le_bytes).collect()),
            StorePrecision::BFloat16 => Ok(values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect()),
            StorePrecision::Float16 => {
                let mut bytes = Vec::with_capacity(values.len() * 2);
                for value in values {
                    let half = f16::from_f32(value);
                    if half.is_infinite() && value.is_finite() {
                        return Err(PruneError::NotInHalf { value });
                    }
                    bytes.extend(half.to_le_bytes());
                }
                Ok(bytes)
            }
        }
    }

    /// Makes a batch of samples, each given by its bytes.
    pub fn decode(&self, samples: &[&[u8]], device: &Device) -> Example<FrozenOutputs> {
        let mut at = 0;
        let mut outputs = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let bytes = self.column_bytes(column);
            let parts = samples.iter().map(|sample| &sample[at..at + bytes]);
            let shape = [samples.len(), column.elements()];
            outputs.push(match column.dtype {
                dtype if dtype.is_float() => {
                    let data = TensorData::new(self.floats(parts, shape[0] * shape[1]), shape);
                    FrozenTensor::Float(Tensor::from_data(data, (device, dtype)))
                }
                dtype => {
                    let joined: Vec<u8> = parts.flatten().copied().collect();
                    let data = TensorData::from_bytes_vec(joined, shape, dtype);
                    match dtype {
                        DType::Bool(_) => FrozenTensor::Bool(Tensor::<2, Bool>::from_data(data, (device, dtype))),
                        _ => FrozenTensor::Int(Tensor::<2, Int>::from_data(data, (device, dtype))),
                    }
                }
            });
            at += bytes;
        }
        let teacher = (self.teacher > 0).then(|| {
            let parts = samples.iter().map(|sample| &sample[at..at + self.teacher * 4]);
            let values = parts.flat_map(singles).collect::<Vec<f32>>();
            Tensor::from_data(TensorData::new(values, [samples.len(), self.teacher]), (device, DType::F32))
        });
        let labels = samples.iter().map(|sample| self.label(sample)).collect();
        Example { input: FrozenOutputs(outputs), labels, teacher }
    }

    fn floats<'a>(&self, parts: impl Iterator<Item = &'a [u8]>, count: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(count);
        for part in parts {
            match self.precision {
                StorePrecision::Float32 => values.extend(singles(part)),
                StorePrecision::Float16 => values.extend(pairs(part).map(|bytes| f16::from_le_bytes(bytes).to_f32())),
                StorePrecision::BFloat16 => values.extend(pairs(part).map(|bytes| bf16::from_le_bytes(bytes).to_f32())),
            }
        }
        values
    }

    /// The label of a sample.
    pub fn label(&self, sample: &[u8]) -> usize {
        let bytes = sample.last_chunk::<LABEL>().copied().unwrap_or_default();
        u32::from_le_bytes(bytes) as usize
    }
}

fn singles(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = [u8; 2]> {
    bytes.as_chunks::<2>().0.iter().copied()
}
