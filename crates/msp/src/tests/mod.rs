//! Every rule of an MSP on certificates that are made for it, and the recorded networks.

mod certificates;
mod folders;
mod node_ous;
mod odd_certificates;
mod principals;
mod recorded;
mod shared;
mod signatures;
mod support;
mod validity;
