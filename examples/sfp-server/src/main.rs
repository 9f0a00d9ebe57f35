//! Hosts a device of this machine, on which analyses, pruning and recovery of another machine run.
//!
//! `cargo run --release -p sfp-server -- --listen 127.0.0.1:3000` waits for clients, which connect by
//! `Device::remote_options(&RemoteHost::websocket("ws://127.0.0.1:3000")).init()` (feature `remote` of `burn-sfp`).

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use burn::server::{IrohIdentity, IrohRelays, IrohTransport, RemoteServer, TokenAuthorizer, WebSocketTransport};
use burn_sfp::core::hosted;
use clap::Parser;
use support::DeviceName;

/// Hosts a device for clients: over WebSocket, which is not encrypted, on a trusted network; over Iroh anywhere.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one. Over Iroh its number of a UDP port counts, on every address of the machine.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,

    /// Device to host.
    #[arg(long, value_enum, default_value = "flex")]
    device: DeviceName,

    /// Hosts Burn's operations alone, not the kernels of burn-sfp.
    #[arg(long)]
    plain: bool,

    /// Serves over Iroh, as the owner of the key in this file, which is written where there is none.
    #[arg(long, value_name = "FILE")]
    iroh: Option<PathBuf>,

    /// How clients find a server on Iroh: `public`, `disabled` (by its address alone), or the URL of a relay.
    #[arg(long, default_value = "public")]
    relays: IrohRelays,

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
    let device = args.device.device()?;
    let mut server = if args.plain { RemoteServer::new([device]) } else { hosted::server([device]) };
    if let Some(token) = &args.token {
        server = server.with_authorizer(TokenAuthorizer::new(token.as_str())?);
    }
    if let Some(key) = &args.iroh {
        let port = args.listen.port();
        if port == 0 {
            return Err("over Iroh a port is needed: --listen 0.0.0.0:PORT".into());
        }
        let identity = IrohIdentity::load_or_create(key)?;
        let transport = IrohTransport::new(identity).with_relays(args.relays.clone()).with_port(port);
        println!("serving {:?} over Iroh on UDP port {port} as {}", args.device, transport.id());
        std::io::stdout().flush()?;
        return Ok(server.serve(transport)?);
    }
    let listener =
        TcpListener::bind(args.listen).map_err(|error| format!("{} cannot be listened on: {error}", args.listen))?;
    println!("serving {:?} on ws://{}", args.device, listener.local_addr()?);
    std::io::stdout().flush()?;
    Ok(server.serve(WebSocketTransport::from_listener(listener))?)
}
