//! GPU kernels of burn-sfp come in a later release; until then GPU devices run the portable bodies of burn-sfp-core.
