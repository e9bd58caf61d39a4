//! Forms in which the place of Redis may be written, read once.
//!
//! - `redis://`, `rediss://`, `unix://`: one server
//! - `redis-sentinel://[user:password@]host[:26379],host…/<master>[/db]`: sentinels that know the server
//! - `redis-cluster://[user:password@]host[:6379],host…`: some nodes of a Redis Cluster
//!
//! With `rediss-sentinel://` and `rediss-cluster://` every connection is encrypted, those to sentinels too.
//! Connecting is not here but in `road`.

use std::path::Path;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// What an address begins with, for messages.
const FORMS: &str = "`redis://`, `rediss://`, `unix://`, `redis-sentinel://`, `rediss-sentinel://`, `redis-cluster://` or `rediss-cluster://`";
/// Hosts that one address may name.
const HOSTS_MAX: usize = 64;
const SENTINEL_PORT: u16 = 26379;
const REDIS_PORT: u16 = 6379;

/// Why an address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It begins with nothing that is known.
    #[error("`{shown}` does not begin with {FORMS}")]
    UnknownForm {
        /// The address, without its password.
        shown: String,
    },
    /// A part of it is missing, or is not what it should be.
    #[error("`{shown}`: {why}")]
    Part {
        /// The address, without its password.
        shown: String,
        /// What is expected and what was found.
        why: String,
    },
}

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name, or an address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let brackets = self.host.contains(':');
        let (left, right) = if brackets { ("[", "]") } else { ("", "") };
        write!(formatter, "{left}{}{right}:{}", self.host, self.port)
    }
}

/// Where Redis is looked for.
#[derive(Debug, Clone)]
pub struct RedisAddress {
    /// As it may be shown: without passwords.
    pub shown: String,
    /// What stands behind it.
    pub site: RedisSite,
    /// PEM files for encrypted connections.
    pub files: CertificateFiles,
}

/// What kind of Redis it is.
#[derive(Debug, Clone)]
pub enum RedisSite {
    /// One server, always at the same place.
    Server(ConnectionInfo),
    /// A server that sentinels know; it moves.
    Sentinels {
        /// How to talk to each sentinel.
        sentinels: Vec<ConnectionInfo>,
        /// What they call the server.
        master: String,
        /// How to talk to the server, its place apart.
        server: ConnectionInfo,
    },
    /// Nodes that share the keys.
    Cluster {
        /// Nodes to begin with, with how to talk to every node.
        seeds: Vec<ConnectionInfo>,
    },
}

/// Paths that the address names for encrypted connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Authorities to trust in place of the public ones (`?ca=`).
    pub authority: Option<String>,
    /// This client's certificate and its key (`&cert=` and `&key=`).
    pub client: Option<(String, String)>,
}

impl RedisAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// `AddressError`, without the password.
    pub fn read(url: &str) -> Result<RedisAddress, AddressError> {
        Reading::of(url)?.address()
    }
}

