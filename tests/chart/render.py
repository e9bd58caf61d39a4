"""Prints what the chart makes of the values on standard input, as a JSON list of objects: for programs that start it."""

import json
import sys

import yaml

import chart

json.dump(chart.objects(yaml.safe_load(sys.stdin) or {}), sys.stdout)
