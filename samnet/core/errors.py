"""The two kinds of failure a command reports: the user's input, and everything else."""


class SamnetError(Exception):
    """A failure that samnet foresaw; the command line prints its message without a stack trace."""

    exit_code = 1


class UserError(SamnetError):
    """Input that cannot be used. The message names the file, the value and the remedy."""

    exit_code = 2


class DatasetFaults(UserError):
    """All faults found in one data set, reported together."""

    def __init__(self, title: str, faults: list[str]) -> None:
        self.faults = faults
        listing = "\n".join(f"  {number}. {fault}" for number, fault in enumerate(faults, 1))
        super().__init__(f"{title}: {len(faults)} fault{'s' if len(faults) > 1 else ''}\n{listing}")
