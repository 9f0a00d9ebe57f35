//! Inputs and outputs of any module in the form that burn-onnx takes them in: lists of tensors, one for each kind and rank.
//!
//! burn-onnx takes tensors, `Vec`s and tuples, and no other types may implement its traits. What a module takes and returns is put into
//! such lists tensor by tensor, and taken out again, so that structs, arrays and options can be exported too.

use std::any::Any;

use burn::tensor::kind::Basic;
use burn::tensor::{Bool, Float, Int, Tensor};
use burn_sfp_graph::{InputMapper, ModuleInput};

type Low<K> = (Vec<Tensor<1, K>>, Vec<Tensor<2, K>>, Vec<Tensor<3, K>>, Vec<Tensor<4, K>>);
type High<K> = (Vec<Tensor<5, K>>, Vec<Tensor<6, K>>, Vec<Tensor<7, K>>, Vec<Tensor<8, K>>);
type Ranks<K> = (Low<K>, High<K>);

/// Tensors by kind and rank.
pub(super) type Lists = (Ranks<Float>, Ranks<Int>, Ranks<Bool>);

/// Most axes of a tensor.
const MOST_AXES: usize = 8;

/// Tensors in lists, and where each of them went.
#[derive(Clone, Default)]
pub(super) struct Flat {
    pub lists: Lists,
    /// The list of each tensor, in the module's order.
    places: Vec<usize>,
    /// Axes of a tensor that has more than there are lists for.
    pub too_many_axes: Option<usize>,
}

impl Flat {
    /// Puts every tensor into its list, without autodiff.
    pub fn of<I: ModuleInput>(tensors: I) -> Self {
        let mut flat = Self::default();
        let _ = tensors.map_tensors(&mut flat);
        flat
    }

    /// Position, among all tensors in the order of the lists, of each tensor of the module.
    pub fn order(&self) -> Vec<usize> {
        let mut listed: Vec<usize> = (0..self.places.len()).collect();
        listed.sort_by_key(|&tensor| self.places[tensor]);
        let mut order = vec![0; listed.len()];
        for (position, tensor) in listed.into_iter().enumerate() {
            order[tensor] = position;
        }
        order
    }

    fn put<const D: usize, K: Basic + 'static>(&mut self, kind: usize, tensor: Tensor<D, K>) -> Option<()>
    where
        Lists: Of<K>,
    {
        list(self.lists.of())?.push(tensor);
        self.places.push(kind * MOST_AXES + D - 1);
        Some(())
    }
}

/// The lists of a kind of tensors.
trait Of<K: Basic> {
    fn of(&mut self) -> &mut Ranks<K>;
}

macro_rules! kinds {
    ($($kind:ty: $index:tt, $name:ident;)+) => {
        $(impl Of<$kind> for Lists {
            fn of(&mut self) -> &mut Ranks<$kind> {
                &mut self.$index
            }
        })+

        impl InputMapper for Flat {
            $(fn $name<const D: usize>(&mut self, tensor: Tensor<D, $kind>) -> Tensor<D, $kind> {
                if self.put::<D, $kind>($index, tensor.clone().without_autodiff()).is_none() {
                    self.too_many_axes = Some(D);
                }
                tensor
            })+
        }

        impl InputMapper for TakeOut {
            $(fn $name<const D: usize>(&mut self, tensor: Tensor<D, $kind>) -> Tensor<D, $kind> {
                let next = list::<D, $kind>(self.0.of()).filter(|list| !list.is_empty()).map(|list| list.remove(0));
                next.unwrap_or(tensor)
            })+
        }
    };
}

kinds! {
    Float: 0, float;
    Int: 1, int;
    Bool: 2, bool;
}

/// The list of tensors with `D` axes.
fn list<const D: usize, K: Basic + 'static>(ranks: &mut Ranks<K>) -> Option<&mut Vec<Tensor<D, K>>> {
    let ((a, b, c, d), (e, f, g, h)) = ranks;
    let lists: [&mut dyn Any; MOST_AXES] = [a, b, c, d, e, f, g, h];
    lists.into_iter().find_map(|list| list.downcast_mut())
}

/// Takes tensors out of lists in the place of others.
struct TakeOut(Lists);

/// Returns what [`Flat::of`] was given, with the tensors of the lists.
pub(super) fn restore<I: ModuleInput>(like: I, lists: Lists) -> I {
    like.map_tensors(&mut TakeOut(lists))
}

/// Sorts values that are in the order of the lists into the module's order.
pub(super) fn in_order<T>(values: Vec<T>, order: &[usize]) -> Vec<T> {
    let mut values: Vec<Option<T>> = values.into_iter().map(Some).collect();
    order.iter().filter_map(|&position| values.get_mut(position)?.take()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn tensors_come_back_in_their_places() {
        let device = Device::flex();
        let number = |value: f32| Tensor::<1>::from_floats([value], &device);
        let image = Tensor::<4>::zeros([1, 2, 3, 4], &device);
        let input = ((image, number(1.0)), (Tensor::<2, Int>::zeros([1, 5], &device), [number(2.0), number(3.0)]));
        let flat = Flat::of(input.clone());
        assert_eq!(flat.order(), [3, 0, 4, 1, 2]);
        let shapes = input.shapes();
        assert_eq!(
            in_order(vec![&shapes[1], &shapes[3], &shapes[4], &shapes[0], &shapes[2]], &flat.order()),
            shapes.iter().collect::<Vec<_>>()
        );
        let ((image, _), (words, _)) = input;
        let ((_, first), (_, [second, third])) =
            restore(((image, number(0.0)), (words, [number(0.0), number(0.0)])), flat.lists);
        assert_eq!([first, second, third].map(|tensor: Tensor<1>| tensor.into_scalar::<f32>()), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn too_many_axes_are_noticed() {
        let tensor = Tensor::<9>::zeros([1; 9], &Device::flex());
        assert_eq!(Flat::of(tensor).too_many_axes, Some(9));
    }
}
