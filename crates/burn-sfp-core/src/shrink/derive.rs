//! What the derive macro's code calls. Not for users.

use super::{Scope, Shrink};

/// A field. Method resolution takes [`Pass`] where its type can shrink and [`Skip`] otherwise.
pub struct Probe<'a, T: ?Sized>(pub &'a mut T);

/// The field can shrink.
pub trait Pass {
    /// Passes the call on.
    fn pass(self, scope: &mut Scope<'_>);
}

impl<T: Shrink + ?Sized> Pass for Probe<'_, T> {
    fn pass(self, scope: &mut Scope<'_>) {
        self.0.shrink(scope);
    }
}

/// The field is a number, a setting, a layer without counts.
pub trait Skip {
    /// Nothing to do.
    fn pass(self, scope: &mut Scope<'_>);
}

impl<T: ?Sized> Skip for &mut Probe<'_, T> {
    fn pass(self, _scope: &mut Scope<'_>) {}
}
