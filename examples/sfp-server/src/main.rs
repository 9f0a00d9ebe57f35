//! Hosts a device of this machine, on which analyses, pruning and recovery of another machine run.
//!
//! `cargo run --release -p sfp-server -- --listen 127.0.0.1:3000` waits for clients, which connect by
//! `Device::remote_options(&RemoteHost::websocket("ws://127.0.0.1:3000")).init()` (feature `remote` of `burn-sfp`).

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use burn::server::{RemoteServer, TokenAuthorizer, WebSocketTransport};
use clap::Parser;
use support::DeviceName;

/// Hosts a device for clients on a trusted network: WebSocket is not encrypted.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,

    /// Device to host.
    #[arg(long, value_enum, default_value = "flex")]
    device: DeviceName,

    /// Serves only clients with this token.
    #[arg(long, env = "SFP_SERVER_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

fn main() -> ExitCode {
    match serve(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let mut server = RemoteServer::new([args.device.device()?]);
    if let Some(token) = &args.token {
        server = server.with_authorizer(TokenAuthorizer::new(token.as_str())?);
    }
    let listener =
        TcpListener::bind(args.listen).map_err(|error| format!("{} cannot be listened on: {error}", args.listen))?;
    println!("serving {:?} on ws://{}", args.device, listener.local_addr()?);
    std::io::stdout().flush()?;
    Ok(server.serve(WebSocketTransport::from_listener(listener))?)
}
