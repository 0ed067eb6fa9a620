//! A program that runs beside the test: its output is kept, and it ends with the test.

use crate::netns::Namespace;
use crate::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const SHOWN_ON_PANIC: usize = 60;
const TERM_LIMIT: Duration = Duration::from_secs(5);

/// Describes a process before it runs.
pub struct Program<'a> {
    path: PathBuf,
    args: Vec<String>,
    namespace: Option<&'a Namespace>,
    environment: Vec<(String, String)>,
    directory: Option<PathBuf>,
}

impl<'a> Program<'a> {
    /// The program, by path or by name.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_path_buf(),
            args: Vec::new(),
            namespace: None,
            environment: Vec::new(),
            directory: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Runs it inside a namespace.
    #[must_use]
    pub fn inside(mut self, namespace: Option<&'a Namespace>) -> Self {
        self.namespace = namespace;
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets its working directory.
    #[must_use]
    pub fn directory(mut self, path: &Path) -> Self {
        self.directory = Some(path.to_path_buf());
        self
    }

    fn command(&self) -> Command {
        // The kernel kills the program when we go, whatever way we go.
        let setpriv = Path::new("setpriv");
        let mut command = match self.namespace {
            Some(namespace) => namespace.command(setpriv),
            None => Command::new(setpriv),
        };
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.path)
            .args(&self.args);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// Starts it; its output is kept for [`Process::wait_for_line`] and shown if the test panics.
    pub fn start(self) -> Process {
        // A pipe that stays open: some programs end when their input does.
        let mut child = self.spawn(self.command().stdin(Stdio::piped()).stdout(Stdio::piped()));
        let output = child.stdout.take();
        let process = self.watch(child);
        if let Some(output) = output {
            process.collect(output);
        }
        process
    }

    /// Starts it with its standard input and output as pipes for the caller.
    pub fn start_with_pipes(self) -> (Process, ChildStdin, ChildStdout) {
        let mut child = self.spawn(self.command().stdin(Stdio::piped()).stdout(Stdio::piped()));
        let input = child.stdin.take().expect("asked for a pipe");
        let output = child.stdout.take().expect("asked for a pipe");
        (self.watch(child), input, output)
    }

    fn spawn(&self, command: &mut Command) -> Child {
        let spawned = command.stderr(Stdio::piped()).spawn();
        spawned.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    fn watch(&self, mut child: Child) -> Process {
        let errors = child.stderr.take().expect("asked for a pipe");
        let name = self
            .path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let process = Process {
            name: name.unwrap_or_default(),
            child,
            lines: Arc::default(),
        };
        process.collect(errors);
        process
    }
}

/// A running program; told to end, then killed, on drop.
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines so far, of standard output and standard error as they came.
    pub fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for a line that contains the text and gives that line.
    pub fn wait_for_line(&mut self, text: &str, limit: Duration) -> String {
        let what = format!("`{text}` from {}", self.name);
        wait::until(&what, limit, || {
            let line = self.lines().into_iter().find(|line| line.contains(text));
            if let (None, Some(status)) = (&line, self.ended()) {
                panic!("{what}: it ended with {status}");
            }
            line
        })
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("our own child can be waited for")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids are small");
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(pid), signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, || self.ended())
    }

    fn collect(&self, output: impl Read + Send + 'static) {
        let lines = Arc::clone(&self.lines);
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                lines
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        let end = Instant::now() + TERM_LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let lines = self.lines();
            println!("--- {} ({} lines, the last ones)", self.name, lines.len());
            for line in &lines[lines.len().saturating_sub(SHOWN_ON_PANIC)..] {
                println!("{line}");
            }
        }
    }
}
