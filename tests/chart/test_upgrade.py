"""A generated password is kept by upgrades: rendered against an API of Kubernetes that knows nothing but a Secret.

What else an upgrade does to a cluster that runs is in losing.rs.
"""

import base64
import http.server
import json
import threading
import unittest

import helm_python
import yaml

import chart

PASSWORD = "the-one-in-force"
SECRET = f"/api/v1/namespaces/{chart.NAMESPACE}/secrets/demo-maestro-redis"


class Api(http.server.BaseHTTPRequestHandler):
    """As much of the API as `lookup` asks for."""

    answers = {
        "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
        "/api/v1": {
            "kind": "APIResourceList",
            "groupVersion": "v1",
            "resources": [{"name": "secrets", "singularName": "secret", "namespaced": True, "kind": "Secret", "verbs": ["get"]}],
        },
    }
    secret = None

    def do_GET(self):
        path = self.path.split("?")[0]
        answer = Api.secret if path == SECRET else Api.answers.get(path)
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(answer or missing).encode()
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Upgrade(unittest.TestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def password(self, values):
        """The password that an upgrade would store."""
        address = f"http://127.0.0.1:{self.server.server_address[1]}"
        cluster = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": address}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        with helm_python.Config(kubeconfig_content=yaml.safe_dump(cluster), namespace=chart.NAMESPACE) as config:
            with helm_python.Chart.load(str(chart.CHART)) as loaded:
                texts = config.render(loaded, values, name=chart.RELEASE, namespace=chart.NAMESPACE, is_upgrade=True)
        (secret,) = [one for one in yaml.safe_load_all(texts["maestro/templates/redis.yaml"]) if one["kind"] == "Secret"]
        return base64.b64decode(secret["data"]["password"]).decode()

    def test_a_generated_password_is_made_once_and_kept(self):
        Api.secret = None
        first, second = self.password({}), self.password({})
        self.assertEqual((len(first), first == second), (32, False), "nothing is there yet: each is a new one")
        data = {"password": base64.b64encode(PASSWORD.encode()).decode()}
        Api.secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo-maestro-redis"}, "data": data}
        self.assertEqual(self.password({}), PASSWORD)
        given = {"redis": {"auth": {"password": "given"}}}
        self.assertEqual(self.password(given), "given", "one that is given counts")


if __name__ == "__main__":
    unittest.main()
