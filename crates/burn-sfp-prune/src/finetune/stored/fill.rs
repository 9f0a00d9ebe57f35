//! The frozen part, run over all copies.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;

use burn::tensor::{Bool, Device, Int, Tensor};
use burn_sfp_core::checks::{check_batch, check_shapes};
use burn_sfp_core::labels::check_range;
use burn_sfp_core::{Batch, DataError, Progress, SfpModule};
use burn_sfp_graph::file::digest;
use burn_sfp_graph::{FileError, Fingerprint, FrozenOutputs, FrozenPart, InputMapper, ModuleInput, TrainingGraph};

use super::super::freeze::Activity;
use super::super::recorded::record;
use super::super::source::Example;
use super::super::teacher::TeacherPass;
use super::check::check;
use super::config::StoreConfig;
use super::head::Contents;
use super::layout::Layout;
use super::order::epoch_order;
use super::store::Store;
use super::tail::Tail;
use crate::PruneError;

/// What a store is made of.
pub(in super::super) struct Copies<'a, M: SfpModule> {
    pub config: &'a StoreConfig,
    /// In training mode, with frozen what is frozen.
    pub model: &'a M,
    pub teacher: Option<&'a M>,
    /// Samples of a copy.
    pub samples: usize,
    pub progress: &'a dyn Progress,
}

/// A store, and how to train on it.
pub(in super::super) struct Filled<M: SfpModule> {
    store: Store,
    pub tail: Tail<M>,
    batch_size: usize,
    seed: u64,
    device: Device,
}

impl<M: SfpModule> Filled<M> {
    /// The batches of an epoch, from one of them on.
    pub fn epoch(&self, number: usize, from: usize) -> impl Iterator<Item = Result<Example<FrozenOutputs>, DataError>> {
        let Contents { samples, copies, .. } = self.store.contents;
        let (order, size) = (epoch_order(samples, self.seed, number), self.batch_size);
        (from..samples.div_ceil(size)).map(move |batch| {
            let end = samples.min((batch + 1) * size);
            Ok(self.store.batch(number % copies, &order[batch * size..end], &self.device))
        })
    }
}

/// Opens or makes a store. `copy` starts a pass over an augmented copy of the data, given with its number; `None` where the work was
/// cancelled.
pub(in super::super) fn fill<M, It>(
    of: &Copies<'_, M>,
    mut copy: impl FnMut(usize) -> It,
) -> Result<Option<Filled<M>>, PruneError>
where
    M: SfpModule,
    It: Iterator<Item = Result<Batch<M::Inputs>, DataError>>,
{
    let Copies { config, model, teacher, samples, .. } = *of;
    config.check()?;
    let device = model.devices().into_iter().next().unwrap_or_default().without_autodiff();
    let Some(first) = copy(0).next() else { return Err(length(0, 0, samples)) };
    let first = first.map_err(|source| PruneError::Data { batch: 0, source })?;
    check_batch(0, &first)?;
    let first = Batch { input: first.input.to_device(&device), labels: first.labels };
    let learning: BTreeSet<String> = Activity::of(model).learning().into_iter().map(str::to_string).collect();
    let graph = TrainingGraph::capture(model, &first.input, M::logits, &learning)?;
    if !graph.learns() {
        let why = "the logits depend on no parameter that learns: set `all_layers`, or train the layers that the plan touches yourself";
        return Err(PruneError::NothingTrained { why: why.into() });
    }
    let tail = Tail::new(&graph, first.input.clone(), learning, device.clone());
    let mut frozen = graph.frozen_part(&device)?;
    let training = device.clone().autodiff();
    let classes = check(model, &graph, &mut frozen, &tail, (&first.input, &first.labels), &training)?;
    let layout = Layout::new(graph.outputs(), config.precision, teacher.map_or(0, |_| classes));
    let contents = Contents {
        model: graph.fingerprint(),
        teacher: teacher.map_or(Ok(String::new()), |teacher| {
            Fingerprint::of(teacher).map(|found| format!("{:08x}", digest(&found)))
        })?,
        data: data_key(&first),
        name: config.name.clone(),
        layout,
        copies: config.copies,
        samples,
    };
    let batch_size = config.batch_size.unwrap_or(first.labels.len()).max(1);
    let mut filling =
        Filling { of, frozen: HashMap::from([(graph.batch(), frozen)]), classes, device: &device, is_cancelled: false };
    let layout = contents.layout.clone();
    let opened = Store::open_or_fill(config, contents, &mut |into| filling.all(&mut copy, &layout, into));
    match opened {
        Err(_) if filling.is_cancelled => Ok(None),
        opened => Ok(Some(Filled { store: opened?, tail, batch_size, seed: config.seed, device: device.clone() })),
    }
}

