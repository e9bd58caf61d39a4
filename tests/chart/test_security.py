"""What a pod may do: the restricted Pod Security Standard by rule, and what nobody gets.

The rules are those of the standard as Kubernetes documents it, each named as there.
"""

import unittest

import chart

HARMLESS_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}
# Isolation that asks for more, and says so in NOTES and in docs/kubernetes.md.
PRICED = {"dind", "dind_volumes", "host_socket", "everything_on"}


def breaches(spec):
    """What the restricted standard has against a pod."""
    found = []
    pod = spec.get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            found.append(f"Host Namespaces: {name}")
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= HARMLESS_VOLUMES:
            found.append(f"Volume Types: {volume['name']} is {kinds}")
    for container in spec["containers"] + spec.get("initContainers", []) + spec.get("ephemeralContainers", []):
        name, own = container["name"], container.get("securityContext", {})
        capabilities = own.get("capabilities", {})
        if own.get("privileged"):
            found.append(f"Privileged Containers: {name}")
        if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            found.append(f"Capabilities: {name}")
        if own.get("allowPrivilegeEscalation") is not False:
            found.append(f"Privilege Escalation: {name}")
        if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
            found.append(f"Running as Non-root: {name}")
        if own.get("runAsUser", pod.get("runAsUser")) == 0:
            found.append(f"Running as Non-root user: {name}")
        seccomp = own.get("seccompProfile", pod.get("seccompProfile", {})).get("type")
        if seccomp not in ("RuntimeDefault", "Localhost"):
            found.append(f"Seccomp: {name}")
        if own.get("procMount", "Default") != "Default":
            found.append(f"/proc Mount Type: {name}")
        if any(port.get("hostPort") for port in container.get("ports", [])):
            found.append(f"Host Ports: {name}")
    return found


class Security(unittest.TestCase):
    def test_the_restricted_standard_holds_unless_an_isolation_asks_for_more(self):
        checked = 0
        for path in chart.VALUE_SETS:
            if path.stem in PRICED:
                continue
            for owner, _, spec in chart.pod_specs(chart.objects_of(path)):
                checked += 1
                self.assertEqual(breaches(spec), [], f"{path.stem}: {chart.title(owner)}")
        self.assertGreater(checked, 40)

    def test_the_rules_find_what_an_engine_asks_for(self):
        found = chart.objects_of(chart.TOP / "tests/chart/value_sets/dind.yaml")
        (spec,) = [spec for _, _, spec in chart.pod_specs(found) if "initContainers" in spec]
        self.assertIn("Privileged Containers: engine", breaches(spec))
        self.assertFalse([one for one in breaches(spec) if one.endswith(": worker")], "the worker stays as it is")
        found = chart.objects_of(chart.TOP / "tests/chart/value_sets/host_socket.yaml")
        (spec,) = [spec for _, _, spec in chart.pod_specs(found) if "initContainers" in spec]
        self.assertIn("Volume Types: engine-socket is {'hostPath'}", breaches(spec))

    def test_all_but_engines_have_a_root_that_cannot_be_written(self):
        for path in chart.VALUE_SETS:
            for owner, _, spec in chart.pod_specs(chart.objects_of(path)):
                for container in spec["containers"]:
                    if container["name"] != "logs":
                        context = container["securityContext"]
                        self.assertIs(context["readOnlyRootFilesystem"], True, chart.title(owner))

    def test_nobody_has_a_token_or_a_right(self):
        for path in chart.VALUE_SETS:
            found = chart.objects_of(path)
            kinds = {one["kind"] for one in found}
            self.assertFalse(kinds & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}, path.stem)
            for one in found:
                if one["kind"] == "ServiceAccount":
                    self.assertIs(one["automountServiceAccountToken"], False)
            for owner, _, spec in chart.pod_specs(found):
                self.assertIs(spec["automountServiceAccountToken"], False, chart.title(owner))

    def test_a_password_is_in_a_secret_and_nowhere_else(self):
        found = chart.objects({"redis": {"auth": {"password": "correct-horse"}}})
        holders = [chart.title(one) for one in found if "correct-horse" in str(one) or "Y29ycmVjdC1ob3JzZQ" in str(one)]
        self.assertEqual(holders, ["Secret/demo-maestro-redis"])

    def test_redis_hears_this_release_alone(self):
        found = chart.objects({})
        (policy,) = [one for one in found if chart.title(one) == "NetworkPolicy/demo-maestro-redis"]
        (rule,) = policy["spec"]["ingress"]
        allowed = rule["from"][0]["podSelector"]
        self.assertEqual(allowed["matchLabels"], {"app.kubernetes.io/instance": "demo"})
        roles = set(allowed["matchExpressions"][0]["values"])
        speaking = {
            metadata["labels"]["app.kubernetes.io/component"]
            for _, metadata, spec in chart.pod_specs(found)
            if "MAESTRO_REDIS_URL" in str(spec)
        }
        self.assertLessEqual(speaking, roles)
        self.assertNotIn("redis", roles)


if __name__ == "__main__":
    unittest.main()
