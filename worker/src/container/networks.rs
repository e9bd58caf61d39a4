//! Networks of their own for containers: made ahead, one container in each at a time, used again.
//!
//! A network is dearer than a container, so a worker keeps those it has made. Each is a small subnet out of
//! one range; where the engine says that another has it, the next is tried, and after a few the engine chooses.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};

use super::engine::EngineLink;
use super::error::{ContainerError, is_missing};
use super::owner::ContainerOwner;

/// The range of all subnets: 10.213.0.0/16, cut into pieces of sixteen addresses.
const RANGE_FIRST: u32 = 0x0AD5_0000;
const SUBNET_BITS: u32 = 4;
const SUBNETS: u32 = 1 << (16 - SUBNET_BITS);
/// How many subnets are tried before the engine is left to choose.
const SUBNETS_TRIED: u32 = 32;
/// With so many networks none is made ahead any more.
const KNOWN_MAX: usize = 64;
/// How often the removal of a network is tried that somebody seems to be in: two seconds.
const REMOVAL_LOOKS: u32 = 8;
const REMOVAL_LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two looks whether the network that is being made is there.
const MADE_AHEAD_LOOK_EVERY: Duration = Duration::from_millis(50);
/// Things removed at one time.
const REMOVALS_MAX: usize = 8;

/// A worker's networks.
#[derive(Debug, Default)]
pub(super) struct NetworkPool {
    state: Mutex<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    spare: Vec<LeasedNetwork>,
    known: Vec<LeasedNetwork>,
    making_ahead: bool,
    made: u32,
    /// The worker ends: what is made from now on is nobody's.
    is_closed: bool,
}

/// A network that one container has to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeasedNetwork {
    pub(super) id: String,
}

impl NetworkPool {
    /// A network nobody is in. Where none is spare it is made, and one more behind it.
    pub(super) async fn lease(
        self: &NetworkPool,
        link: &EngineLink,
        owner: &Arc<ContainerOwner>,
    ) -> Result<LeasedNetwork, ContainerError> {
        if let Some(spare) = self.lock().spare.pop() {
            return Ok(spare);
        }
        self.make(link, owner).await
    }

    /// Makes one for the next container, if it would have to wait for its network and nobody is at it already.
    pub(super) async fn make_ahead(&self, link: &EngineLink, owner: &Arc<ContainerOwner>) {
        {
            let mut state = self.lock();
            let is_enough = !state.spare.is_empty() || state.known.len() >= KNOWN_MAX;
            if is_enough || state.making_ahead || state.is_closed {
                return;
            }
            state.making_ahead = true;
        }
        let made = self.make(link, owner).await;
        self.lock().making_ahead = false;
        match made {
            Ok(network) => self.give_back(network),
            // The next container makes its own, and fails with these words if it cannot.
            Err(error) => tracing::debug!("no network made ahead: {error}"),
        }
    }

    /// The container that was in it is gone.
    pub(super) fn give_back(&self, network: LeasedNetwork) {
        let mut state = self.lock();
        if state.known.contains(&network) && !state.spare.contains(&network) {
            state.spare.push(network);
        }
    }

