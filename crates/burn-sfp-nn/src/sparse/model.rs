//! Weight formats of all sparse layers of a module at once.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData};

use super::format::WeightFormat;
use super::layer::check_rows;
use super::sparsity::{Sparsity, expose};
use super::weight::{convert, replace};
use crate::NnError;
use crate::recognize::{NnLayer, recognize};
use crate::walk::{ParamMapper, ParamPath, ParamVisitor, ShapeIds, map_params, visit_params};

/// The formats of the layers of a module that are sparse now, by module path.
///
/// # Errors
/// [`NnError::Layer`] where a layer was loaded from a record that does not hold together.
///
/// # Example
/// See [`with_formats`].
pub fn formats<M: Module>(module: &M) -> Result<BTreeMap<String, WeightFormat>, NnError> {
    Ok(Layers::of(module)?.formats)
}

/// Converts the sparse layers of a module: those in `formats`, by module path, to the format there, all others to dense.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Arc;
/// use burn::module::Module;
/// use burn::tensor::Device;
/// use burn_sfp_nn::sparse::{KernelPattern, WeightFormat, formats, with_formats};
/// use burn_sfp_nn::{SparseLinear, SparseLinearConfig};
///
/// #[derive(Module, Debug)]
/// struct Mlp { a: SparseLinear, b: SparseLinear }
///
/// let device = Device::flex();
/// let mlp = Mlp { a: SparseLinearConfig::new(4, 8).init(&device), b: SparseLinearConfig::new(8, 2).init(&device) };
/// let pattern = KernelPattern::from_fn(8, 4, |output, input| output / 2 == input);
/// let sparse = BTreeMap::from([("a".to_string(), WeightFormat::Kernels(Arc::new(pattern)))]);
///
/// let mlp = with_formats(mlp, &sparse)?;
/// assert_eq!((mlp.a.weight.dims(), mlp.b.weight.dims()), ([8, 1], [8, 2]));
/// assert_eq!(formats(&mlp)?, sparse);
/// let dense = with_formats(mlp, &BTreeMap::new())?;
/// assert_eq!(dense.a.weight.dims(), [4, 8]);
/// # Ok::<(), burn_sfp_nn::NnError>(())
/// ```
///
/// # Errors
/// [`NnError::Layer`] where a layer was loaded from a record that does not hold together, where a format does not fit its layer,
/// or where a path in `formats` is not that of a [`SparseConv2d`](crate::SparseConv2d) or [`SparseLinear`](crate::SparseLinear).
/// Whether blocks are set on a grouped convolution shows only in that layer's [`check`](crate::SparseConv2d::check).
pub fn with_formats<M: Module>(module: M, formats: &BTreeMap<String, WeightFormat>) -> Result<M, NnError> {
    let layers = Layers::of(&module)?;
    for (path, format) in formats {
        layers.check(path, format).map_err(|error| error.in_layer(path))?;
    }
    Ok(expose(|| map_params(module, &mut Convert { layers: &layers, to: formats, ids: ShapeIds::default() })))
}

/// Decodes the integers of sparse layers, by module path. Those of dense layers are left out.
///
/// # Errors
/// [`NnError::Layer`] where the integers describe no format.
pub(crate) fn formats_of_codes(codes: BTreeMap<String, Vec<i64>>) -> Result<BTreeMap<String, WeightFormat>, NnError> {
    let mut formats = BTreeMap::new();
    for (path, code) in codes {
        if let Some(format) = Sparsity::decode(&code).map_err(|error| error.in_layer(&path))? {
            formats.insert(path, format);
        }
    }
    Ok(formats)
}

/// The layers of a module that can be sparse.
struct Layers {
    /// Axis of the outputs in the dense weight, by the layer's path.
    output_axes: BTreeMap<String, usize>,
    /// Shapes of the weights.
    shapes: BTreeMap<String, Vec<usize>>,
    /// Formats of the weights that are sparse.
    formats: BTreeMap<String, WeightFormat>,
}

