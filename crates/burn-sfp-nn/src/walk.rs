//! Visiting and mapping the parameters of a module together with their paths.
//!
//! Burn's [`ModuleVisitor`] and [`ModuleMapper`] are told one by one which modules they enter and leave. The traits here receive the
//! whole path with each parameter, so that an implementation keeps no path itself.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Bool, Int, Tensor};

/// Path of a parameter in its module.
///
/// ```
/// use burn::module::{Module, Param};
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};
///
/// #[derive(Module, Debug)]
/// struct Mlp { layers: Vec<Linear> }
///
/// struct Check;
///
/// impl ParamVisitor for Check {
///     fn float<const D: usize>(&mut self, path: ParamPath<'_>, _param: &Param<Tensor<D>>) {
///         let (layer, name) = path.split();
///         assert_eq!(layer, "layers.0");
///         assert_eq!(path.name(), name);
///         assert_eq!(path.join(), format!("layers.0.{name}"));
///         assert_eq!(path.holders().collect::<Vec<_>>(), ["Mlp", "Linear"]);
///     }
/// }
/// let mlp = Mlp { layers: vec![LinearConfig::new(2, 3).init(&Device::flex())] };
/// visit_params(&mlp, &mut Check);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ParamPath<'a> {
    names: &'a [String],
    containers: &'a [String],
}

impl<'a> ParamPath<'a> {
    /// The whole path, for example `convs.3.weight`.
    pub fn join(&self) -> String {
        self.names.join(".")
    }

    /// Path of the layer that holds the parameter, for example `convs.3`, and the parameter's name in it.
    pub fn split(&self) -> (String, &'a str) {
        match self.names.split_last() {
            Some((name, layer)) => (layer.join("."), name),
            None => (String::new(), ""),
        }
    }

    /// Name of the parameter in its layer, for example `weight`.
    pub fn name(&self) -> &'a str {
        self.names.last().map_or("", String::as_str)
    }

    /// Names of the structs and enums around the parameter, the outermost first.
    pub fn holders(&self) -> impl Iterator<Item = &'a str> {
        self.containers.iter().filter_map(|name| name.strip_prefix("Struct:").or_else(|| name.strip_prefix("Enum:")))
    }
}

/// A [`ModuleVisitor`] that receives the path of each parameter. [`visit_params`] runs it.
pub trait ParamVisitor {
    /// Visits a float parameter. By default nothing is done.
    fn float<const D: usize>(&mut self, _path: ParamPath<'_>, _param: &Param<Tensor<D>>) {}
    /// Visits an integer parameter. By default nothing is done.
    fn int<const D: usize>(&mut self, _path: ParamPath<'_>, _param: &Param<Tensor<D, Int>>) {}
    /// Visits a boolean parameter. By default nothing is done.
    fn bool<const D: usize>(&mut self, _path: ParamPath<'_>, _param: &Param<Tensor<D, Bool>>) {}
}

/// A [`ModuleMapper`] that receives the path of each parameter. [`map_params`] runs it.
pub trait ParamMapper {
    /// Maps a float parameter. By default it stays as it is.
    fn float<const D: usize>(&mut self, _path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param
    }
    /// Maps an integer parameter. By default it stays as it is.
    fn int<const D: usize>(&mut self, _path: ParamPath<'_>, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        param
    }
    /// Maps a boolean parameter. By default it stays as it is.
    fn bool<const D: usize>(&mut self, _path: ParamPath<'_>, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        param
    }
}

/// Visits every parameter of a module, in the order of its fields.
///
/// ```
/// use burn::module::Param;
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};
///
/// struct Names(Vec<String>);
///
/// impl ParamVisitor for Names {
///     fn float<const D: usize>(&mut self, path: ParamPath<'_>, _param: &Param<Tensor<D>>) {
///         self.0.push(path.join());
///     }
/// }
/// let mut names = Names(Vec::new());
/// visit_params(&LinearConfig::new(2, 3).init(&Device::flex()), &mut names);
/// assert_eq!(names.0, ["weight", "bias"]);
/// ```
pub fn visit_params<M: Module, V: ParamVisitor>(module: &M, visitor: &mut V) {
    module.visit(&mut Walk::over(visitor));
}

/// Maps every parameter of a module; flags stay as they are.
///
/// ```
/// use burn::module::Param;
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};
///
/// struct ZeroBias;
///
/// impl ParamMapper for ZeroBias {
///     fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
///         if path.name() == "bias" { param.map(|bias| bias.zeros_like()) } else { param }
///     }
/// }
/// let layer = map_params(LinearConfig::new(2, 3).init(&Device::flex()), &mut ZeroBias);
/// assert_eq!(layer.bias.unwrap().val().abs().sum().into_scalar::<f32>(), 0.0);
/// ```
pub fn map_params<M: Module, V: ParamMapper>(module: M, mapper: &mut V) -> M {
    module.map(&mut Walk::over(mapper))
}

/// The ids of parameters whose shapes change.
///
/// Optimisers keep momenta by the id of the parameter, and apply them whatever its shape. So a parameter that changes its shape gets a
/// new id; one that keeps it keeps its id too. Parameters that shared an id share the new one.
///
/// ```
/// use burn::module::Param;
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_nn::walk::ShapeIds;
///
/// let weight = Param::from_tensor(Tensor::<2>::ones([4, 3], &Device::flex()));
/// let (id, tied) = (weight.id, weight.clone());
/// let mut ids = ShapeIds::default();
/// let scaled = ids.map(weight, |weight| weight * 2.0);
/// assert_eq!(scaled.id, id);
/// let [narrow, tied] = [scaled, tied].map(|weight| ids.map(weight, |weight| weight.slice([0..2, 0..3])));
/// assert!(narrow.id != id && narrow.id == tied.id);
/// ```
#[derive(Debug, Default)]
pub struct ShapeIds(HashMap<(ParamId, Vec<usize>), ParamId>);

impl ShapeIds {
    /// Maps a parameter's value. Its id is new if the shape is; whether it is trained stays.
    pub fn map<const D: usize>(
        &mut self,
        param: Param<Tensor<D>>,
        change: impl FnOnce(Tensor<D>) -> Tensor<D>,
    ) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let before = value.dims();
        let value = change(value);
        let shape = value.dims();
        let id = if shape == before { id } else { *self.0.entry((id, shape.to_vec())).or_default() };
        Param::from_mapped_value(id, value, mapper)
    }
}

/// Keeps the path on behalf of a visitor or mapper.
struct Walk<'a, V> {
    names: Vec<String>,
    containers: Vec<String>,
    inner: &'a mut V,
}

impl<'a, V> Walk<'a, V> {
    fn over(inner: &'a mut V) -> Self {
        Self { names: Vec::new(), containers: Vec::new(), inner }
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_string());
        self.containers.push(container.to_string());
    }

    fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    fn here(&mut self) -> (ParamPath<'_>, &mut V) {
        (ParamPath { names: &self.names, containers: &self.containers }, self.inner)
    }
}

impl<V: ParamVisitor> ModuleVisitor for Walk<'_, V> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (path, inner) = self.here();
        inner.float(path, param);
    }
    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let (path, inner) = self.here();
        inner.int(path, param);
    }
    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let (path, inner) = self.here();
        inner.bool(path, param);
    }
}

impl<V: ParamMapper> ModuleMapper for Walk<'_, V> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (path, inner) = self.here();
        inner.float(path, param)
    }
    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let (path, inner) = self.here();
        inner.int(path, param)
    }
    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        let (path, inner) = self.here();
        inner.bool(path, param)
    }
}
