//! Writes the inputs that a search begins with: `seeds FOLDER` makes a folder in it for each target.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(
        std::env::args()
            .nth(1)
            .unwrap_or_else(|| "corpus".to_owned()),
    );
    for (number, (target, bytes)) in selvedge_fuzz::seeds().iter().enumerate() {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("seed-{number:04}")), bytes)?;
    }
    Ok(())
}
