"""The packages of samnet. All else is in pyproject.toml, which cannot say that one lies elsewhere."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["samnet", "samnet.*"]), "samnet.plans"],
    package_dir={"samnet.plans": "plans"},
)