fn length(epoch: usize, found: usize, expected: usize) -> PruneError {
    PruneError::PassLength { epoch, found, expected }
}

/// Runs the frozen part and the teacher.
struct Filling<'a, M: SfpModule> {
    of: &'a Copies<'a, M>,
    /// By the number of samples.
    frozen: HashMap<usize, FrozenPart>,
    classes: usize,
    device: &'a Device,
    is_cancelled: bool,
}

impl<M: SfpModule> Filling<'_, M> {
    fn all<It>(
        &mut self,
        mut copy: impl FnMut(usize) -> It,
        layout: &Layout,
        into: &mut dyn Write,
    ) -> Result<(), PruneError>
    where
        It: Iterator<Item = Result<Batch<M::Inputs>, DataError>>,
    {
        let Copies { config, samples, progress, .. } = *self.of;
        progress.start("frozen layers", Some(config.copies * samples));
        let (mut position, mut bytes) = (0, Vec::new());
        let mut shapes: Option<Vec<Vec<usize>>> = None;
        let teacher = self.of.teacher.map(|teacher| TeacherPass::new(teacher, self.device));
        for number in 0..config.copies {
            let mut seen = 0;
            for batch in copy(number) {
                let batch = batch.map_err(|source| PruneError::Data { batch: position, source })?;
                check_batch(position, &batch)?;
                check_shapes(position, &batch.input, shapes.get_or_insert_with(|| batch.input.shapes()))?;
                check_range(position, &batch.labels, self.classes)?;
                seen += batch.labels.len();
                if seen > samples {
                    return Err(length(number, seen, samples));
                }
                bytes.clear();
                self.batch(batch, position, teacher.as_ref(), layout, &mut bytes)?;
                into.write_all(&bytes).map_err(|source| FileError::Io {
                    path: config.file.clone().or(config.spill.clone()).unwrap_or_default(),
                    action: "written",
                    source,
                })?;
                position += 1;
                if progress.is_cancelled() {
                    self.is_cancelled = true;
                    return Err(PruneError::NothingTrained { why: "it was cancelled".into() });
                }
            }
            if seen != samples {
                return Err(length(number, seen, samples));
            }
        }
        progress.finish();
        Ok(())
    }

    fn batch(
        &mut self,
        batch: Batch<M::Inputs>,
        position: usize,
        teacher: Option<&TeacherPass<M>>,
        layout: &Layout,
        bytes: &mut Vec<u8>,
    ) -> Result<(), PruneError> {
        let Batch { input, labels } = batch;
        let input = input.to_device(self.device);
        let model = self.of.model;
        let frozen = match self.frozen.entry(labels.len()) {
            std::collections::hash_map::Entry::Occupied(part) => part.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(record(model, &input)?.frozen_part(self.device)?)
            }
        };
        let outputs = frozen.run(input.clone())?;
        let logits = teacher.map(|teacher| teacher.logits(&input, position)).transpose()?;
        if let Some(logits) = logits.as_ref().filter(|logits| logits.dims() != [labels.len(), self.classes]) {
            return Err(PruneError::OtherTeacher { found: logits.dims(), expected: [labels.len(), self.classes] });
        }
        layout.encode(outputs, logits, &labels, bytes)?;
        self.of.progress.advance(labels.len());
        Ok(())
    }
}

/// A checksum of a batch.
fn data_key<I: ModuleInput>(batch: &Batch<I>) -> String {
    struct Sum(crc32fast::Hasher);
    impl InputMapper for Sum {
        fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
            self.0.update(tensor.clone().into_data().as_bytes());
            tensor
        }
        fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
            self.0.update(tensor.clone().into_data().as_bytes());
            tensor
        }
        fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
            self.0.update(tensor.clone().into_data().as_bytes());
            tensor
        }
    }
    let mut sum = Sum(crc32fast::Hasher::new());
    let _ = batch.input.clone().map_tensors(&mut sum);
    for label in &batch.labels {
        sum.0.update(&(*label as u64).to_le_bytes());
    }
    format!("{:08x}", sum.0.finalize())
}
