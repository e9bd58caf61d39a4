//! The keys of an agent file that concern containers alone: network and capabilities.

use crate::yaml::{Fields, Marked, YamlReader};

/// Longest name of a capability, letters.
const CAPABILITY_LETTERS_MAX: usize = 40;

/// Capabilities a container keeps, in capitals and without `CAP_`.
pub(super) fn read_capabilities(reader: &mut YamlReader<'_>, fields: &Fields<'_>) -> Vec<String> {
    let names = fields.get("cap_add").map(|node| reader.texts("cap_add", node)).unwrap_or_default();
    let mut lawful = Vec::new();
    for Marked { value, place } in names {
        let name = value.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name).to_owned();
        let is_name = !name.is_empty()
            && name.len() <= CAPABILITY_LETTERS_MAX
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        if name == "ALL" {
            let problem = reader.source.error(place, "`cap_add` is `ALL`, which would undo the isolation");
            reader
                .problems
                .push(problem.expecting("the capabilities that are needed, such as `NET_BIND_SERVICE`"));
        } else if is_name {
            lawful.push(name);
        } else {
            let problem = reader.source.error(place, format!("`{value}` is not the name of a capability"));
            reader.problems.push(problem.expecting("a name such as `NET_BIND_SERVICE`"));
        }
    }
    lawful
}

/// A container has the host's network or none, not both.
pub(super) fn check_network(reader: &mut YamlReader<'_>, fields: &Fields<'_>, shared_network: bool) {
    if let Some(entry) = fields.entry("network").filter(|_| shared_network) {
        let place = entry.key_place.clone();
        reader.refuse(place, "`network` is given, but `shared_network: true` means the host's network");
    }
}

#[cfg(test)]
mod tests {
    use crate::agent_file::parse_agent_file;
    use crate::agent_type::{NetworkChoice, PullPolicy};
    use crate::diagnostic::SourceText;

    fn parse(keys: &str) -> Result<crate::agent_type::AgentType, String> {
        let text = format!("command: [sh]\nisolate_with: docker\nimage: tools\n{keys}");
        let parsed = parse_agent_file(SourceText::new("agents.d/tool.yaml", &text));
        parsed.map(|parsed| parsed.agent).map_err(|problems| format!("{problems:?}"))
    }

    #[test]
    fn a_container_can_be_given_less_or_more_than_usual() {
        let plain = parse("").expect("lawful");
        assert_eq!(
            (plain.network, plain.pull, plain.read_only),
            (NetworkChoice::Own, PullPolicy::Missing, false)
        );
        let agent = parse("network: none\npull: never\nread_only: true\ncap_add: [cap_chown, NET_RAW]")
            .expect("lawful");
        assert_eq!(
            (agent.network, agent.pull, agent.read_only),
            (NetworkChoice::None, PullPolicy::Never, true)
        );
        assert_eq!(agent.cap_add, ["CHOWN", "NET_RAW"]);
    }

    #[test]
    fn what_would_undo_the_isolation_is_refused() {
        for (keys, words) in [
            ("cap_add: [ALL]", "would undo the isolation"),
            ("cap_add: ['NET RAW']", "is not the name of a capability"),
            ("network: none\nshared_network: true", "means the host's network"),
            ("network: bridge", "network"),
        ] {
            let refused = parse(keys).expect_err(keys);
            assert!(refused.contains(words), "{keys}: {refused}");
        }
    }
}
