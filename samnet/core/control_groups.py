"""The limits that Linux control groups set: those of containers, and of most clusters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class ControlGroups:
    """The control groups of this process, and those that contain them; versions 1 and 2.

    Attributes:
        root: The file system of the control groups.
        own: The file that names those of this process.
    """

    root: Path = Path("/sys/fs/cgroup")
    own: Path = Path("/proc/self/cgroup")

    def memory_limits(self) -> Iterator[float]:
        """Yield every limit of the main memory.

        Yields:
            A size in GiB.
        """
        for folder in self._folders("memory"):
            for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
                limit = whole_number(_read(folder / name))
                if limit:
                    yield limit / 2**30

    def core_limits(self) -> Iterator[float]:
        """Yield every limit of the processor time.

        Yields:
            A number of CPU cores, such as 1.5.
        """
        for folder in self._folders("cpu"):
            quota, _, period = _read(folder / "cpu.max").partition(" ")
            if not quota:
                quota = _read(folder / "cpu.cfs_quota_us")
                period = _read(folder / "cpu.cfs_period_us")
            if whole_number(quota) and whole_number(period):
                yield int(quota) / int(period)

    def _folders(self, controller: str) -> Iterator[Path]:
        """Yield the folders with a controller's limits, from this process's group up to the root.

        In a container the path may be that of the host, of which only the root is seen.
        """
        for line in _read(self.own).splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            mounts: tuple[Path, ...] = ()
            if number == "0" and not controllers:  # version 2, next to version 1 in `unified`
                mounts = (self.root, self.root / "unified")
            elif controller in controllers.split(","):
                # Version 1 often has `cpu` as a link to `cpu,cpuacct`, though not always.
                mounts = tuple(self.root / name for name in {controller, controllers})
            group = PurePosixPath("/") / path
            for mount in mounts:
                for folder in (group, *group.parents):
                    yield mount / folder.relative_to("/")


def whole_number(text: str) -> int:
    """Read a whole number that the system writes.

    Args:
        text: The text.

    Returns:
        The number; 0, which means no limit, for any other text, such as `max` or `-1`.
    """
    return int(text) if text.isdecimal() else 0


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:  # not there, as on other operating systems
        return ""
