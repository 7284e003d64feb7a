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
        super().__init__(
            title, faults
        )  # as they came in: an error is rebuilt from them in another process
        self.title = title
        self.faults = faults

    def __str__(self) -> str:
        listing = "\n".join(f"  {number}. {fault}" for number, fault in enumerate(self.faults, 1))
        return f"{self.title}: {len(self.faults)} fault{'s' if len(self.faults) > 1 else ''}\n{listing}"