/// The parts of an address.
struct Reading<'a> {
    url: &'a str,
    scheme: &'a str,
    /// With the `@`, or empty.
    credentials: &'a str,
    hosts: &'a str,
    path: &'a str,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Reading<'a> {
    fn of(url: &'a str) -> Result<Reading<'a>, AddressError> {
        let unknown = || AddressError::UnknownForm { shown: without_password(url) };
        let (scheme, rest) = url.split_once("://").ok_or_else(unknown)?;
        let (body, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority_end = body.find('/').unwrap_or(body.len());
        let (authority, path) = body.split_at(authority_end);
        let at = authority.rfind('@').map_or(0, |place| place + 1);
        let (credentials, hosts) = authority.split_at(at);
        let options = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Ok(Reading { url, scheme, credentials, hosts, path, options: options.collect() })
    }

    fn wrong(&self, why: impl Into<String>) -> AddressError {
        AddressError::Part { shown: without_password(self.url), why: why.into() }
    }

    fn address(&self) -> Result<RedisAddress, AddressError> {
        let site = match self.scheme {
            "redis" | "rediss" | "unix" | "redis+unix" | "valkey" | "valkeys" => self.server()?,
            "redis-sentinel" | "rediss-sentinel" => self.sentinels()?,
            "redis-cluster" | "rediss-cluster" => self.cluster()?,
            _ => return Err(AddressError::UnknownForm { shown: without_password(self.url) }),
        };
        Ok(RedisAddress { shown: without_password(self.url), site, files: self.files()? })
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        self.options.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn is_encrypted(&self) -> bool {
        self.scheme.starts_with("rediss")
    }

    fn files(&self) -> Result<CertificateFiles, AddressError> {
        let file = |name: &str| -> Result<Option<String>, AddressError> {
            let Some(path) = self.option(name) else { return Ok(None) };
            if !self.is_encrypted() {
                return Err(self.wrong(format!("`{name}` belongs to an encrypted connection: `rediss…://`")));
            }
            if !Path::new(path).is_absolute() {
                return Err(self.wrong(format!("`{name}` is `{path}`, and an absolute path is expected")));
            }
            Ok(Some(path.to_owned()))
        };
        let client = match (file("cert")?, file("key")?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(self.wrong("`cert` and `key` go together")),
        };
        Ok(CertificateFiles { authority: file("ca")?, client })
    }

    fn server(&self) -> Result<RedisSite, AddressError> {
        let ours = ["ca", "cert", "key"];
        let kept: Vec<String> = self
            .options
            .iter()
            .filter(|(name, _)| !ours.contains(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
        let url = format!("{}://{}{}{}{query}", self.scheme, self.credentials, self.hosts, self.path);
        self.info(&url).map(RedisSite::Server)
    }

    /// How to talk to one server of a plain address; the client takes the words apart.
    fn info(&self, url: &str) -> Result<ConnectionInfo, AddressError> {
        url.into_connection_info().map_err(|error| self.wrong(error.to_string()))
    }

    fn sentinels(&self) -> Result<RedisSite, AddressError> {
        self.only(&["sentinel_user", "sentinel_password", "ca", "cert", "key"])?;
        let mut parts = self.path.split('/').filter(|part| !part.is_empty());
        let expected = "the master's name is expected after the hosts: `…host:26379/<master>[/db]`";
        let master = parts.next().ok_or_else(|| self.wrong(expected))?.to_owned();
        let database = parts.next().unwrap_or("0");
        if parts.next().is_some() {
            return Err(self.wrong(expected));
        }
        let credentials = match (self.option("sentinel_user"), self.option("sentinel_password")) {
            (None, None) => String::new(),
            (user, password) => format!("{}:{}@", user.unwrap_or_default(), password.unwrap_or_default()),
        };
        let sentinels = self.hosts(SENTINEL_PORT)?;
        let sentinels = sentinels
            .iter()
            .map(|host| self.info(&self.plain(&credentials, host, "0")))
            .collect::<Result<_, _>>()?;
        let nowhere = HostPort { host: "localhost".to_owned(), port: REDIS_PORT };
        let server = self.info(&self.plain(self.credentials, &nowhere, database))?;
        Ok(RedisSite::Sentinels { sentinels, master, server })
    }

    fn cluster(&self) -> Result<RedisSite, AddressError> {
        self.only(&["ca", "cert", "key"])?;
        if !matches!(self.path, "" | "/" | "/0") {
            return Err(
                self.wrong(format!("`{}` is no part of it: a Redis Cluster has one database", self.path))
            );
        }
        let seeds = self.hosts(REDIS_PORT)?;
        let seeds = seeds
            .iter()
            .map(|host| self.info(&self.plain(self.credentials, host, "0")))
            .collect::<Result<_, _>>()?;
        Ok(RedisSite::Cluster { seeds })
    }

    fn only(&self, known: &[&str]) -> Result<(), AddressError> {
        match self.options.iter().find(|(name, _)| !known.contains(name)) {
            Some((name, _)) => {
                Err(self.wrong(format!("`{name}` is no option of it; known are {}", known.join(", "))))
            }
            None => Ok(()),
        }
    }

    fn plain(&self, credentials: &str, host: &HostPort, database: &str) -> String {
        let scheme = if self.is_encrypted() { "rediss" } else { "redis" };
        format!("{scheme}://{credentials}{host}/{database}")
    }

    fn hosts(&self, port: u16) -> Result<Vec<HostPort>, AddressError> {
        let hosts: Vec<&str> = self.hosts.split(',').collect();
        if hosts.len() > HOSTS_MAX {
            return Err(self.wrong(format!("it names {} hosts, and {HOSTS_MAX} are enough", hosts.len())));
        }
        hosts.into_iter().map(|text| self.host(text, port)).collect()
    }

    fn host(&self, text: &str, usual_port: u16) -> Result<HostPort, AddressError> {
        let (host, port) = match text.rsplit_once(':') {
            // An address in brackets may have colons of its own.
            Some((host, port)) if !port.contains(']') => {
                let number = port.parse().ok().filter(|number| *number > 0);
                (host, number.ok_or_else(|| self.wrong(format!("`{port}` is no port")))?)
            }
            _ => (text, usual_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(self.wrong("a host is expected between the commas"));
        }
        Ok(HostPort { host: host.to_owned(), port })
    }
}

/// How to talk to the same kind of server at another place.
pub(crate) fn moved_to(server: &ConnectionInfo, place: &HostPort) -> ConnectionInfo {
    let (host, port) = (place.host.clone(), place.port);
    let address = match server.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    server.clone().set_addr(address)
}

/// A Redis address with `***` where a password stands: before the `@`, or in an option that is named so.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    // A password may itself hold an `@`, so the last one ends it.
    let (credentials, rest) = match rest[..authority_end].rfind('@') {
        Some(at) => rest.split_at(at),
        None => ("", rest),
    };
    let credentials = match credentials.split_once(':') {
        Some((user, _)) => format!("{user}:***"),
        None => credentials.to_owned(),
    };
    let (body, query) = rest.split_once('?').map_or((rest, None), |(body, query)| (body, Some(query)));
    let mask = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.ends_with("pass") || name.ends_with("password") => format!("{name}=***"),
        _ => pair.to_owned(),
    };
    let query = query.map(|query| query.split('&').map(mask).collect::<Vec<_>>().join("&"));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{credentials}{body}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(infos: &[ConnectionInfo]) -> Vec<String> {
        infos.iter().map(|info| info.addr().to_string()).collect()
    }

    #[test]
    fn an_address_is_shown_without_its_passwords() {
        let shown = [
            ("redis://localhost:6379", "redis://localhost:6379"),
            ("redis://:secret@host:1/2", "redis://:***@host:1/2"),
            ("rediss://me:s@cret@host", "rediss://me:***@host"),
            ("redis://me@host", "redis://me@host"),
            ("redis://host/?x=a@b", "redis://host/?x=a@b"),
            ("unix:///run/x.sock?pass=secret&db=1", "unix:///run/x.sock?pass=***&db=1"),
            (
                "redis-sentinel://a:b@h,i/m?sentinel_password=c",
                "redis-sentinel://a:***@h,i/m?sentinel_password=***",
            ),
        ];
        for (url, expected) in shown {
            assert_eq!(without_password(url), expected);
        }
    }

    #[test]
    fn sentinels_are_read_with_their_master_and_database() {
        let url = "redis-sentinel://me:p%40ss@one,two:1234,[::1]/the-master/3?sentinel_password=s";
        let address = RedisAddress::read(url).expect("a lawful address");
        let RedisSite::Sentinels { sentinels, master, server } = address.site else { panic!("sentinels") };
        assert_eq!(places(&sentinels), ["one:26379", "two:1234", "::1:26379"]);
        assert_eq!((master.as_str(), server.redis_settings().db()), ("the-master", 3));
        assert_eq!(server.redis_settings().password(), Some("p@ss"));
        assert_eq!(sentinels[0].redis_settings().password(), Some("s"));
        let moved = moved_to(&server, &HostPort { host: "there".to_owned(), port: 7 });
        assert_eq!((moved.addr().to_string().as_str(), moved.redis_settings().db()), ("there:7", 3));
    }

    #[test]
    fn nodes_of_a_cluster_are_read() {
        let address =
            RedisAddress::read("rediss-cluster://u:p@a,b:7001?ca=/etc/ca.pem").expect("a lawful address");
        let RedisSite::Cluster { seeds } = address.site else { panic!("a cluster") };
        assert_eq!(places(&seeds), ["a:6379", "b:7001"]);
        assert!(matches!(seeds[0].addr(), ConnectionAddr::TcpTls { .. }));
        assert_eq!(address.files.authority.as_deref(), Some("/etc/ca.pem"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_in_words_and_without_a_password() {
        let table = [
            ("localhost:6379", "does not begin with"),
            ("http://localhost", "does not begin with"),
            ("redis-sentinel://h:26379", "the master's name is expected"),
            ("redis-sentinel://:secret@h,,i/m", "a host is expected"),
            ("redis-sentinel://h:port/m", "`port` is no port"),
            ("redis-sentinel://h/m/0/1", "the master's name is expected"),
            ("redis-sentinel://h/m/x", "Invalid database number"),
            ("redis-sentinel://h/m?quorum=2", "`quorum` is no option"),
            ("redis-cluster://h/1", "one database"),
            ("redis-cluster://h?ca=/x", "encrypted"),
            ("rediss-cluster://h?ca=x", "absolute"),
            ("rediss://h?cert=/x", "go together"),
        ];
        for (url, part) in table {
            let error = RedisAddress::read(url).expect_err(url).to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
