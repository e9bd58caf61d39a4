"""What the chart makes is valid, points at things that exist, and is what it was.

Whether it is safe is in test_security.py, what is refused in test_values.py.
"""

import difflib
import functools
import json
import os
import unittest

import helm_python
import kubernetes_validate
import yaml
from kubernetes_validate import utils as schemas

import chart

OLDEST = (1, 29)
SNAPSHOT = chart.TOP / "tests" / "chart" / "default.yaml"
# Kinds of others, whose schemas Kubernetes does not have.
FOREIGN = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}

# Each schema is a file of its own that is read again for every object otherwise: minutes instead of seconds.
schemas.schema_contents = functools.cache(schemas.schema_contents)


def versions():
    known = kubernetes_validate.utils.all_versions()
    return sorted({v for v in known if tuple(map(int, v.split(".")[:2])) >= OLDEST})


class Rendering(unittest.TestCase):
    def test_lint_has_no_warnings(self):
        found = helm_python.lint(str(chart.CHART))
        # 1 is information: an icon is recommended, and there is none.
        self.assertEqual([one for one in found["messages"] if one["severity"] > 1], [])
        self.assertEqual(found["errors"], [])

    def test_there_are_enough_value_sets(self):
        self.assertGreaterEqual(len(chart.VALUE_SETS), 12)

    def test_every_object_is_valid_for_every_kubernetes(self):
        self.assertIn("1.29.0", versions())
        checked = set()
        for path in chart.VALUE_SETS:
            for one in chart.objects_of(path):
                text = json.dumps(one, sort_keys=True)
                if one["kind"] in FOREIGN or text in checked:
                    continue
                checked.add(text)
                for version in versions():
                    with self.subTest(values=path.stem, object=chart.title(one), version=version):
                        kubernetes_validate.validate(one, version, strict=True)
        self.assertGreater(len(checked), 50)

    def test_no_name_is_given_twice(self):
        for path in chart.VALUE_SETS:
            titles = [chart.title(one) for one in chart.objects_of(path)]
            self.assertEqual(len(titles), len(set(titles)), path.stem)

    def test_the_default_rendering_is_as_recorded(self):
        text = chart.default_text()
        if os.environ.get("MAESTRO_UPDATE_SNAPSHOTS"):
            SNAPSHOT.write_text(text)
        known = SNAPSHOT.read_text()
        lines = difflib.unified_diff(known.splitlines(), text.splitlines(), "recorded", "rendered", lineterm="")
        self.assertEqual(known, text, "\n".join(lines) + "\nMAESTRO_UPDATE_SNAPSHOTS=1 records it anew")

    def test_notes_give_three_commands_and_the_warnings(self):
        notes = chart.render({})["NOTES.txt"]
        self.assertEqual([notes.count(f"\n  {number}. ") for number in (1, 2, 3, 4)], [1, 1, 1, 0])
        self.assertNotIn("WARNING", notes)
        lost = chart.render({"workerPools": {"default": {"assignedAgents": ["reviewer"]}}})["NOTES.txt"]
        self.assertIn("WARNING: agents are assigned to workers of pool `default` (reviewer), which has no volumes", lost)
        kept = {"assignedAgents": ["reviewer"], "persistence": {"enabled": True}}
        kept = chart.render({"workerPools": {"default": kept}})["NOTES.txt"]
        self.assertNotIn("WARNING", kept)
        self.assertIn("--worker demo-maestro-worker-default-0", kept)


