"""This repository's own test set-up."""

pytest_plugins = ["pytester"]