impl Layers {
    fn of<M: Module>(module: &M) -> Result<Self, NnError> {
        let output_axes = recognize(module).into_iter().filter_map(|(path, layer)| match layer {
            NnLayer::SparseConv2d => Some((path, 0)),
            NnLayer::SparseLinear => Some((path, 1)),
            _ => None,
        });
        let output_axes = output_axes.collect();
        let mut seek = Seek { output_axes: &output_axes, shapes: BTreeMap::new(), codes: BTreeMap::new() };
        visit_params(module, &mut seek);
        let (shapes, codes) = (seek.shapes, seek.codes);
        let mut formats = BTreeMap::new();
        for (path, code) in codes {
            let shape = shapes.get(&path).map(Vec::as_slice).unwrap_or_default();
            let format = Sparsity::decode(&code).and_then(|format| match format {
                Some(format) => check_rows(&format, shape).map(|()| Some(format)),
                None => Ok(None),
            });
            if let Some(format) = format.map_err(|error| error.in_layer(&path))? {
                formats.insert(path, format);
            }
        }
        Ok(Self { output_axes, shapes, formats })
    }

    /// Whether the layer can have this format.
    fn check(&self, path: &str, format: &WeightFormat) -> Result<(), NnError> {
        let (Some(&output_axis), Some(shape)) = (self.output_axes.get(path), self.shapes.get(path)) else {
            return Err(NnError::NoSparseLayer);
        };
        let size = match self.formats.get(path) {
            Some(now) => Some((now.outputs(), now.inputs())),
            None => shape.get(output_axis).copied().zip(shape.get(1 - output_axis).copied()),
        };
        let (outputs, inputs) = size.unwrap_or_default();
        format.fits(outputs, inputs)
    }
}

/// Reads shapes and codes of the layers that can be sparse.
struct Seek<'a> {
    output_axes: &'a BTreeMap<String, usize>,
    shapes: BTreeMap<String, Vec<usize>>,
    codes: BTreeMap<String, Vec<i64>>,
}

impl ParamVisitor for Seek<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        let (layer, name) = path.split();
        if name == "weight" && self.output_axes.contains_key(&layer) {
            self.shapes.insert(layer, param.dims().to_vec());
        }
    }

    fn int<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D, Int>>) {
        let (layer, name) = path.split();
        if name == "sparsity" && self.output_axes.contains_key(&layer) {
            self.codes.insert(layer, param.val().into_data().iter::<i64>().collect());
        }
    }
}

/// Converts weights and codes.
struct Convert<'a> {
    layers: &'a Layers,
    to: &'a BTreeMap<String, WeightFormat>,
    ids: ShapeIds,
}

impl<'a> Convert<'a> {
    /// Axis of the outputs, the format now and the new one, of the layer whose field of this name has this path; `None` where
    /// nothing changes.
    fn change(
        &self,
        path: ParamPath<'_>,
        field: &str,
    ) -> Option<(usize, Option<&'a WeightFormat>, Option<&'a WeightFormat>)> {
        let (layer, name) = path.split();
        let output_axis = *self.layers.output_axes.get(&layer).filter(|_| name == field)?;
        let (from, to) = (self.layers.formats.get(&layer), self.to.get(&layer));
        (from.is_some() || to.is_some()).then_some((output_axis, from, to))
    }
}

impl ParamMapper for Convert<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.change(path, "weight") {
            Some((output_axis, from, to)) => {
                replace(param, &mut self.ids, |weight| convert(weight, from, to, output_axis))
            }
            None => param,
        }
    }

    fn int<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let Some((_, _, to)) = self.change(path, "sparsity") else { return param };
        let code = Sparsity::encode(to);
        param.map(|old| {
            let mut shape = [1; D];
            shape[0] = code.len();
            Tensor::from_data(TensorData::new(code, shape), &old.device())
        })
    }
}
