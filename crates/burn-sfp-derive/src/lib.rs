//! `#[derive(Shrink)]`: walks a module to the layers whose plain fields follow when parameters shrink.
//!
//! Use it through `burn-sfp` (or `burn-sfp-core`), where the trait of the same name has the documentation and an example.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, GenericParam, Path, parse_macro_input, parse_quote};

/// Passes `Shrink::shrink` on to every field that can shrink, by the same path names as Burn's `Module`.
///
/// Fields of other types (numbers, settings) are left alone. Type parameters have to be `Shrink` themselves. A crate that depends
/// on `burn-sfp-core` and not on `burn-sfp` says so: `#[shrink(crate = burn_sfp_core)]`.
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
        Data::Union(_) => return Err(Error::new_spanned(name, "a union cannot be a Burn module")),
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

/// The path of the core crate: through the facade unless the attribute names another.
fn root(input: &DeriveInput) -> Result<Tokens, Error> {
    let mut root = quote!(::burn_sfp::core);
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("shrink")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("expected `crate = path`"));
            }
            let path: Path = meta.value()?.parse()?;
            root = quote!(#path);
            Ok(())
        })?;
    }
    Ok(root)
}
