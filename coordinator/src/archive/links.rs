//! Whether a symbolic link leads out of the folder it belongs to, by its text alone.

use maestro_model::snapshot::WorkspaceKey;

/// Whether a link at `below` (in a workspace) to `target` leads out.
///
/// The folder of an attempt has a neighbour with Maestro's own files, to which it links; what leads there stays
/// within. A path through another link may lead anywhere: nothing that unpacks follows links, and this is a
/// warning for people and not the protection.
pub(super) fn leads_out(key: &WorkspaceKey, below: &[u8], target: &[u8]) -> bool {
    if target.first() == Some(&b'/') {
        return true;
    }
    let folders_above = below.split(|byte| *byte == b'/').count() - 1;
    let mut depth = folders_above as i64;
    let mut lowest = depth;
    let mut parts = Vec::new();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => depth -= 1,
            name => {
                depth += 1;
                if parts.is_empty() {
                    parts.extend_from_slice(name);
                }
            }
        }
        lowest = lowest.min(depth);
    }
    let own = format!("{}.maestro", key.name());
    let to_own_files = lowest == -1 && parts == own.as_bytes() && !key.is_assigned() && !key.is_run();
    lowest < 0 && !to_own_files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_within_stay_and_others_lead_out() {
        let worker = "w".parse().expect("lawful");
        let key = WorkspaceKey::of_task(&worker, "shell", "0k3v9x2mqf1a.7").expect("lawful");
        for within in ["x", "./x", "sub/../x", "../0k3v9x2mqf1a.7.maestro/agent.log"] {
            assert!(!leads_out(&key, b"agent.log", within.as_bytes()), "{within}");
        }
        assert!(!leads_out(&key, b"a/b/link", b"../../x"));
        for out in ["/etc/passwd", "..", "../other", "../../x", "a/../../x", "../0k3v9x2mqf1a.8.maestro/x"] {
            assert!(leads_out(&key, b"link", out.as_bytes()), "{out}");
        }
        assert!(leads_out(&key, b"a/link", b"../../x"));
    }
}
