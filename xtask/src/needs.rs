//! What a test level cannot do without, and whether this host has it. `levels` names the needs, `test` asks.

use crate::aiortc;
use crate::clients;
use crate::host;
use crate::packages;
use crate::run::Built;
use std::process::Command;

/// What a level cannot do without.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Root with the right to make network namespaces.
    Root,
    /// The XDP object, and a kernel that loads it.
    Object,
    /// A program on PATH.
    Tool(&'static str),
    /// Browser libraries of others.
    Clients,
    /// aiortc.
    Aiortc,
    /// To be asked for by name: it takes longer than all others together.
    Patience,
}

impl Need {
    /// Why it is not met here, as part of a sentence; `None` when it is. `xdp` is the answer of [`xdp_gap`].
    pub(crate) fn gap(self, xdp: Option<&str>) -> Option<String> {
        match self {
            Self::Root if !host::is_root() => Some("needs root".to_owned()),
            Self::Root if !may_make_namespaces() => {
                Some("this root may not make network namespaces and veth pairs".to_owned())
            }
            Self::Object => xdp.map(str::to_owned),
            Self::Tool(tool) if host::which(tool).is_none() => {
                let package = packages::package_of(tool);
                Some(format!("{tool} is not installed (Debian: {package})"))
            }
            Self::Clients => clients::gap(),
            Self::Aiortc => aiortc::gap(),
            Self::Root | Self::Tool(_) | Self::Patience => None,
        }
    }
}

/// A container's root often lacks the capabilities: only trying tells.
fn may_make_namespaces() -> bool {
    let mut command = Command::new("unshare");
    command.args([
        "--net", "--mount", "ip", "link", "add", "one", "type", "veth", "peer", "name", "two",
    ]);
    host::output(&mut command).is_ok()
}

/// What keeps this host from running the XDP program, by the word of `causeway check`.
pub(crate) fn xdp_gap(built: &Built) -> Option<String> {
    if built.object.is_none() {
        return Some("there is no XDP program (see setup)".to_owned());
    }
    let checked = match host::output(Command::new(&built.daemon).arg("check")) {
        Ok(checked) => checked,
        Err(error) => return Some(format!("{error:#}")),
    };
    // Interfaces are the tests' own.
    let missing = checked
        .lines()
        .find(|line| line.starts_with("missing") && !line.contains(" interfaces "));
    missing.map(|line| format!("causeway check: {line}"))
}
