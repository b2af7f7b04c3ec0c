"""Run by the peers' interpreter: what denet's own readers find in the files that are named, one object a line."""

import json
import sys

import denet

FIELDS = ("cpu_usage", "mem_rss_kb")


def read(path):
    samples = denet.load_metrics(path)
    return {
        "count": len(samples),
        "with_metadata": len(denet.load_metrics(path, include_metadata=True)),
        "summary": json.loads(denet.generate_summary_from_file(path)),
        "peaks": {
            field: [one["ts_ms"] for one in denet.find_peaks(samples, field=field)] for field in FIELDS
        },
        "windows": len(denet.aggregate_metrics(samples, window_size=4, method="max")),
        "highest": [
            one.get("mem_rss_kb") for one in denet.aggregate_metrics(samples, window_size=4, method="max")
        ],
        "used": denet.resource_utilization(samples),
        "tree": sorted(map(int, denet.process_tree_analysis(samples).get("child_processes", {}))),
    }


for path in sys.argv[1:]:
    print(json.dumps(read(path)))
