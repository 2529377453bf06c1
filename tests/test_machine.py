"""What a process may use of its machine: cores, memory, and how its threads wait."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest

from restorecli.machine import cgroups, cores

GIB = 2**30


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """Make /proc and the folders of cgroups: (lines of cgroup, lines of mountinfo, files)."""

    def made(group, mounts, files):
        proc, root = tmp_path / "proc", tmp_path / "groups"
        proc.mkdir()
        (proc / "cgroup").write_text("\n".join(group) + "\n")
        (proc / "mountinfo").write_text("\n".join(mounts).replace("GROUPS", str(root)) + "\n")
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"{text}\n")
        monkeypatch.setattr(cgroups, "PROC", proc)

    return made


V2 = "31 23 0:28 / GROUPS rw - cgroup2 cgroup2 rw,nsdelegate"
V1 = [
    "32 31 0:29 / GROUPS/cpu rw - cgroup cgroup rw,cpu,cpuacct",
    "33 31 0:30 / GROUPS/memory rw - cgroup cgroup rw,memory",
]


def test_the_limit_of_any_level_counts_in_version_2(groups):
    files = {
        "a/cpu.max": "150000 100000",
        "a/b/cpu.max": "max 100000",
        "a/memory.max": "max",
        "a/memory.current": 5 * GIB,
        "a/b/memory.max": 2 * GIB,
        "a/b/memory.current": GIB,
        "a/b/memory.stat": f"anon 5\nactive_file {GIB // 4}\ninactive_file {GIB // 4}\nfile 7",
    }
    groups(["0::/a/b"], [V2], files)
    assert cgroups.core_limit() == 1.5
    assert cgroups.memory_limit_bytes() == 2 * GIB
    assert cgroups.memory_left_bytes() == 1.5 * GIB  # copies of files make room


def test_version_1_has_a_tree_for_each_controller(groups):
    files = {
        "cpu/x/cpu.cfs_quota_us": 50000,
        "cpu/x/cpu.cfs_period_us": 100000,
        "cpu/cpu.cfs_quota_us": -1,
        "cpu/cpu.cfs_period_us": 100000,
        "memory/y/memory.limit_in_bytes": GIB,
        "memory/y/memory.usage_in_bytes": 2 * GIB,
        "memory/memory.limit_in_bytes": 2**63 - 4096,
        "memory/memory.usage_in_bytes": 5 * GIB,
    }
    groups(["4:memory:/y", "1:cpu,cpuacct:/x", "0::/"], V1, files)
    assert cgroups.core_limit() == 0.5
    assert cgroups.memory_limit_bytes() == GIB
    assert cgroups.memory_left_bytes() == 0


def test_a_container_sees_its_own_group_as_the_root(groups):
    mount = "31 23 0:28 /docker/abc GROUPS rw - cgroup2 cgroup2 rw"
    files = {"cpu.max": "200000 100000", "memory.max": GIB, "memory.current": 0}
    groups(["0::/docker/abc"], [mount], files)
    assert cgroups.core_limit() == 2
    assert cgroups.memory_limit_bytes() == GIB


@pytest.mark.parametrize("mounts", [[], [V2], ["7 1 0:5 / /tmp rw - tmpfs tmpfs rw"]])
def test_nothing_is_limited_where_nothing_says_so(groups, mounts):
    groups(["0::/"], mounts, {})
    assert cgroups.core_limit() == math.inf
    assert cgroups.memory_limit_bytes() == math.inf
    assert cgroups.memory_left_bytes() == math.inf


def test_nothing_is_limited_without_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(cgroups, "PROC", tmp_path / "absent")
    assert cgroups.core_limit() == math.inf


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"),
    [(8, math.inf, 8), (8, 2, 2), (8, 2.5, 3), (2, 4, 2), (2, 0.3, 1)],
)
def test_cores_follow_affinity_and_quota(monkeypatch, affinity, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    monkeypatch.setattr(cores, "core_limit", lambda: quota)
    assert cores.available_cores() == expected


def test_threads_follow_the_quota_unless_the_user_has_said_how_many(monkeypatch):
    monkeypatch.setattr(cores, "available_cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert cores.default_threads(8) == 2
    assert cores.default_threads(1) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert cores.default_threads(8) == 8


@pytest.mark.parametrize(
    ("of_user", "expected"),
    [
        ({}, "passive"),
        ({"OMP_WAIT_POLICY": "active"}, "active"),
        ({"GOMP_SPINCOUNT": "9"}, None),
        ({"KMP_BLOCKTIME": "9"}, None),
    ],
)
def test_the_command_waits_asleep_unless_the_user_has_said_how(of_user, expected):
    code = (
        "import json, os, sys\n"
        "from restorecli import cli\n"
        "sys.argv = ['restore', '--version']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules\n"
        "print(json.dumps(os.environ.get('OMP_WAIT_POLICY')))"
    )
    environment = {k: v for k, v in os.environ.items() if k not in cores.OF_THE_USER} | of_user
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert json.loads(ended.stdout.splitlines()[-1]) == expected


def test_a_command_passes_over_what_only_the_compiler_needs(tmp_path):
    code = (
        "import sys\n"
        "from restorecli import cli\n"
        "sys.argv = ['restore', '--version']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "import torch\n"
        "from restorecli.machine.start import FOR_THE_COMPILER\n"
        "left_out = [n for n in FOR_THE_COMPILER if not hasattr(sys.modules[n], '__file__')]\n"
        "x = torch.nn.functional.gelu(torch.ones(1, 3, 8, 8) @ torch.ones(8, 8))\n"
        "with torch.device('meta'):\n    torch.nn.Conv2d(3, 3, 3)\n"
        "print(len(left_out), float(x.sum()) > 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "2 True"


def test_a_program_that_has_loaded_torch_keeps_all_of_it():
    code = (
        "import torch\n"
        "from restorecli.machine import start\n"
        "start.leave_out_what_compiles()\n"
        "import sys\n"
        "print(all(hasattr(sys.modules[n], '__file__') for n in start.FOR_THE_COMPILER))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "True"
