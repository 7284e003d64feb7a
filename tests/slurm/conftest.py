"""A real SLURM of one node on this machine while the tests run. Only root can start it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders.tiny import tiny_backbone
from builders.waiting import becomes_true

__all__ = ["tiny_backbone"]

CONFIGURATION = """
ClusterName=local
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
KillWait=2
SchedulerParameters=sched_interval=5,bf_interval=5
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=debug Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running SLURM. The commands find it by `SLURM_CONF`."""
    if os.environ.get("SAMNET_SLURM") != "1":
        pytest.skip("starts a SLURM, which takes minutes; SAMNET_SLURM=1 runs this test")
    programs = ("slurmctld", "slurmd", "sbatch", "munged")
    if os.geteuid() != 0 or not all(shutil.which(program) for program in programs):
        pytest.skip("needs root and Debian's packages slurmctld, slurmd, slurm-client, munge")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("run", "log", "state", "spool"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, cpus=os.cpu_count()))
    started = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        if not Path("/run/munge/munge.socket.2").exists():
            subprocess.run(
                ["install", "-d", "-o", "munge", "-g", "munge", "-m", "0755", "/run/munge"],
                check=True,
            )
            subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=True)
            started.append(Path("/run/munge/munged.pid"))
        subprocess.run(["slurmctld"], check=True)
        subprocess.run(["slurmd", "-N", "localhost"], check=True)
        started += [folder / "run" / "slurmd.pid", folder / "run" / "slurmctld.pid"]
        try:
            assert becomes_true(lambda: "idle" in _answer("sinfo", "-h", "-o", "%T"), 90), (
                "SLURM does not start"
            )
            yield folder
        finally:
            subprocess.run(["scancel", "--user=root"], check=False)
            for file in reversed(started):
                if file.is_file():
                    os.kill(int(file.read_text()), signal.SIGTERM)


def _answer(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout
