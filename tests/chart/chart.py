"""The chart as the real Helm library renders it, for the checks of this folder.

Nothing is checked here. A release that exists (whose password `lookup` would find) cannot be shown without a cluster.
"""

import functools
import pathlib
import re

import helm_python
import yaml

TOP = pathlib.Path(__file__).resolve().parents[2]
CHART = TOP / "charts" / "maestro"
VALUE_SETS = sorted((TOP / "tests" / "chart" / "value_sets").glob("*.yaml"))
RELEASE, NAMESPACE = "demo", "agents"


@functools.cache
def _chart():
    return helm_python.Chart.load(str(CHART))


def render(values):
    """Texts of all templates by their file's name."""
    texts = _chart().render(values, name=RELEASE, namespace=NAMESPACE)
    return {name.removeprefix("maestro/templates/"): text for name, text in texts.items()}


def objects(values):
    """All objects of a rendering, in the order of their files."""
    texts = render(values)
    found = []
    for name in sorted(texts):
        if name.endswith(".yaml"):
            found += [one for one in yaml.safe_load_all(texts[name]) if one]
    return found


def value_set(path):
    return yaml.safe_load(path.read_text()) or {}


@functools.cache
def objects_of(path):
    return objects(value_set(path))


def pod_specs(found):
    """Each pod that objects make, as (object, metadata of the pod, its spec)."""
    for one in found:
        kind, spec = one["kind"], one.get("spec", {})
        if kind in ("Deployment", "StatefulSet", "Job"):
            yield one, spec["template"]["metadata"], spec["template"]["spec"]
        elif kind == "CronJob":
            template = spec["jobTemplate"]["spec"]["template"]
            yield one, template["metadata"], template["spec"]
        elif kind == "Pod":
            yield one, one["metadata"], spec


def title(one):
    return f"{one['kind']}/{one['metadata']['name']}"


def default_text():
    """The default rendering as one text; what is random in it is not."""
    texts = render({})
    parts = []
    for name in sorted(texts):
        text = re.sub(r"(?m)^  password: \S+$", "  password: RANDOM", texts[name])
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        if lines:
            parts.append("\n".join([f"# {name}", *lines]))
    return "\n---\n".join(parts) + "\n"
