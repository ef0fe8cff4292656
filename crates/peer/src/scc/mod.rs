//! The system chaincodes that the peer answers itself.
//!
//! A call is answered with a [`Response`] as a chaincode would give it: status 200 with a payload,
//! or status 500 with a message. Whether the call is endorsed is the endorser's business.

pub mod cscc;
pub mod qscc;

use bytes::Bytes;
use selvedge_policy::SignedData;
use selvedge_protos::protos::Response;

use crate::access::AccessControl;
use crate::channel::Channels;

/// The version that every system chaincode has (Fabric: `scc.SysCCVersion`).
pub const VERSION: &str = "syscc";

/// What a system chaincode works with.
pub struct Context<'a> {
    /// The peer's channels.
    pub channels: &'a Channels,
    /// The guards of the resources.
    pub access: &'a AccessControl,
    /// Who calls, and what the caller signed.
    pub caller: &'a SignedData,
}

/// A success with a payload.
pub fn success(payload: impl Into<Bytes>) -> Response {
    Response {
        status: 200,
        payload: payload.into(),
        ..Default::default()
    }
}

/// A failure with a message.
pub fn error(message: impl Into<String>) -> Response {
    Response {
        status: 500,
        message: message.into(),
        ..Default::default()
    }
}

fn text(argument: &Bytes) -> String {
    String::from_utf8_lossy(argument).into_owned()
}
