//! Support for the code that the derive macro generates. Not for direct use.

use super::{Scope, Shrink};

/// A field. Method resolution picks [`Pass`] where its type implements [`Shrink`], and [`Skip`] otherwise.
pub struct Probe<'a, T: ?Sized>(pub &'a mut T);

/// A field whose type implements [`Shrink`].
pub trait Pass {
    /// Passes the call on.
    fn pass(self, scope: &mut Scope<'_>);
}

impl<T: Shrink + ?Sized> Pass for Probe<'_, T> {
    fn pass(self, scope: &mut Scope<'_>) {
        self.0.shrink(scope);
    }
}

/// A field of any other type, for example a setting.
pub trait Skip {
    /// Nothing to do.
    fn pass(self, scope: &mut Scope<'_>);
}

impl<T: ?Sized> Skip for &mut Probe<'_, T> {
    fn pass(self, _scope: &mut Scope<'_>) {}
}
