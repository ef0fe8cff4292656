//! `version`, in the shape of Fabric's.

use selvedge_peer::operations::Version;

/// What `version` prints. Scripts look for the line ` Version: `.
pub fn text(program: &str) -> String {
    let Version {
        commit_sha,
        version,
    } = Version::CURRENT;
    format!(
        "{program}:\n Version: v{version}\n Commit SHA: {}\n OS/Arch: {}/{}\n",
        commit_sha.unwrap_or("development build"),
        std::env::consts::OS,
        architecture(std::env::consts::ARCH),
    )
}

/// The name that Go gives to a processor architecture.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64",
        other => other,
    }
}
