"""Which image files and masks belong to which case, by the names of files and folders."""

from samnet.dataset.pairing.candidates import CaseFiles, Pairing
from samnet.dataset.pairing.pairing import pair_files

__all__ = ["CaseFiles", "Pairing", "pair_files"]
