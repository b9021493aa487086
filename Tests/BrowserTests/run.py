"""Runs all browser and library tests, a few groups at a time: they mostly wait. Each group has its own servers."""

import concurrent.futures
import subprocess
import sys

GROUPS = [
    ["test_page.Outages"],
    ["test_page.Networks"],
    ["test_page.Tabs", "test_page.Workers", "test_page.Embedded", "test_page.Clocks", "test_page.Bids", "test_page.Phone"],
    ["test_style", "test_library"],
    # Measures processor time, so it runs alone, at the end.
    ["test_page.Weight"],
]


def run(group):
    command = [sys.executable, "-m", "unittest", "-v", *group]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(f"==> {' '.join(group)}\n{result.stdout}", flush=True)
    return result.returncode == 0


with concurrent.futures.ThreadPoolExecutor(2) as pool:
    passed = list(pool.map(run, GROUPS[:-1]))
passed.append(run(GROUPS[-1]))
sys.exit(0 if all(passed) else 1)
