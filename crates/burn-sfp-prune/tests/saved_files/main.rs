//! Files of every type: what is damaged is not read, what cannot be read is not written, and a save touches nothing but its file.

#[cfg(unix)]
mod atomic;
mod damage;
mod fuzz;
mod identity;
mod kinds;
#[path = "../common/small.rs"]
mod small;
mod trusted;
