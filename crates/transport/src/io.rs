//! Byte streams under HTTP/2: TCP, with or without TLS.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_rustls::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::server::OpenConnection;

/// Who is at the other end of a connection. Each request of a server carries it as extension.
#[derive(Debug, Clone)]
pub struct TlsPeer {
    /// The other end's socket address.
    pub address: SocketAddr,
    /// Whether the connection is TLS.
    pub secure: bool,
    /// The leaf certificate that the other end presented, DER. `None` without TLS, and for a client
    /// that sent none.
    pub certificate: Option<Bytes>,
    /// SHA-256 of the certificate (DER) that this side presents on this connection.
    pub own_certificate_hash: Option<[u8; 32]>,
}

impl TlsPeer {
    /// SHA-256 of the other end's certificate.
    pub fn certificate_hash(&self) -> Option<[u8; 32]> {
        self.certificate.as_deref().map(selvedge_protos::sha256)
    }
}

/// A TCP connection, perhaps with TLS.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// The leaf certificate of the other side.
    pub(crate) fn peer_certificate(&self) -> Option<Bytes> {
        let Self::Tls(tls) = self else { return None };
        let (_, session) = tls.get_ref();
        let leaf = session.peer_certificates()?.first()?;
        Some(Bytes::copy_from_slice(leaf))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

/// What an HTTP/2 client must send first: the connection preface of 24 bytes (RFC 9113, 3.4).
const PREFACE_LENGTH: usize = 24;

/// An accepted connection. It holds its place in the count of open connections, must begin to
/// speak within a time limit, and can be cut from outside.
pub(crate) struct ServerIo {
    wire: Wire,
    peer: TlsPeer,
    preface: Option<Preface>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _open: OpenConnection,
    _permit: OwnedSemaphorePermit,
}

struct Preface {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl ServerIo {
    pub(crate) fn new(
        wire: Wire,
        peer: TlsPeer,
        preface_timeout: Duration,
        cut: CancellationToken,
        open: OpenConnection,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            wire,
            peer,
            preface: Some(Preface {
                missing: PREFACE_LENGTH,
                deadline: Box::pin(tokio::time::sleep(preface_timeout)),
            }),
            cut: Box::pin(cut.cancelled_owned()),
            _open: open,
            _permit: permit,
        }
    }

    /// The error that ends the connection, if there is a reason to end it.
    fn ended(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server has stopped",
            ));
        }
        if let Some(preface) = &mut self.preface
            && preface.deadline.as_mut().poll(cx).is_ready()
        {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client does not speak",
            ));
        }
        Ok(())
    }
}

impl AsyncRead for ServerIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.ended(cx)?;
        let before = buf.filled().len();
        let result = Pin::new(&mut this.wire).poll_read(cx, buf);
        if let Some(preface) = &mut this.preface {
            let read = buf.filled().len().saturating_sub(before);
            preface.missing = preface.missing.saturating_sub(read);
            if preface.missing == 0 {
                this.preface = None;
            }
        }
        result
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.ended(cx)?;
        Pin::new(&mut this.wire).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.ended(cx)?;
        Pin::new(&mut this.wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.ended(cx)?;
        Pin::new(&mut this.wire).poll_shutdown(cx)
    }
}

impl Connected for ServerIo {
    type ConnectInfo = TlsPeer;

    fn connect_info(&self) -> TlsPeer {
        self.peer.clone()
    }
}
