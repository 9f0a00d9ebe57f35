//! The derive macro `Shrink` of `burn-sfp-nn`.
//!
//! Use it through `burn-sfp` or `burn-sfp-nn`, where the trait of the same name has the documentation and an example.

use proc_macro::TokenStream;
use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, GenericParam, Path, parse_macro_input, parse_quote};

/// Implements `Shrink` by a call of `Shrink::shrink` on every field that implements it, under the path names of Burn's `Module`.
///
/// Fields of other types, such as settings, are left alone. Type parameters must implement `Shrink`. The generated code finds the trait
/// through the crate's dependency on `burn-sfp` or `burn-sfp-nn`, under any name. A crate that reaches the trait by another path names
/// it: `#[shrink(crate = path::to::burn_sfp_nn)]`.
#[proc_macro_derive(Shrink, attributes(shrink))]
pub fn derive_shrink(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(mut input: DeriveInput) -> Result<Tokens, Error> {
    let root = root(&input)?;
    for param in &mut input.generics.params {
        if let GenericParam::Type(param) = param {
            param.bounds.push(parse_quote!(#root::Shrink));
        }
    }
    let name = &input.ident;
    let body = match &input.data {
        Data::Struct(data) => {
            let visits = data.fields.members().map(|member| {
                let path = match &member {
                    syn::Member::Named(name) => name.to_string(),
                    syn::Member::Unnamed(index) => index.index.to_string(),
                };
                visit(&path, quote!(&mut self.#member))
            });
            quote!(#(#visits)*)
        }
        Data::Enum(data) => {
            let arms = data.variants.iter().map(|variant| {
                let (name, path) = (&variant.ident, variant.ident.to_string());
                let fields: Vec<_> = (0..variant.fields.len()).map(|index| format_ident!("field{index}")).collect();
                let visits = fields.iter().map(|field| visit(&path, quote!(#field)));
                match &variant.fields {
                    Fields::Unit => quote!(Self::#name => {}),
                    Fields::Unnamed(_) => quote!(Self::#name(#(#fields),*) => { #(#visits)* }),
                    Fields::Named(named) => {
                        let names = named.named.iter().map(|field| &field.ident);
                        quote!(Self::#name { #(#names: #fields),* } => { #(#visits)* })
                    }
                }
            });
            quote!(match self { #(#arms)* })
        }
        Data::Union(_) => {
            return Err(Error::new_spanned(name, "`Shrink` cannot be derived for a union; use a struct or an enum"));
        }
    };
    let (generics, types, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics #root::Shrink for #name #types #bounds {
            #[allow(unused_variables)]
            fn shrink(&mut self, scope: &mut #root::Scope<'_>) {
                #[allow(unused_imports)]
                use #root::derive::{Pass as _, Probe, Skip as _};
                #body
            }
        }
    })
}

fn visit(path: &str, field: Tokens) -> Tokens {
    quote!(scope.enter(#path, |scope| Probe(#field).pass(scope));)
}

/// Path of the crate that holds the trait: the one in the attribute, otherwise the one that the user's `Cargo.toml` depends on.
fn root(input: &DeriveInput) -> Result<Tokens, Error> {
    let mut root = None;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("shrink")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("unknown setting of `shrink`; expected `crate = path::to::burn_sfp_nn`"));
            }
            let path: Path = meta.value()?.parse()?;
            root = Some(quote!(#path));
            Ok(())
        })?;
    }
    Ok(root.unwrap_or_else(|| dependency(|name| crate_name(name).ok())))
}

/// The path of `burn-sfp-nn`, through whichever of the two crates `find` says that the user's crate depends on.
fn dependency(find: impl Fn(&str) -> Option<FoundCrate>) -> Tokens {
    let of = |name: &str, itself: &str| {
        let name = match find(name)? {
            FoundCrate::Itself => itself.to_string(),
            FoundCrate::Name(name) => name,
        };
        Some(format_ident!("{name}"))
    };
    match (of("burn-sfp", "burn_sfp"), of("burn-sfp-nn", "burn_sfp_nn")) {
        (Some(facade), _) => quote!(::#facade::nn),
        (None, Some(layers)) => quote!(::#layers),
        // The compiler then says that this crate is missing.
        (None, None) => quote!(::burn_sfp::nn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path in a crate that depends on these packages, under these names (`None` for the package itself).
    fn path(dependencies: &[(&str, Option<&str>)]) -> String {
        let find = |package: &str| {
            let (_, name) = dependencies.iter().find(|(dependency, _)| *dependency == package)?;
            Some(name.map_or(FoundCrate::Itself, |name| FoundCrate::Name(name.to_string())))
        };
        dependency(find).to_string().replace(' ', "")
    }

    #[test]
    fn the_trait_is_found_under_any_name() {
        assert_eq!(path(&[("burn-sfp", Some("burn_sfp"))]), "::burn_sfp::nn");
        assert_eq!(path(&[("burn-sfp", Some("pruning"))]), "::pruning::nn");
        assert_eq!(path(&[("burn-sfp-nn", Some("burn_sfp_nn"))]), "::burn_sfp_nn");
        assert_eq!(path(&[("burn-sfp-nn", Some("layers"))]), "::layers");
        assert_eq!(path(&[("burn-sfp", Some("sfp")), ("burn-sfp-nn", Some("layers"))]), "::sfp::nn");
        assert_eq!(path(&[("burn-sfp", None)]), "::burn_sfp::nn");
        assert_eq!(path(&[("burn-sfp-nn", None)]), "::burn_sfp_nn");
        assert_eq!(path(&[]), "::burn_sfp::nn");
    }

    #[test]
    fn an_attribute_names_another_path() {
        let code = expand(parse_quote! {
            #[shrink(crate = crate::layers)]
            struct Block<T> { layer: T, settings: Settings }
        });
        let code = code.unwrap().to_string().replace(' ', "");
        assert!(code.contains("impl<T:crate::layers::Shrink>crate::layers::ShrinkforBlock<T>"), "{code}");
        assert!(code.contains("scope.enter(\"layer\",|scope|Probe(&mutself.layer).pass(scope));"), "{code}");
    }

    #[test]
    fn errors_say_what_to_write() {
        let error = expand(parse_quote! { #[shrink(krate = a)] struct Block; }).unwrap_err().to_string();
        assert!(error.contains("expected `crate = path::to::burn_sfp_nn`"), "{error}");
        let error = expand(parse_quote! { union Block { a: u8 } }).unwrap_err().to_string();
        assert!(error.contains("use a struct or an enum"), "{error}");
    }
}
