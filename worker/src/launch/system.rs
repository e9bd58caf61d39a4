//! The folders of the host that every agent may read. What of `/etc` it may is said in `settings`.

/// Folders of programs, libraries and settings.
pub(crate) const SYSTEM_FOLDERS: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/etc", "/sys"];