    /// It is not to be used again; it is removed when the worker ends.
    pub(super) fn forget(&self, network: &LeasedNetwork) {
        let mut state = self.lock();
        state.known.retain(|known| known != network);
        state.spare.retain(|spare| spare != network);
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.lock().known.iter().any(|known| known.id == id)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Removes all that nobody is in, and makes no more. One that is just being made is waited for.
    pub(super) async fn remove_all(&self, link: &EngineLink) {
        self.lock().is_closed = true;
        while self.lock().making_ahead {
            tokio::time::sleep(MADE_AHEAD_LOOK_EVERY).await;
        }
        let known = {
            let mut state = self.lock();
            state.spare.clear();
            std::mem::take(&mut state.known)
        };
        for_each_of(known, |network| remove_network(link.clone(), network.id)).await;
    }

    async fn make(&self, link: &EngineLink, owner: &ContainerOwner) -> Result<LeasedNetwork, ContainerError> {
        let number = {
            let mut state = self.lock();
            state.made += 1;
            state.made
        };
        // An engine finds a container's network by name in the end, and cannot tell two of one name apart.
        let name = format!("maestro-{}-{number}.{:08x}", owner.worker, rand::random::<u32>());
        let first = first_subnet(owner).wrapping_add(number.wrapping_mul(SUBNETS_TRIED));
        let routes = HostRoutes::read();
        let mut tried = (0..SUBNETS_TRIED).map(|step| subnet(first.wrapping_add(step)));
        loop {
            // With none left the engine takes one of its own.
            let subnet = tried.find(|subnet| !routes.has(*subnet));
            let request = request(&name, owner, subnet);
            match link.working().create_network(request).await {
                Ok(made) => {
                    let network = LeasedNetwork { id: made.id };
                    self.lock().known.push(network.clone());
                    return Ok(network);
                }
                Err(error) if subnet.is_some() && is_taken(&error) => {}
                Err(error) => return Err(ContainerError::of("make a network", error)),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a network; one that is gone is removed.
pub(super) async fn remove_network(link: EngineLink, id: String) -> bool {
    let mut looks = 0;
    loop {
        match link.working().remove_network(&id).await {
            // The engine still takes the last container out of it.
            Err(ApiError::DockerResponseServerError { status_code: 403 | 409, .. })
                if looks < REMOVAL_LOOKS =>
            {
                looks += 1;
                tokio::time::sleep(REMOVAL_LOOK_EVERY).await;
            }
            Err(error) if !is_missing(&error) => {
                tracing::warn!(network = id, "not removed: {error}");
                return false;
            }
            _ => return true,
        }
    }
}

/// Does the same to all of them, some at a time, and says for how many it did its work.
pub(super) async fn for_each_of<T, F>(things: Vec<T>, work: impl Fn(T) -> F) -> usize
where
    F: Future<Output = bool> + Send + 'static,
{
    let (mut works, mut done) = (tokio::task::JoinSet::new(), 0);
    let count = |ended: Option<Result<bool, _>>| usize::from(matches!(ended, Some(Ok(true))));
    for thing in things {
        if works.len() >= REMOVALS_MAX {
            done += count(works.join_next().await);
        }
        works.spawn(work(thing));
    }
    while let ended @ Some(_) = works.join_next().await {
        done += count(ended);
    }
    done
}

fn request(name: &str, owner: &ContainerOwner, subnet: Option<Ipv4Addr>) -> NetworkCreateRequest {
    let config = subnet.map(|subnet| {
        let prefix = 32 - SUBNET_BITS;
        vec![IpamConfig { subnet: Some(format!("{subnet}/{prefix}")), ..IpamConfig::default() }]
    });
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        ipam: config.map(|config| Ipam { config: Some(config), ..Ipam::default() }),
        labels: Some(owner.labels()),
        ..NetworkCreateRequest::default()
    }
}

fn is_taken(error: &bollard::errors::Error) -> bool {
    let text = error.to_string().to_lowercase();
    ["overlap", "already used", "already in use", "conflicts"].iter().any(|word| text.contains(word))
}

/// Where a worker begins, so that two of a host seldom try the same.
fn first_subnet(owner: &ContainerOwner) -> u32 {
    let mut hasher = DefaultHasher::new();
    (&owner.worker, &owner.root, &owner.namespace).hash(&mut hasher);
    hasher.finish() as u32
}

fn subnet(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(RANGE_FIRST + ((number % SUBNETS) << SUBNET_BITS))
}

/// Where this host already sends packets: the engine looks at its own networks alone.
struct HostRoutes(Vec<(u32, u32)>);

impl HostRoutes {
    fn read() -> HostRoutes {
        HostRoutes::parse(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
    }

    fn parse(table: &str) -> HostRoutes {
        let line = |line: &str| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let number = |place: usize| u32::from_str_radix(fields.get(place)?, 16).ok().map(u32::swap_bytes);
            Some((number(1)?, number(7)?))
        };
        // The default route leads everywhere, and says nothing.
        HostRoutes(table.lines().skip(1).filter_map(line).filter(|(_, mask)| *mask != 0).collect())
    }

    fn has(&self, subnet: Ipv4Addr) -> bool {
        let (first, mask) = (u32::from(subnet), u32::MAX << SUBNET_BITS);
        self.0.iter().any(|(network, other)| {
            let both = mask & other;
            first & both == network & both
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_lie_side_by_side_in_one_range() {
        assert_eq!(subnet(0), Ipv4Addr::new(10, 213, 0, 0));
        assert_eq!(subnet(1), Ipv4Addr::new(10, 213, 0, 16));
        assert_eq!(subnet(SUBNETS - 1), Ipv4Addr::new(10, 213, 255, 240));
        assert_eq!(subnet(SUBNETS), subnet(0));
    }

    #[test]
    fn a_subnet_the_host_has_a_route_to_is_left_alone() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\n\
                     tun0\t0000D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        let routes = HostRoutes::parse(table);
        assert_eq!(routes.0.len(), 1, "the default route is none");
        assert!(routes.has(subnet(0)) && routes.has(subnet(15)), "10.213.0.0/24 is taken");
        assert!(!routes.has(subnet(16)));
    }
}
