//! [`ChildServer`]: a server in a process of its own.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A server in a process of its own, killed in the end.
#[derive(Debug)]
pub struct ChildServer {
    process: Child,
    first_line: String,
}

impl ChildServer {
    /// Starts a command and waits for the first line that it prints.
    ///
    /// # Errors
    /// The command does not start, or prints what is no text.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take();
        let mut server = Self { process, first_line: String::new() };
        if let Some(output) = output {
            BufReader::new(output).read_line(&mut server.first_line)?;
        }
        Ok(server)
    }

    /// The last word of the first line, by which servers say where they are; empty where they printed none.
    pub fn address(&self) -> &str {
        self.first_line.trim().rsplit(' ').next().unwrap_or_default()
    }

    /// Stops the process without ending it, as far as others see: its connections neither answer nor break. False where the system cannot.
    pub fn freeze(&self) -> bool {
        let stopped = Command::new("kill").arg("-STOP").arg(self.process.id().to_string()).status();
        stopped.is_ok_and(|status| status.success())
    }

    /// Ends the process.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        self.kill();
    }
}