class Wiring(unittest.TestCase):
    def each(self):
        for path in chart.VALUE_SETS:
            yield path.stem, chart.objects_of(path)

    def test_secrets_config_maps_and_accounts_exist_or_are_the_users(self):
        theirs = {
            "maestro-redis-url", "redis-ca", "redis-client", "redis-password", "alerts", "models", "backups",
            "agents-with-a-cloud-identity", "default",
        }
        for _, found in self.each():
            there = {one["metadata"]["name"] for one in found} | theirs
            for owner, _, spec in chart.pod_specs(found):
                names = [spec.get("serviceAccountName", "default")]
                for volume in spec.get("volumes", []):
                    names.append(volume.get("secret", {}).get("secretName"))
                    names.append(volume.get("configMap", {}).get("name"))
                    names.append(volume.get("persistentVolumeClaim", {}).get("claimName"))
                for container in spec["containers"]:
                    for variable in container.get("env", []):
                        source = variable.get("valueFrom", {})
                        names.append(source.get("secretKeyRef", {}).get("name"))
                missing = {name for name in names if name} - there
                self.assertEqual(missing, set(), chart.title(owner))

    def test_every_mount_has_its_volume_and_every_variable_its_value(self):
        for _, found in self.each():
            for owner, _, spec in chart.pod_specs(found):
                claims = owner["spec"].get("volumeClaimTemplates", []) if owner["kind"] == "StatefulSet" else []
                volumes = {one["name"] for one in spec.get("volumes", [])}
                volumes |= {one["metadata"]["name"] for one in claims}
                for container in spec["containers"] + spec.get("initContainers", []):
                    mounts = {one["name"] for one in container.get("volumeMounts", [])}
                    self.assertLessEqual(mounts, volumes, chart.title(owner))
                    known = set()
                    for variable in container.get("env", []):
                        self.assertNotIn(variable["name"], known, "twice")
                        # Kubernetes puts in what stands above, and leaves the rest as it is written.
                        for word in variable.get("value", "").split("$(")[1:]:
                            self.assertIn(word.split(")")[0], known, variable["name"])
                        known.add(variable["name"])
                    for word in container.get("args", []):
                        for name in word.split("$(")[1:]:
                            self.assertIn(name.split(")")[0], known, word)

    def test_selectors_select_the_pods_they_mean(self):
        for _, found in self.each():
            pods = [metadata.get("labels", {}) for _, metadata, _ in chart.pod_specs(found)]

            def selected(selector):
                return [labels for labels in pods if selector.items() <= labels.items()]

            for one in found:
                kind, spec = one["kind"], one.get("spec", {})
                if kind in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
                    self.assertEqual(len(selected(spec["selector"]["matchLabels"])), 1, chart.title(one))
                elif kind == "Service":
                    self.assertGreaterEqual(len(selected(spec["selector"])), 1, chart.title(one))
                elif kind == "NetworkPolicy":
                    workers = one["metadata"]["name"].endswith("-worker")
                    least = 0 if workers else 1
                    self.assertGreaterEqual(len(selected(spec["podSelector"]["matchLabels"])), least)

    def test_scalers_scale_what_is_there_and_nothing_else_sets_its_size(self):
        scalers = 0
        for _, found in self.each():
            sized = {chart.title(one) for one in found if "replicas" in one.get("spec", {})}
            there = {chart.title(one) for one in found}
            for one in found:
                if one["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
                    scalers += 1
                    target = one["spec"]["scaleTargetRef"]
                    target = f"{target['kind']}/{target['name']}"
                    self.assertIn(target, there)
                    self.assertNotIn(target, sized, "replicas and a scaler would fight over it")
        self.assertGreaterEqual(scalers, 5)

    def test_keda_adds_up_the_demand_of_all_agent_types(self):
        found = chart.objects_of(chart.TOP / "tests/chart/value_sets/keda.yaml")
        (scaled,) = [one["spec"] for one in found if one["kind"] == "ScaledObject"]
        self.assertEqual(scaled["minReplicaCount"], 0)
        self.assertEqual(scaled["advanced"]["scalingModifiers"]["formula"], "demand_0 + demand_1")
        self.assertEqual([one["name"] for one in scaled["triggers"]], ["demand_0", "demand_1"])
        read = scaled["triggers"][0]["metadata"]
        self.assertEqual(read["url"], "http://demo-maestro-coordinator.agents.svc:9090/metrics")
        self.assertEqual(read["valueLocation"], 'maestro_queue_demand{agent="shell"}')

    def test_alert_rules_and_dashboard_are_those_of_the_files(self):
        found = {chart.title(one): one for one in chart.objects_of(chart.TOP / "tests/chart/value_sets/everything_on.yaml")}
        rules = yaml.safe_load((chart.CHART / "files" / "alerts.yaml").read_text())
        rendered = found["PrometheusRule/demo-agents"]
        self.assertEqual(rendered["spec"], rules)
        self.assertEqual(rendered["metadata"]["labels"]["release"], "prometheus")
        dashboard = json.loads((chart.CHART / "files" / "dashboard.json").read_text())
        self.assertEqual(json.loads(found["ConfigMap/demo-agents-dashboard"]["data"]["maestro.json"]), dashboard)

    def test_a_worker_drains_until_half_a_minute_before_its_grace_period_ends(self):
        seen = 0
        for _, found in self.each():
            for owner, _, spec in chart.pod_specs(found):
                container = spec["containers"][0]
                if container["name"] != "worker":
                    continue
                seen += 1
                env = {one["name"]: one.get("value") for one in container["env"]}
                deadline = f"{spec['terminationGracePeriodSeconds'] - 30}s"
                self.assertEqual(env["MAESTRO_DRAIN_DEADLINE"], deadline, chart.title(owner))
                hook = container["lifecycle"]["preStop"]["exec"]["command"]
                self.assertEqual(hook, ["maestro", "worker", "drain", "--this-host", "--deadline", deadline])
        self.assertGreaterEqual(seen, 12)

    def test_probes_ask_the_loop_of_every_daemon(self):
        for _, found in self.each():
            for owner, _, spec in chart.pod_specs(found):
                container = spec["containers"][0]
                if container["name"] not in ("coordinator", "worker", "monitor"):
                    continue
                asked = [container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
                self.assertEqual(asked, ["/healthz", "/healthz", "/readyz"], chart.title(owner))
                self.assertEqual([one["name"] for one in container["ports"]], ["metrics"])

    def test_what_a_pool_switches_off_is_off(self):
        values = {
            "workerDefaults": {"podDisruptionBudget": {"enabled": True}, "agents": ["shell"]},
            "workerPools": {"default": {"podDisruptionBudget": {"enabled": False}, "agents": [], "replicas": 0}},
        }
        found = chart.objects(values)
        budgets = [one for one in found if one["kind"] == "PodDisruptionBudget"]
        self.assertEqual([chart.title(one) for one in budgets], ["PodDisruptionBudget/demo-maestro-coordinator"])
        (worker,) = [one for one in found if chart.title(one) == "Deployment/demo-maestro-worker-default"]
        self.assertEqual(worker["spec"]["replicas"], 0)
        self.assertNotIn("--agents", worker["spec"]["template"]["spec"]["containers"][0]["args"])


if __name__ == "__main__":
    unittest.main()
