"""The errors whose messages a command prints without a stack trace, and their exit codes."""


class SamnetError(Exception):
    """A failure that samnet foresaw; the command line prints its message without a stack trace.

    Attributes:
        exit_code: Exit code of a command that ends with this error.
    """

    exit_code = 1


class PredictionWarning(UserWarning):
    """A test image that is unlike the training images, or a prediction that is empty or full."""


class UserError(SamnetError):
    """Input that cannot be used. The message names the file, the value and the remedy.

    Attributes:
        exit_code: Exit code of a command that ends with this error.
    """

    exit_code = 2


class DatasetFaults(UserError):
    """All faults found in one data set, reported together.

    Attributes:
        title: What the faults were found in; the message begins with it.
        faults: One text for each fault.
    """

    def __init__(self, title: str, faults: list[str]) -> None:
        """Collect the faults.

        Args:
            title: What the faults were found in; the message begins with it.
            faults: One text for each fault.
        """
        # The arguments are passed on unchanged because unpickling, in another process, calls
        # the constructor with them.
        super().__init__(title, faults)
        self.title = title
        self.faults = faults

    def __str__(self) -> str:
        noun = "faults" if len(self.faults) > 1 else "fault"
        listing = "\n".join(f"  {number}. {fault}" for number, fault in enumerate(self.faults, 1))
        return f"{self.title}: {len(self.faults)} {noun}\n{listing}"
