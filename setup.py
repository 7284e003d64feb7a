"""The packages of samnet; pyproject.toml, which has all else, cannot map one to another folder."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["samnet", "samnet.*"]), "samnet.plans"],
    package_dir={"samnet.plans": "plans"},
)
