"""What can be set: mistakes are refused with a sentence that helps, and everything is described.

What comes of values is in test_rendering.py.
"""

import json
import re
import subprocess
import sys
import unittest

import yaml

import chart

# What the chart says itself, or what has a value of its own.
SAID_BY_THE_CHART = {
    "redis_url", "namespace", "workspace_root", "agents_dir", "log_level", "log_format", "max_concurrent",
    "snapshot_dir", "snapshot_interval", "snapshot_retention", "drain_deadline", "metrics_port", "alert_secret",
}


class Values(unittest.TestCase):
    def refusal(self, values):
        with self.assertRaises(Exception) as caught:
            chart.render(values)
        return str(caught.exception)

    def test_a_misspelt_value_is_named_with_its_place(self):
        for values, place, word in [
            ({"workerPool": {}}, "", "workerPool"),
            ({"redis": {"enable": False}}, "/redis", "enable"),
            ({"workerPools": {"default": {"replica": 3}}}, "/workerPools/default", "replica"),
            ({"workerDefaults": {"autoscaling": {"maximum": 3}}}, "/workerDefaults/autoscaling", "maximum"),
            ({"settings": {"leese": "60s"}}, "/settings", "leese"),
        ]:
            said = self.refusal(values)
            self.assertIn(f"'{word}' not allowed", said)
            self.assertIn(f"at '{place}'", said)

    def test_a_wrong_type_or_word_says_what_was_expected(self):
        for values, words in [
            ({"coordinators": {"replicas": "two"}}, ["/coordinators/replicas", "got string, want integer"]),
            ({"redis": {"enabled": "yes"}}, ["/redis/enabled", "got string, want boolean"]),
            ({"logLevel": "LOUD"}, ["/logLevel", "'DEBUG', 'INFO', 'WARN', 'ERROR'"]),
            ({"workerPools": {"default": {"isolation": {"mode": "podman"}}}}, ["isolation/mode", "'none', 'dind', 'hostSocket'"]),
            ({"workerPools": {"default": {"terminationGracePeriodSeconds": 30}}}, ["terminationGracePeriodSeconds", "got 30, want 35"]),
            ({"monitor": {"interval": "soon"}}, ["/monitor/interval", "soon"]),
        ]:
            said = self.refusal(values)
            for word in words:
                self.assertIn(word, said)

    def test_no_worker_at_all_needs_keda(self):
        for scaling in [{"type": "hpa", "min": 0}, {"type": "none", "min": 0}, {"min": 0}]:
            said = self.refusal({"workerPools": {"default": {"autoscaling": scaling}}})
            self.assertIn("/workerPools/default/autoscaling/min", said)
            self.assertIn("got 0, want 1", said)
        said = self.refusal({"workerDefaults": {"autoscaling": {"type": "hpa"}}, "workerPools": {"x": {"autoscaling": {"min": 0}}}})
        self.assertIn("got 0, want 1", said)
        inherited = {"workerDefaults": {"agents": ["shell"], "autoscaling": {"type": "keda"}}, "workerPools": {"x": {"autoscaling": {"min": 0}}}}
        self.assertTrue(chart.objects(inherited))

    def test_what_a_schema_cannot_say_is_said_by_the_templates(self):
        keda = {"type": "keda", "min": 0}
        for values, sentence in [
            ({"redis": {"enabled": False}}, "nothing says where Redis is: set externalRedis.existingSecret"),
            ({"workerPools": {"a": {"autoscaling": keda}}}, "set autoscaling.agents (or agents) to the types whose demand counts"),
            ({"workerPools": {"a": {"autoscaling": {**keda, "keda": {"trigger": "prometheus"}}}}}, "the trigger prometheus needs serverAddress"),
            ({"workerPools": {"a": {"autoscaling": {"type": "hpa", "min": 5, "max": 2}}}}, "min 5 is more than max 2"),
            ({"workerPools": {"a": {"persistence": {"enabled": True}, "isolation": {"mode": "hostSocket"}}}}, "exclude each other"),
            ({"settings": {"grace_period": "25s"}}, "expected at most 20 (seconds)"),
            ({"settings": {"grace_period": "1m"}}, "expected at most 20 (seconds)"),
            ({"fullnameOverride": "x" * 40, "workerPools": {"a": {}}}, "expected at most"),
        ]:
            self.assertIn(sentence, self.refusal(values))

    def test_the_schema_knows_every_value_and_no_other(self):
        schema = json.loads((chart.CHART / "values.schema.json").read_text())
        values = yaml.safe_load((chart.CHART / "values.yaml").read_text())

        def compare(known, there, place):
            known = schema["$defs"][known["$ref"].rsplit("/", 1)[1]] if "$ref" in known else known
            if isinstance(there, dict) and known.get("additionalProperties") is False and there:
                # What a pool's image says is laid over the common one; a claim of resources is rarely made.
                extra = set(known["properties"]) - set(there) - {"global", "limits", "requests", "claims"}
                self.assertEqual(extra, set(), f"{place}: in the schema and not in values.yaml")
                for key, value in there.items():
                    self.assertIn(key, known["properties"], place)
                    compare(known["properties"][key], value, f"{place}.{key}")

        compare(schema, values, "")

    def test_settings_are_those_of_the_binary(self):
        table = (chart.TOP / "cli" / "config" / "variables.rs").read_text()
        keys = set(re.findall(r'"MAESTRO_[A-Z_]+" "([a-z_]+)"', table))
        schema = json.loads((chart.CHART / "values.schema.json").read_text())
        self.assertEqual(set(schema["properties"]["settings"]["properties"]), keys - SAID_BY_THE_CHART)

    def test_the_readme_has_the_table_of_the_values(self):
        script = chart.TOP / "scripts" / "chart-readme.py"
        done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_chart_and_binary_have_the_same_version(self):
        about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
        cargo = (chart.TOP / "Cargo.toml").read_text()
        version = re.search(r'(?m)^version = "([^"]+)"', cargo).group(1)
        self.assertEqual((about["version"], about["appVersion"]), (version, version))
        self.assertIn(f"ARG VERSION={version}\n", (chart.TOP / "Dockerfile").read_text())


if __name__ == "__main__":
    unittest.main()
